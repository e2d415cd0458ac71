"""For all tests: where the whole suite is required, a skipped test is a failed one."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

REQUIRE_ALL = bool(os.environ.get("CI") or os.environ.get("SALSA_REQUIRE_ALL"))


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, so that coverage cannot shrink unseen. An expected failure (xfail) is none."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where every test is required: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(report)
    return report
