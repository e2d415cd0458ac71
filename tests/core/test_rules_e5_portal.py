"""Rule E5: what was learned while no relay is `ok` is asked again, for a captive portal may have said it."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

from salsa_agent.core.model import Answer, Outcome, RelayKey
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Settings
from tests.core.sim import DEAD, FAILED, World, at, mx


def portal() -> World:
    """A captive portal, which says that there is nothing and lets nobody out, and the network behind it."""
    world = World(Settings(static_relays=(RelayKey("192.0.2.99", 587),)))
    for level in (32, 24, 16):
        world.mx(name_at(ip_address("165.154.15.1"), level), Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=3 * 3600))
    world.relays["192.0.2.99"] = DEAD
    world.start("165.154.15.1")
    assert world.best == "192.0.2.99:587"
    return world


def test_e5_while_no_relay_is_ok_what_was_learned_is_asked_again_whatever_its_ttl() -> None:
    world = portal()
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.pass_time(26.9)
    assert world.best == "192.0.2.99:587"
    world.pass_time(6.2)
    assert world.best == "noc.hookup.net:25"
    asked = len(world.asked)
    world.pass_time(500)
    assert len(world.asked) == asked


def test_e5_it_is_asked_again_more_and_more_seldom() -> None:
    world = portal()
    times = []
    for _ in range(4000):
        seen = len(world.rounds)
        world.pass_time(1)
        if len(world.rounds) > seen:
            times.append(world.now - 1000)
    gaps = [after - before for before, after in pairwise([0, *times])]
    expected = (30, 60, 120, 240, 480, 960, 1800)
    assert len(gaps) in (6, 7)
    assert all(0.9 * delay - 1 <= gap <= 1.1 * delay + 1 for gap, delay in zip(gaps, expected, strict=False))


def test_e5_what_was_found_stands_when_it_is_asked_again_in_vain() -> None:
    world = portal()
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net.", ttl=86400))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.refresh()
    world.relays["noc.hookup.net"] = DEAD
    world.refresh()
    world.mx("154.165.in-addr.arpa", FAILED)
    world.pass_time(40)
    assert world.relay_hosts == ["noc.hookup.net", "192.0.2.99"]
