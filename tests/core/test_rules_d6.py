"""Rule D6: what a user's report does, and how long it lasts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from salsa_agent.core.events import Checked
from salsa_agent.core.model import RelayKey, Verdict
from salsa_agent.core.settings import Settings, Verify
from tests.core.sim import DEAD, OK, World
from tests.core.test_rules_d import HOME, NOC, SMTP, VERTEX, checked, fleet, story, verdicts

UNVERIFYING = replace(HOME, verify=Verify(enabled=False))


def started(world: World) -> World:
    world.start("165.154.15.1")
    assert world.best == f"{NOC}:25"
    return world


def test_d6_a_report_moves_to_the_next_relay_at_once_and_says_why() -> None:
    world = started(story())
    world.mute = {VERTEX, NOC}
    world.report(NOC, reason="554 relaying denied")
    assert world.best == f"{VERTEX}:25"
    assert world.said.relays[0].verdict is Verdict.FAILED
    assert world.said.relays[0].reason == "554 relaying denied"
    assert world.state == "ready"


def test_d6_the_one_published_without_waiting_is_verified() -> None:
    world = started(story())
    before = checked(world).count(VERTEX)
    world.mute = {VERTEX}
    world.relays[NOC] = DEAD
    world.report(NOC)
    assert checked(world).count(VERTEX) == before + 1
    world.relays[VERTEX] = DEAD
    world.speak(VERTEX)
    assert world.best == f"{SMTP.host}:25"


def test_d6_an_unverified_relay_is_published_too_until_its_check_is_in() -> None:
    world = story()
    world.mute = {VERTEX}  # the second of the list has no verdict yet
    started(world)
    assert verdicts(world)[VERTEX] == "unverified"
    world.relays[NOC] = DEAD
    world.report(NOC)
    assert world.best == f"{VERTEX}:25"
    world.relays[VERTEX] = DEAD
    world.speak(VERTEX)
    assert world.best == f"{SMTP.host}:25"


def test_d6_all_reported_the_first_static_relay_stands() -> None:
    world = started(story())
    for host in (NOC, VERTEX, SMTP.host):
        world.relays[host] = DEAD
        world.report(host)
    assert world.best == f"{SMTP.host}:25"
    assert world.state == "degraded"


def test_d6_d5_brings_it_back() -> None:
    world = started(story())
    world.relays[NOC] = DEAD
    world.report(NOC)
    world.relays[NOC] = OK
    world.pass_time(26.9)
    assert world.best == f"{VERTEX}:25"
    world.pass_time(6.2)
    assert world.best == f"{NOC}:25"


def test_d6_a_reported_relay_is_verified_at_once_and_stands_again_where_it_is_ok() -> None:
    world = started(story())
    before = checked(world).count(NOC)
    world.mute = {NOC}
    world.report(NOC)
    assert world.best == f"{VERTEX}:25"
    assert checked(world).count(NOC) == before + 1
    world.speak(NOC)
    assert world.best == f"{NOC}:25"
    assert verdicts(world)[NOC] == "ok"
    assert world.said.relays[0].reason == ""


def test_d6_a_reported_relay_is_verified_at_once_even_behind_the_second_ok() -> None:
    world = fleet(6)
    world.start("165.154.15.1")
    key = RelayKey("r5.hookup.net", 25)
    assert verdicts(world)[key.host] == "unverified"
    world.report(key.host)
    assert verdicts(world)[key.host] == "ok"


def test_d6_where_it_is_ok_reports_on_it_are_refused_for_an_hour() -> None:
    world = started(story())
    key = RelayKey(NOC, 25)
    assert not world.engine.report_refused(key, world.now)
    world.report(NOC)
    assert world.engine.report_refused(key, world.now + 3599)
    assert not world.engine.report_refused(key, world.now + 3601)
    assert not world.engine.report_refused(RelayKey(VERTEX, 25), world.now)


def test_d6_where_it_is_not_ok_more_reports_are_taken() -> None:
    world = started(story())
    world.relays[NOC] = DEAD
    world.report(NOC)
    assert not world.engine.report_refused(RelayKey(NOC, 25), world.now)


@pytest.mark.parametrize("settings", [HOME, UNVERIFYING], ids=["verified", "unverified"])
def test_d6_reports_alone_never_raise_the_delay_above_5_minutes(settings: Settings) -> None:
    world = started(story(settings))
    away = []
    for _ in range(7):
        world.relays[NOC] = DEAD
        world.report(NOC)
        world.relays[NOC] = OK
        since = world.now
        while world.best != f"{NOC}:25":
            world.pass_time(1)
        away.append(world.now - since)
    assert 26 <= away[0] <= 34
    assert all(later > 1.5 * earlier for earlier, later in pairwise(away[:4]))
    assert all(269 <= late <= 331 for late in away[4:])


def test_d6_the_delay_starts_over_once_the_relay_was_ok_and_unreported_for_as_long() -> None:
    world = started(story())
    for _ in range(3):
        world.report(NOC)
        world.pass_time(135)
        assert world.best == f"{NOC}:25"
    world.pass_time(130)
    world.report(NOC)
    world.pass_time(34)
    assert world.best == f"{NOC}:25"


def test_d6_a_report_of_a_failed_relay_changes_its_reason_only() -> None:
    world = started(story())
    world.mute = {NOC}
    world.report(NOC, reason="one")
    world.report(NOC, reason="two")
    assert world.said.relays[0].reason == "two"
    world.relays[NOC] = DEAD
    world.speak(NOC)
    world.relays[NOC] = OK
    world.pass_time(34)
    assert world.best == f"{NOC}:25"


def test_d6_a_reason_is_made_printable_and_cut() -> None:
    world = started(story())
    world.mute = {NOC}
    world.report(NOC, reason="bad\x1b[31m\n" + "x" * 500)
    reason = world.said.relays[0].reason
    assert reason.startswith("bad?[31m?xxx")
    assert len(reason) == 200


def test_d6_a_conversation_on_its_way_does_not_take_the_report_back() -> None:
    world = story()
    world.mute = {NOC}
    world.start("165.154.15.1")
    (old,) = [check for check in world.conversing.values() if check.key.host == NOC]
    world.report(NOC)
    world.send(Checked(old, OK))  # it was abandoned: nobody waits for it
    assert verdicts(world)[NOC] == "failed"
    assert world.best == f"{VERTEX}:25"
    world.speak(NOC)  # the one that was begun after the report
    assert verdicts(world)[NOC] == "ok"


def test_d6_while_a_round_runs_the_published_list_is_what_is_reported() -> None:
    world = started(story())
    world.silent = {"154.165.in-addr.arpa"}
    world.refresh()
    world.report(NOC)
    assert world.best == f"{VERTEX}:25"
    assert world.state == "ready"


@pytest.mark.parametrize("seconds", [26.9, 33.1])
def test_d6_without_verification_it_is_unverified_again_after_the_delay(seconds: float) -> None:
    world = started(story(UNVERIFYING))
    world.report(NOC)
    assert world.best == f"{VERTEX}:25"
    assert verdicts(world)[NOC] == "failed"
    world.pass_time(seconds)
    assert world.best == (f"{VERTEX}:25" if seconds < 30 else f"{NOC}:25")
    assert verdicts(world)[NOC] == ("failed" if seconds < 30 else "unverified")


def test_d6_a_network_change_forgets_the_delay() -> None:
    world = started(story())
    for _ in range(3):
        world.report(NOC)
        world.pass_time(135)
    world.move("165.154.15.2")
    world.report(NOC)
    world.pass_time(34)
    assert world.best == f"{NOC}:25"


def test_d6_without_verification_a_network_change_or_refresh_forgets_the_report() -> None:
    world = started(story(UNVERIFYING))
    world.report(NOC)
    world.move("165.154.15.2")
    assert world.best == f"{NOC}:25"
    world.report(NOC)
    world.refresh()
    assert world.best == f"{NOC}:25"
