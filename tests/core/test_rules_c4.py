"""Rule C4 while answers are still to come: nothing that an exchange may rule out is given."""

from salsa_agent.core.model import RRType
from salsa_agent.core.settings import Settings
from tests.core.selecting import Selecting, drops, keys, on
from tests.core.sim import FAILED, at, mx


def pending(silent: str) -> Selecting:
    world = Selecting(Settings(), on("165.154.15.1"))
    exchanges = ("5:a.hookup.net.", "10:b.hookup.net.", "10:c.hookup.net.", "20:d.hookup.net.")
    world.mx("15.154.165.in-addr.arpa", mx(*exchanges))
    for number, host in enumerate("abcd", 1):
        world.host(f"{host}.hookup.net", at(f"203.0.113.{number}"))
    world.silent = {f"{silent}.hookup.net"}
    return world


def test_c4_nothing_of_the_same_or_a_worse_preference_stands_before_both_lookups_ended() -> None:
    for silent in "bc":
        choice = pending(silent).run()
        assert (keys(choice.relays), choice.firm, choice.settled) == (["dns a.hookup.net:25"], 1, False)
    choice = pending("a").run()
    assert (keys(choice.relays), choice.firm, choice.settled) == ([], 0, False)


def test_c4_the_relays_of_other_sets_stand_behind_what_is_to_come() -> None:
    world = pending("b")
    world.hosts = (*world.hosts, on("165.154.16.1"))
    world.mx("16.154.165.in-addr.arpa", mx("5:e.hookup.net."))
    world.host("e.hookup.net", at("203.0.113.9"))
    choice = world.run()
    assert (keys(choice.relays), choice.firm) == (["dns a.hookup.net:25", "dns e.hookup.net:25"], 1)


def test_c4_a_failed_lookup_ends_the_waiting() -> None:
    world = pending("")
    world.dns["b.hookup.net", RRType.A] = FAILED
    choice = world.run()
    assert {relay.key.host for relay in choice.relays} == {f"{host}.hookup.net" for host in "acd"}
    assert (choice.firm, choice.settled, choice.failing) == (3, True, True)
    assert drops(choice) == {("b.hookup.net", "C3")}
