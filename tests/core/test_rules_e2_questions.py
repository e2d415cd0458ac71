"""Rule E2: a storm does not flood the name servers that a network names, whatever it has come and go."""

from __future__ import annotations

from collections import Counter

from salsa_agent.core.events import FactsRead, ServersRead
from salsa_agent.core.model import Answer, Link, Outcome, Server, ServerView
from salsa_agent.core.question_budgets import (
    OF_ALL,
    OF_ALL_PER_SECOND,
    OF_LINK,
    OF_LINK_PER_SECOND,
    OF_SERVER,
    OF_SERVER_PER_SECOND,
    TRIES,
    TRY_EVERY,
)
from salsa_agent.core.settings import Settings
from tests.core.sim import ETH0, FAILED, NXDOMAIN, VIEW, World, facts, host
from tests.core.test_rules_d import HOME, NOC, story

PREFIXES = [f"2001:{0xDB8 + n:x}:{n:x}::5" for n in range(16)]  # as many as the kernel takes of router advertisements
NOTHING = Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=60)
WLAN0 = Link(3, "wlan0", usable=True)
STORM = 30.0  # seconds, of which the first 2048 questions last some 7


def storm(world: World, seconds: float, *, servers: bool = False) -> float:
    """Each quarter of a second the addresses go or come, and `servers`: the network names others; how long it took."""
    begun = world.now
    turn = 0
    while world.now < begun + seconds:
        turn += 1
        if servers:
            world.send(ServersRead(ServerView((Server(f"198.51.{turn % 200}.53"),))))
        world.send(FactsRead(facts("165.154.15.1", *(PREFIXES if turn % 2 else PREFIXES[1:]))))
        world.pass_time(0.25)
    return world.now - begun


def test_e2_a_server_is_asked_2048_times_at_once_and_then_64_times_a_second() -> None:
    world = World(HOME)
    world.start("165.154.15.1")
    took = storm(world, STORM)
    assert OF_SERVER < len(world.asked) <= OF_SERVER + took * OF_SERVER_PER_SECOND + 1


def test_e2_all_servers_of_a_link_together_are_asked_no_oftener_than_one() -> None:
    world = World(HOME)
    world.start("165.154.15.1")
    took = storm(world, STORM, servers=True)
    asked = Counter(question.servers for question in world.asked)
    assert len(world.asked) <= min(OF_ALL + took * OF_ALL_PER_SECOND, OF_LINK + took * OF_LINK_PER_SECOND) + 1
    assert max(asked.values()) <= OF_SERVER + took * OF_SERVER_PER_SECOND + 1
    assert len(world.engine._questions._budgets) <= 200 + 3 * len(PREFIXES) * 5


def test_e2_after_a_storm_the_right_relay_comes_within_the_time_of_a_round() -> None:
    world = story()
    world.start("165.154.15.1")
    storm(world, STORM)
    world.send(FactsRead(facts("165.154.15.1", *PREFIXES)))
    world.pass_time(3.0)
    assert (world.best, world.state) == (f"{NOC}:25", "ready")


def test_e2_a_host_with_one_address_never_waits_for_that_budget() -> None:
    """Four rounds a second is what the budget of rounds allows, with three levels and four exchanges each."""
    world = World(Settings())
    world.send(ServersRead(VIEW))
    for turn in range(200):
        world.send(FactsRead(facts(f"165.154.15.{turn % 2 + 1}")))
        world.pass_time(0.25)
        assert world.engine._questions._blocked_until is None


def advertisements(world: World, *, every: float, count: int) -> float:
    """A router toggles one address; how long it took."""
    begun = world.now
    for turn in range(count):
        world.send(FactsRead(facts("165.154.15.1", *(PREFIXES[:3] if turn % 2 else PREFIXES[:2]))))
        world.pass_time(every)
    return world.now - begun


def test_e2_what_fails_is_asked_no_faster_for_changes_that_never_end() -> None:
    """RFC 9520 section 3.2: a slow attacker, who stays below what the servers are asked in all."""
    world = World(HOME)
    world.portal = FAILED
    world.start("165.154.15.1")
    took = advertisements(world, every=1.0, count=120)
    most = max(Counter(world.asked).values())
    assert TRIES < most <= TRIES + took / TRY_EVERY + 1


def test_e2_what_is_answered_is_asked_at_each_change() -> None:
    world = World(HOME)
    world.portal = NXDOMAIN
    world.start("165.154.15.1")
    advertisements(world, every=1.0, count=60)
    assert Counter(world.asked).most_common()[0][1] >= 60


def test_e2_a_question_that_waits_for_its_turn_holds_no_decision_up_for_long() -> None:
    world = story()
    world.portal = FAILED
    world.start("165.154.15.1")
    advertisements(world, every=1.0, count=60)
    world.portal = None
    changed = world.now
    world.send(FactsRead(facts("165.154.15.1")))
    while world.best != f"{NOC}:25":
        world.pass_time(0.25)
        assert world.now < changed + TRY_EVERY + 1


def test_e2_one_link_leaves_the_servers_of_another_half_of_all_questions() -> None:
    world = World(HOME)
    wired, wireless = (tuple(Server(f"198.51.{link}.{n}", ifindex=link) for n in range(1, 200)) for link in (2, 3))
    turn = 0
    begun = world.now
    while world.now < begun + STORM:
        turn += 1
        view = ServerView((), ((2, wired[:1]), (3, (wireless[turn % 199],))))
        ips = [host(ip, index=3) for ip in (PREFIXES if turn % 2 else PREFIXES[1:])]
        world.send(ServersRead(view), FactsRead(facts("165.154.15.1", *ips, links=(ETH0, WLAN0))))
        world.pass_time(0.25)
    by_link = Counter(question.servers[0].ifindex for question in world.asked if question.servers)
    assert OF_LINK < by_link[3] <= OF_LINK + STORM * OF_LINK_PER_SECOND + 20
    assert by_link[2] >= 3 * turn // 2, "the wired link is asked about at most changes"
