"""What callers ask for, done: by itself, on an engine that decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from salsa_agent.bus.api import LimitsExceeded, NoSuchRelay
from salsa_agent.core.events import RefreshAsked
from salsa_agent.core.model import Best, ListedRelay, Publication, Relay, RelayKey, SenderChoice, Source, State, Verdict
from salsa_agent.daemon import methods
from salsa_agent.daemon.methods import Methods
from salsa_agent.daemon.statistics import Statistics

HOME = ListedRelay(Relay(RelayKey("smtp.home.example", 587), Source.SENDER), Verdict.OK)
NOC = ListedRelay(Relay(RelayKey("noc.example.net", 25), Source.DNS), Verdict.OK)
PUBLISHED = Publication(
    State.READY,
    Best("noc.example.net", 25, Source.DNS),
    (NOC,),
    senders=(
        SenderChoice(("*@home.example",), "never", Best("smtp.home.example", 587, Source.SENDER), (HOME,), True),
        SenderChoice(("*@later.example",)),
    ),
)


class Quiet:
    """An engine with its loop that keeps what it is sent."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.publication = PUBLISHED
        self.refused: set[RelayKey] = set()

    def report_refused(self, key: RelayKey, now: float) -> bool:
        return key in self.refused

    def post(self, event: Any) -> None:
        self.posted.append(event)

    post_now = post


def made(quiet: Quiet) -> Methods:
    nothing = cast(Any, None)
    return Methods(
        cast(Any, quiet),
        cast(Any, quiet),
        nothing,
        nothing,
        identity=b"",
        statistics=Statistics(lambda: 0),
    )


async def test_refresh_replies_at_the_decision_or_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 30 to 56 s, and D-Bus clients give up at 25."""
    assert methods.REFRESH_TIME == 20.0
    monkeypatch.setattr(methods, "REFRESH_TIME", 0.1)
    quiet = Quiet()
    calls = made(quiet)
    started = time.monotonic()
    await calls.refresh(1000)
    assert 0.1 <= time.monotonic() - started < 5
    assert quiet.posted == [RefreshAsked(1, root=False)]
    assert not calls._refreshes
    calls.refreshed(1)  # its round decides later
    monkeypatch.setattr(methods, "REFRESH_TIME", 60.0)
    waiting = asyncio.ensure_future(calls.refresh(0))
    await asyncio.sleep(0)
    assert quiet.posted[1:] == [RefreshAsked(2, root=True)]
    calls.refreshed(2)
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize(
    ("sender", "host"),
    [("me@home.example", "smtp.home.example"), ("me@later.example", ""), ("a@b.example", "noc.example.net"),
     ("", "noc.example.net"), ("<>", "noc.example.net")],
)  # fmt: skip
def test_c11_the_relay_for_a_sender(sender: str, host: str) -> None:
    found = made(Quiet()).relay_for(sender)
    assert found.best.host == host
    assert [listed.relay.key.host for listed in found.relays] == ([host] if host else [])


def test_d6_a_relay_that_was_just_found_to_answer_is_reported_by_root_alone() -> None:
    quiet = Quiet()
    quiet.refused.add(NOC.relay.key)
    calls = made(quiet)
    with pytest.raises(LimitsExceeded, match="found to answer"):
        calls.report_failure("noc.example.net", 25, "554", 1000)
    assert quiet.posted == []
    calls.report_failure("noc.example.net", 25, "554", 0)
    assert len(quiet.posted) == 1


def test_d6_a_relay_of_a_sender_can_be_reported_and_one_of_no_list_cannot() -> None:
    quiet = Quiet()
    calls = made(quiet)
    calls.report_failure("smtp.home.example", 587, "554", 1000)
    assert quiet.posted[0].key == RelayKey("smtp.home.example", 587)
    for host, port in (("smtp.home.example", 25), ("other.example", 25), ("", 25)):
        with pytest.raises(NoSuchRelay):
            calls.report_failure(host, port, "554", 1000)


def test_a_report_on_what_is_no_relay_costs_the_same_however_long_the_lists_are() -> None:
    """No limit counts these; with a hundred senders each took two milliseconds."""

    class Counted(tuple[SenderChoice, ...]):
        looks = 0

        def __iter__(self) -> Iterator[SenderChoice]:
            Counted.looks += 1
            return super().__iter__()

    quiet = Quiet()
    quiet.publication = replace(PUBLISHED, senders=Counted(PUBLISHED.senders))
    calls = made(quiet)
    for number in range(100):
        with pytest.raises(NoSuchRelay):
            calls.report_failure(f"x{number}.example", 25, "554", 1000)
    assert Counted.looks <= 2
    quiet.publication = replace(PUBLISHED, best=Best("x1.example", 25, Source.DNS))
    calls.report_failure("x1.example", 25, "554", 1000)  # what is published anew can be reported
