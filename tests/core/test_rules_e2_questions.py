"""Rule E2: a storm does not flood the name servers that a network names, whatever it has come and go."""

from __future__ import annotations

from collections import Counter

from salsa_agent.core.events import FactsRead, ServersRead
from salsa_agent.core.model import Answer, Outcome, Server, ServerView
from salsa_agent.core.question_budgets import OF_ALL, OF_ALL_PER_SECOND, OF_SERVER, OF_SERVER_PER_SECOND
from salsa_agent.core.settings import Settings
from tests.core.sim import VIEW, World, facts
from tests.core.test_rules_d import HOME, NOC, story

PREFIXES = [f"2001:{0xDB8 + n:x}:{n:x}::5" for n in range(16)]  # as many as the kernel takes of router advertisements
NOTHING = Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=60)
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


def test_e2_all_servers_together_are_asked_twice_as_often() -> None:
    world = World(HOME)
    world.start("165.154.15.1")
    took = storm(world, STORM, servers=True)
    asked = Counter(question.servers for question in world.asked)
    assert len(world.asked) <= OF_ALL + took * OF_ALL_PER_SECOND + 1
    assert max(asked.values()) <= OF_SERVER + took * OF_SERVER_PER_SECOND + 1
    assert len(world.engine._questions._budgets) <= 200


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
