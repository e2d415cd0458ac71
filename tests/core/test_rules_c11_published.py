"""Rule C11: what is published for each sender, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from salsa_agent.core.events import SettingsRead
from salsa_agent.core.model import RelayKey, SenderChoice
from salsa_agent.core.settings import Sender, Settings
from tests.core.sim import DEAD, World, at, mx

OWN, SECOND, STATIC, NOC = "smtp.example.net", "backup.example.net", "192.0.2.99", "noc.hookup.net"
KEYS = RelayKey(OWN, 587), RelayKey(SECOND, 587)


def world_of(network: str = "never") -> World:
    sender = Sender(("*@example.net",), KEYS, network)
    world = World(Settings(static_relays=(RelayKey(STATIC, 587),), senders=(sender,)))
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}."))
    world.host(NOC, at("203.0.113.1"))
    world.host(OWN, at("198.51.100.1"))
    world.host(SECOND, at("198.51.100.2"))
    return world


def choice(world: World) -> SenderChoice:
    return world.said.senders[0]


@pytest.mark.parametrize(
    ("network", "hosts", "best"),
    [
        ("never", [OWN, SECOND], OWN),
        ("last", [OWN, SECOND, NOC, STATIC], OWN),
        ("first", [NOC, OWN, SECOND, STATIC], NOC),
    ],
)
def test_c11_each_sender_has_its_list_and_its_best_relay(network: str, hosts: list[str], best: str) -> None:
    world = world_of(network)
    world.start("165.154.15.1")
    assert [listed.relay.key.host for listed in choice(world).relays] == hosts
    assert (choice(world).best.host, choice(world).decided) == (best, True)
    assert world.best == f"{NOC}:25"


def test_c11_it_is_published_when_it_is_decided_by_itself() -> None:
    world = world_of()
    world.mute = {OWN, SECOND}
    world.start("165.154.15.1")
    assert (world.best, world.state) == (f"{NOC}:25", "ready")
    assert (choice(world).decided, choice(world).best.host) == (False, "")
    world.speak(OWN)
    assert (choice(world).decided, choice(world).best.host) == (True, OWN)


def test_c11_its_last_resort_is_the_first_of_its_own() -> None:
    world = world_of("last")
    world.relays = dict.fromkeys((OWN, SECOND, NOC, STATIC), DEAD)
    world.start("165.154.15.1")
    assert choice(world).best.host == OWN
    assert choice(world).decided
    assert world.best == f"{STATIC}:587"


def test_c11_of_another_network_nothing_survives_the_decision() -> None:
    world = world_of()
    world.start("165.154.15.1")
    world.mute = {OWN, SECOND}
    world.move("198.51.100.9")
    assert world.state == "ready"
    assert not choice(world).decided


def test_c11_on_the_same_network_it_stands_until_the_new_check_is_in() -> None:
    world = world_of()
    world.start("165.154.15.1")
    world.mute = {OWN, SECOND}
    world.refresh()
    assert world.refreshed == [1]
    assert (choice(world).decided, choice(world).best.host) == (True, OWN)


def test_c11_another_configuration_has_other_entries() -> None:
    world = world_of()
    world.start("165.154.15.1")
    other = Sender(("*@example.org",), (KEYS[1],))
    world.send(SettingsRead(replace(world.engine.settings, senders=(other,))))
    assert [(one.address, one.best.host) for one in world.said.senders] == [(("*@example.org",), SECOND)]


def test_c11_of_two_entries_for_the_same_addresses_each_has_its_own_relay() -> None:
    world = world_of()
    twins = tuple(Sender(("*@example.net",), (key,)) for key in KEYS)
    world.mute = {OWN}
    world.send(SettingsRead(replace(world.engine.settings, senders=twins)))
    world.start("165.154.15.1")
    assert [one.best.host for one in world.said.senders] == ["", SECOND]
    world.speak(OWN)
    assert [one.best.host for one in world.said.senders] == [OWN, SECOND]
    world.refresh()
    assert [one.best.host for one in world.said.senders] == [OWN, SECOND]


def test_c11_a_report_moves_a_sender_on_without_waiting() -> None:
    world = world_of()
    world.start("165.154.15.1")
    world.mute = {OWN, SECOND}
    world.report(OWN, 587)
    assert choice(world).best.host == SECOND
    assert world.best == f"{NOC}:25"


def test_d6_a_report_on_a_senders_relay_before_the_first_decision_decides_nothing() -> None:
    world = world_of("last")
    world.silent = {"154.165.in-addr.arpa"}
    world.start("165.154.15.1")
    assert (world.state, choice(world).best.host) == ("starting", OWN)
    world.mute = {OWN}
    world.report(OWN, 587)
    assert (world.state, world.best, world.said.relays) == ("starting", "", ())
    assert choice(world).best.host == SECOND


def test_d6_a_report_on_a_senders_relay_leaves_the_list_of_c6() -> None:
    world = world_of()
    exchanges = [f"mx{number}.hookup.net" for number in range(10)]
    world.mx("154.165.in-addr.arpa", mx(*(f"{number}:{name}." for number, name in enumerate(exchanges))))
    for number, name in enumerate(exchanges):
        world.host(name, at(f"203.0.113.{number + 10}"))
        world.relays[name] = DEAD
    world.start("165.154.15.1")
    assert world.best == f"{STATIC}:587", "8 servers of a link failed, the others are not spoken to (D11)"
    world.silent = {"154.165.in-addr.arpa"}
    world.mute = {OWN}
    world.refresh()  # while its round runs, what was published is not composed anew
    world.report(OWN, 587)
    assert (world.best, choice(world).best.host) == (f"{STATIC}:587", SECOND)


def test_c11_offline_its_last_resort_stands() -> None:
    world = world_of()
    world.start("165.154.15.1")
    world.move()
    world.pass_time(2.1)
    assert (world.state, choice(world).best.host) == ("offline", OWN)


def test_c11_the_state_is_about_the_list_of_c6() -> None:
    world = world_of()
    world.relays = {OWN: DEAD, SECOND: DEAD}
    world.start("165.154.15.1")
    assert world.state == "ready"
    assert choice(world).best.host == OWN
