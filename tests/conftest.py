"""For all tests: what a test needs and this machine lacks is counted at the end; where all are required, it fails."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Generator

import pytest

REQUIRE_ALL = bool(os.environ.get("CI") or os.environ.get("SALSA_REQUIRE_ALL"))
HOW = {
    "namespaces": "root, or a user who may make user namespaces (sudo ./run tests)",
    "users": "root (sudo ./run tests)",
    "boot": "root on a whole machine, with cgroup2 (sudo ./run tests)",
    "index": "the Python package index, once: what comes from it is kept below build/",
    "programs": "the packages of scripts/test-packages (sudo ./run tests installs them)",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker `needs`: of a test that uses by itself what the fixtures of tests.lab ask for elsewhere."""
    for marker in item.iter_markers("needs"):
        from tests.lab.needs import Need, require  # not at the top: tests of this file have no more than it

        require(*(Need(name) for name in marker.args))


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, so that coverage cannot shrink unseen. An expected failure (xfail) is none."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where every test is required: {report.longrepr}"


def _lacks_program(call: pytest.CallInfo[None]) -> str:
    """The program that the test wanted to start and that is not installed; empty: it is not that.

    Where the user may not look into a directory of PATH, a missing program is a PermissionError.
    """
    error = call.excinfo.value if call.excinfo else None
    name = error.filename if isinstance(error, FileNotFoundError | PermissionError) else None
    return name if isinstance(name, str) and name and "/" not in name and shutil.which(name) is None else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (program := _lacks_program(call)):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: needs programs: {program} is not installed")
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each need that is missing: how many tests, and how to run them."""
    found: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        match = re.search(r"needs (\w+): ", str(report.longrepr))
        if match:
            found[match[1]] += 1
    for need, count in sorted(found.items()):
        terminalreporter.write_line(f"not run here: {count} tests that need {need}: {HOW.get(need, 'see tests/lab')}")
