"""Rule E5: what was learned while no relay is `ok` is asked again, for a captive portal may have said it."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import LinkRelaysSet
from salsa_agent.core.model import Answer, LinkRelays, Outcome, RelayKey
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Sender, Settings, Verify
from tests.core.sim import DEAD, FAILED, OK, World, at, mx

STATIC = RelayKey("192.0.2.99", 587)
DELAYS = (30, 60, 120, 240, 480, 960, 1800, 1800)
NAMES = [name_at(ip_address("165.154.15.1"), level) for level in (32, 24, 16)]


def portal(*static: RelayKey, seed: int = 0, verified: bool = True) -> World:
    """A captive portal, which says that there is nothing and lets nobody out, and the network behind it."""
    settings = Settings(static_relays=static, verify=Verify(enabled=verified))
    world = World(settings)
    world.engine = Engine(settings, b"machine", seed)
    for name in NAMES:
        world.mx(name, Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=3 * 3600))
    for key in static:
        world.relays[key.host] = DEAD
    world.start("165.154.15.1")
    assert world.best == (f"{STATIC.host}:{STATIC.port}" if static else "")
    return world


def log_in(world: World) -> None:
    """The portal lets the host out: the DNS and the relays are those of the network. The kernel hears nothing of it."""
    world.mx(NAMES[2], mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))


def gaps_between_rounds(world: World, seconds: int) -> list[float]:
    times = [world.now]
    for _ in range(seconds):
        seen = len(world.rounds)
        world.pass_time(1)
        times += [world.now] * (len(world.rounds) - seen)
    return [after - before for before, after in pairwise(times)]


@pytest.mark.parametrize("static", [(STATIC,), ()])
def test_e5_while_no_relay_is_ok_what_was_learned_is_asked_again_whatever_its_ttl(static: tuple[RelayKey, ...]) -> None:
    world = portal(*static)
    before = world.best
    log_in(world)
    world.pass_time(26.9)
    assert world.best == before
    world.pass_time(6.2)
    assert world.best == "noc.hookup.net:25"
    world.pass_time(1)  # once more: some answers may be from before the login
    asked = len(world.asked)
    world.pass_time(500)
    assert len(world.asked) == asked


@pytest.mark.parametrize("static", [(STATIC,), ()])
def test_e5_it_is_asked_again_more_and_more_seldom(static: tuple[RelayKey, ...]) -> None:
    world = portal(*static)
    gaps = gaps_between_rounds(world, 6200)
    assert len(gaps) in (7, 8)
    assert all(0.9 * delay - 1 <= gap <= 1.1 * delay + 1 for gap, delay in zip(gaps, DELAYS, strict=False))


def test_e5_where_nothing_is_listed_nobody_hears_of_it() -> None:
    world = portal()
    said = list(world.published)
    states = set()
    for _ in range(4000):
        world.pass_time(1)
        states.add(world.state)
    assert len(world.ended) > 5
    assert all(ended.routine for ended in world.ended[1:])
    assert world.published == said
    assert states == {"ready"}


@pytest.mark.parametrize("seed", range(20))
def test_e5_so_it_is_though_another_relay_is_ok_after_the_login_first(seed: int) -> None:
    """The checks of the static relays (D5) come a little before or after the questions."""
    world = portal(STATIC, RelayKey("192.0.2.98", 587), seed=seed)
    log_in(world)
    world.relays["192.0.2.98"] = OK
    world.pass_time(35)
    assert world.best == "noc.hookup.net:25"


def test_e5_so_it_is_though_the_login_comes_in_the_middle_of_a_round() -> None:
    world = portal(STATIC)
    world.silent.add(NAMES[0])
    world.refresh()
    log_in(world)
    world.relays[STATIC.host] = OK
    world.speak(NAMES[0])
    assert world.best == "192.0.2.99:587"
    world.pass_time(1.1)
    assert world.best == "noc.hookup.net:25"


@pytest.mark.parametrize("static", [(STATIC,), ()])
def test_e5_what_failed_keeps_the_delays_of_b5(static: tuple[RelayKey, ...]) -> None:
    world = portal(*static)
    world.mx(NAMES[1], FAILED)
    world.refresh()
    times: list[float] = []
    begun = world.now
    for _ in range(1000):
        seen = world.questions().count(NAMES[1])
        world.pass_time(1)
        times += [world.now - begun] * (world.questions().count(NAMES[1]) - seen)
    assert times == [2, 10, 40, 340, 640, 940]


def test_e5_without_verification_a_relay_that_has_not_failed_is_as_good_as_one_that_is_ok() -> None:
    world = portal(STATIC, verified=False)
    log_in(world)
    asked = len(world.asked)
    world.pass_time(3600)
    assert len(world.asked) == asked
    world.report(STATIC.host, STATIC.port)
    world.pass_time(34)
    assert world.relay_hosts == ["noc.hookup.net", STATIC.host]


def test_e5_without_verification_an_empty_list_is_made_anew() -> None:
    world = portal(verified=False)
    log_in(world)
    world.pass_time(34)
    assert world.best == "noc.hookup.net:25"


def test_e5_a_relay_that_is_ok_on_a_network_that_publishes_nothing_ends_it() -> None:
    world = portal()
    world.send(LinkRelaysSet((LinkRelays(2, "eth0", (RelayKey("192.0.2.25", 0),)),)))
    assert world.best == "192.0.2.25:25"
    world.pass_time(2)  # what was learned before is asked again once
    asked = len(world.asked)
    world.pass_time(3600)
    assert len(world.asked) == asked


def test_e5_without_an_address_nothing_is_asked() -> None:
    world = portal()
    world.move()
    asked = len(world.asked)
    world.pass_time(3600)
    assert len(world.asked) == asked


def test_e5_the_delays_start_over_on_another_network() -> None:
    world = portal()
    world.pass_time(4000)
    world.move("198.51.100.7")
    gaps = gaps_between_rounds(world, 250)
    assert len(gaps) == 3
    assert all(0.9 * delay - 1 <= gap <= 1.1 * delay + 1 for gap, delay in zip(gaps, DELAYS, strict=False))


def test_e5_what_was_found_stands_when_it_is_asked_again_in_vain() -> None:
    world = portal(STATIC)
    world.mx(NAMES[2], mx("10:noc.hookup.net.", ttl=86400))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.refresh()
    world.relays["noc.hookup.net"] = DEAD
    world.refresh()
    world.mx(NAMES[2], FAILED)
    world.pass_time(40)
    assert world.relay_hosts == ["noc.hookup.net", "192.0.2.99"]


def test_e5_a_senders_list_has_no_relay_that_is_ok_though_the_network_has() -> None:
    own = RelayKey("smtp.provider.example", 587)
    world = World(Settings(static_relays=(STATIC,), senders=(Sender(("*@home.example",), (own,)),)))
    world.host(own.host, Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=3 * 3600))
    world.start("165.154.15.1")
    assert (world.best, world.state) == ("192.0.2.99:587", "ready")
    world.host(own.host, at("203.0.113.9"))
    world.pass_time(34)
    assert [str(listed.verdict) for listed in world.said.senders[0].relays] == ["ok"]
