"""Rules E2, E4 and E6: decisions that come in time, however often the network changes and whoever is silent."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.events import FactsRead, Resumed, ServersRead, SettingsRead
from salsa_agent.core.model import Answer, Outcome, RelayKey, RRType, ServerView
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Verify
from tests.core.sim import FAILED, VIEW, World, at, facts, host, mx
from tests.core.test_rules_e import FULL, HOME, NET16, NET24, NOC, SMTP, hookup

LITERAL = replace(HOME, static_relays=(RelayKey("192.0.2.99", 587),))
NO_SERVER = Answer(Outcome.FAILED, reason="no server to ask")
FORWARDER_REFUSES = Answer(Outcome.FAILED, rcode="REFUSED", server="127.0.0.1", reason="REFUSED")


def advertise(world: World, *, preferred: bool) -> None:
    """A router advertisement that toggles the preferred lifetime of the second address."""
    world.move("165.154.15.1", host("2001:db8::7", preferred=preferred))


def test_e2_changes_each_second_do_not_starve_decisions() -> None:
    world = hookup()
    world.mute = {NOC}  # no verdict within a second
    world.start("165.154.15.1")
    for second in range(20):
        advertise(world, preferred=second % 2 == 0)
        world.pass_time(0.9)
        if second % 5 == 4:
            world.speak(NOC)
            world.mute = {NOC}
        world.pass_time(0.1)
    assert world.best == f"{NOC}:25"


def test_e2_three_seconds_after_the_oldest_change_the_round_goes_on_and_the_newer_change_gets_its_own() -> None:
    world = hookup()
    world.mute = {NOC}
    world.start("165.154.15.1")
    world.pass_time(2.9)
    world.move("165.154.15.1", "198.51.100.1")  # supersedes
    assert len(world.conversing) == 1
    checked = len(world.checked)
    world.pass_time(0.2)
    world.move("165.154.15.1", "198.51.100.2")  # does not
    assert world.state == "starting"
    assert len(world.checked) == checked
    world.speak(NOC)
    assert [str(one.address.ip) for one in world.published[0].evidence] == ["165.154.15.1", "198.51.100.1"]
    assert [str(one.address.ip) for one in world.said.evidence] == ["165.154.15.1", "198.51.100.2"]
    assert len(world.rounds) == 2


def test_e2_a_resume_supersedes_whatever_its_age() -> None:
    world = hookup()
    world.mute = {NOC}
    world.start("165.154.15.1")
    world.pass_time(5)
    checked = len(world.checked)
    world.send(Resumed())
    assert len(world.checked) > checked


def test_e2_losing_the_last_address_supersedes_whatever_its_age() -> None:
    world = hookup()
    world.mute = {NOC}
    world.start("165.154.15.1")
    world.pass_time(5)
    world.move()
    assert world.state == "offline"
    assert not world.conversing


def test_e2_the_watchdog_looks_at_the_oldest_undecided_change() -> None:
    world = hookup()
    world.mute = {NOC}
    world.start("165.154.15.1")
    world.pass_time(1)
    advertise(world, preferred=True)
    started = world.now - 1
    assert not world.engine.overdue(started + 90)
    assert world.engine.overdue(started + 91)


def test_e4_a_decision_waits_for_no_answer_that_cannot_change_the_best_relay() -> None:
    world = hookup()
    side = "51.198.in-addr.arpa"
    world.silent = {side, "100.51.198.in-addr.arpa", "1.100.51.198.in-addr.arpa"}  # the server of a side link
    world.start("165.154.15.1", "198.51.100.1")
    assert world.best == f"{NOC}:25"
    assert world.state == "ready"
    assert world.outcomes == ["found", "pending"]
    world.mx(side, mx("10:side.hookup.net."))
    world.host("side.hookup.net", at("203.0.113.9"))
    for name in sorted(world.silent):
        world.speak(name)
    assert world.relay_hosts == [NOC, "side.hookup.net", SMTP.host]
    assert world.outcomes == ["found", "found"]
    assert len(world.rounds) == 1


def test_e4_it_waits_for_one_that_can() -> None:
    world = hookup()
    world.silent = {"1.14.154.165.in-addr.arpa"}
    world.start("165.154.14.1", "165.154.15.1")
    assert world.state == "starting"
    world.speak("1.14.154.165.in-addr.arpa")
    assert world.best == f"{NOC}:25"


def test_e4_what_is_still_unanswered_after_the_decision_has_failed_at_the_end_of_the_dns_part() -> None:
    world = hookup()
    world.silent = {"51.198.in-addr.arpa"}
    world.start("165.154.15.1", "198.51.100.1")
    world.pass_time(8.1)
    assert world.outcomes == ["found", "failed"]
    assert world.state == "degraded"
    assert not world.in_flight


def failing(world: World, answer: Answer) -> World:
    for name in (FULL, NET24, NET16):
        world.mx(name, answer)
    return world


@pytest.mark.parametrize("answer", [NO_SERVER, FORWARDER_REFUSES, FORWARDER_REFUSES._replace(server="165.154.15.1")])
def test_e6_a_decision_for_which_nobody_outside_answered_is_put_off(answer: Answer) -> None:
    world = failing(hookup(LITERAL), answer)
    world.start("165.154.15.1")
    assert world.state == "starting"
    world.pass_time(1.9)
    assert world.state == "starting"
    world.pass_time(0.2)
    assert world.best == "192.0.2.99:587"


def test_e6_it_is_tried_again_every_250_ms_and_ends_when_somebody_answers() -> None:
    world = failing(hookup(LITERAL), NO_SERVER)
    world.start("165.154.15.1")
    world.pass_time(0.6)
    assert world.questions().count(FULL) == 3
    for name in (FULL, NET24):
        world.mx(name, Answer(Outcome.NONE, ttl=3600))
    world.mx(NET16, mx(f"10:{NOC}."))
    world.pass_time(0.2)
    assert world.best == f"{NOC}:25"
    assert [publication.best.host for publication in world.published if publication.best.host] == [NOC]


def test_e6_it_is_tried_again_when_the_resolver_configuration_changes() -> None:
    world = failing(hookup(LITERAL), NO_SERVER)
    world.send(ServersRead(ServerView()), FactsRead(facts("165.154.15.1")))
    for name in (FULL, NET24):
        world.mx(name, Answer(Outcome.NONE, ttl=3600))
    world.mx(NET16, mx(f"10:{NOC}."))
    world.pass_time(0.03)
    world.send(ServersRead(VIEW))
    assert world.best == f"{NOC}:25"


def test_e6_so_it_is_on_the_way_from_one_network_to_the_next() -> None:
    world = hookup(LITERAL)
    world.start("165.154.15.1")
    world.pass_time(100)
    failing(world, NO_SERVER)
    world.mx(name_at(ip_address("165.154.15.2"), 32), NO_SERVER)
    world.move("165.154.15.2")
    assert (world.best, world.state) == (f"{NOC}:25", "resolving")
    world.pass_time(1)
    world.mx(NET16, mx(f"10:{NOC}."))
    world.pass_time(0.3)
    assert {publication.best.host for publication in world.published} == {NOC}
    assert world.state != "resolving"


def test_e6_an_error_of_a_server_outside_is_an_answer() -> None:
    world = failing(hookup(), Answer(Outcome.FAILED, rcode="REFUSED", server="192.0.2.53", reason="REFUSED"))
    world.start("165.154.15.1")
    assert world.best == f"{SMTP.host}:25"


def test_e6_on_an_unchanged_network_nothing_is_put_off() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.pass_time(10)
    failing(world, NO_SERVER)
    world.refresh()
    assert world.state == "degraded"
    assert world.refreshed == [1]


def test_e1_a_reload_that_waits_for_its_budget_lets_the_engine_rest() -> None:
    """The DNS part of the superseded round is over before the next one may start: nothing is due until then."""
    settings = replace(HOME, dns=HOME.dns._replace(timeout=0.1, attempts=1), verify=Verify(enabled=False))
    world = hookup(settings)
    world.start("165.154.15.1")
    world.silent = {FULL, NET24, NET16}
    world.now += 60
    world.refresh()  # at most one a second is run, and the reload does what it was to do
    world.send(SettingsRead(settings))
    next_round = world.now + 1
    for _ in range(4):
        world.now += 0.2
        world.send()
        assert world.engine.wake_at == next_round


def two_relays() -> World:
    """Two relays of one set, decided."""
    world = hookup()
    world.mx(NET16, mx(f"10:{NOC}.", "20:vertex.hookup.net."))
    world.host("vertex.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1", "198.51.100.1")
    assert world.relay_hosts == [NOC, "vertex.hookup.net", SMTP.host]
    return world


@pytest.mark.parametrize("name", ["vertex.hookup.net", "51.198.in-addr.arpa"])
@pytest.mark.parametrize("refresh", [True, False])
def test_h1_what_is_asked_again_and_answered_late_shows_in_nothing(name: str, refresh: bool) -> None:
    world = two_relays()
    world.silent = {name}
    published, rounds = len(world.published), len(world.rounds)
    if refresh:
        world.refresh()
    while not world.in_flight:
        world.pass_time(1)  # until it expires
    assert len(world.rounds) > rounds
    world.speak(name)
    said = world.published[published:]
    assert all([one.relay.key.host for one in p.relays] == [NOC, "vertex.hookup.net", SMTP.host] for p in said)
    assert all([str(one.outcome) for one in p.evidence] == ["found", "none"] for p in said)
    assert {str(p.state) for p in said} <= {"ready"}
    assert all(one.routine for one in world.ended if one.cause == "expiry or retry")


def test_h1_what_is_asked_again_is_gone_when_the_answer_says_so() -> None:
    world = two_relays()
    world.silent = {"vertex.hookup.net"}
    world.refresh()
    assert world.relay_hosts == [NOC, "vertex.hookup.net", SMTP.host]
    world.mx(NET16, mx(f"10:{NOC}."))
    world.pass_time(1)
    world.refresh()
    assert world.relay_hosts == [NOC, SMTP.host]


def test_h1_nothing_of_another_network_stands_while_it_is_asked() -> None:
    world = two_relays()
    world.silent = {"vertex.hookup.net"}
    world.move("165.154.15.1", "198.51.100.2")
    assert world.relay_hosts == [NOC, SMTP.host]


@pytest.mark.parametrize("name", ["vertex.hookup.net", "51.198.in-addr.arpa", SMTP.host])
def test_h2_degraded_while_what_failed_is_asked_again(name: str) -> None:
    world = two_relays()
    for rtype in (RRType.MX, RRType.A, RRType.AAAA):
        world.dns[name, rtype] = FAILED
    world.move("165.154.15.1", "198.51.100.2")
    assert world.state == "degraded"
    world.silent = {name}
    decided = len(world.rounds)
    states = set()
    for _ in range(100):
        world.pass_time(0.5)
        states.add(world.state)
    assert len(world.rounds) > decided
    assert states == {"degraded"}
