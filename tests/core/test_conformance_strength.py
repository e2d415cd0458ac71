"""That vectors fail a program that breaks their sentence: the core, broken in one place each."""

from __future__ import annotations

import json
from collections.abc import Hashable

import pytest

from salsa_agent.core import cache
from salsa_agent.core.verification.reports import Reports
from salsa_agent.daemon import quotas
from tests.core.vectors import FOLDER, SENTENCES, differences, vectors

Patch = pytest.MonkeyPatch


def caught(sentence: str) -> list[str]:
    """The vectors of a sentence that the core does not pass as it is now."""
    names = json.loads((FOLDER / f"{SENTENCES}.json").read_text())[sentence]
    return [vector["name"] for _, vector in vectors() if vector["name"] in names and differences(vector)]


def bounded_by(monkeypatch: Patch, *counted: str) -> None:
    """Of the reports only these are counted: of one `user`, on one `relay`, by `both` together, or `all`."""

    def refusal(self: quotas.ReportQuota, uid: int, relay: Hashable, now: float) -> str:
        keys = {"user": (uid,), "relay": (relay,), "both": (uid, relay), "all": ()}
        chosen = [keys[name] for name in counted]
        self._reports.forget_old(now)
        if any(self._reports.count(key) >= quotas.REPORTS for key in chosen):
            return "too many"
        self._reports.add(now, *chosen)
        return ""

    monkeypatch.setattr(quotas.ReportQuota, "refusal", refusal)


@pytest.mark.parametrize(
    "counted", [(), ("user",), ("relay",), ("both",), ("user", "both"), ("all",), ("user", "all"), ("relay", "all")]
)
def test_s71_is_about_who_is_hit_and_who_says_so(counted: tuple[str, ...], monkeypatch: Patch) -> None:
    bounded_by(monkeypatch, *counted)
    assert caught("S71")


def test_s71_the_bound_by_user_and_relay_is_what_it_asks_for(monkeypatch: Patch) -> None:
    bounded_by(monkeypatch, "user", "relay")
    assert not caught("S71")


def test_s71_a_relay_that_was_found_to_work_is_not_reported_again(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Reports, "refused", lambda *_: False)
    assert caught("S71")


@pytest.mark.parametrize("earlier", [0.0, 0.05, 0.1])
def test_s86_hosts_that_all_wait_the_same_time_are_caught(earlier: float, monkeypatch: Patch) -> None:
    monkeypatch.setattr(cache, "Random", lambda _: type("Same", (), {"random": lambda _: earlier / cache.EARLIER})())
    assert caught("S86")


def test_s86_hosts_that_ask_too_early_or_too_late_are_caught(monkeypatch: Patch) -> None:
    for earlier in (0.5, -0.5):
        monkeypatch.setattr(cache, "EARLIER", earlier)
        assert caught("S86")


def test_s86_is_kept_by_the_core_as_it_is() -> None:
    assert not caught("S86")
