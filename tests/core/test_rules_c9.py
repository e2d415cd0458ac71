"""Rule C9 and C6: relays that a link's own configuration gives."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from salsa_agent.core.events import FactsRead, ServersRead
from salsa_agent.core.model import HostAddress, Link, Server, ServerView, Source
from salsa_agent.core.settings import Policy, Settings
from tests.core.sim import FAILED, VIEW, World, at, facts, host, mx
from tests.core.test_rules_c import SMTP, world_with

HOME = Settings(static_relays=(SMTP,))
LAN = "192.0.2.25"


def listed(world: World) -> list[tuple[str, str]]:
    return [(one.relay.key.host, str(one.relay.source)) for one in world.said.relays]


def test_c6_link_relays_come_before_those_of_the_dns_then_the_static_ones() -> None:
    world = world_with("10:noc.hookup.net.", settings=HOME)
    world.give(LAN, "mail.example.net 587")
    world.host("mail.example.net", at("203.0.113.50"))
    world.start("165.154.15.1")
    assert listed(world) == [
        (LAN, "link"),
        ("mail.example.net", "link"),
        ("noc.hookup.net", "dns"),
        (SMTP.host, "static"),
    ]
    assert [one.relay.key.port for one in world.said.relays] == [25, 587, 25, 25]
    assert world.best == f"{LAN}:25"
    assert str(world.said.best.source) == "link"
    assert world.said.relays[0].relay.interface == "eth0"


def test_c6_by_address_its_links_relays_then_its_dns_relays() -> None:
    world = world_with("10:noc.hookup.net.")
    world.mx("100.51.198.in-addr.arpa", mx("10:other.hookup.net."))
    world.host("other.hookup.net", at("203.0.113.60"))
    world.give(LAN, index=3, name="wlan0")
    links = (Link(2, "eth0", usable=True), Link(3, "wlan0", usable=True))
    hosts: tuple[HostAddress, ...] = (host("165.154.15.1"), host("198.51.100.2", index=3))
    world.send(ServersRead(VIEW), FactsRead(facts(*hosts, links=links)))
    assert listed(world) == [("noc.hookup.net", "dns"), (LAN, "link"), ("other.hookup.net", "dns")]


def test_c9_two_addresses_on_one_link_give_its_relays_once() -> None:
    world = world_with("10:noc.hookup.net.")
    world.give(LAN, "localhost")
    world.start("165.154.15.1", "165.154.15.2")
    assert listed(world) == [(LAN, "link"), ("noc.hookup.net", "dns")]
    assert len([drop for drop in world.said.dropped if drop.rule == "C2"]) == 1


def test_c9_a_link_that_is_another_by_now_gives_nothing() -> None:
    world = world_with("10:noc.hookup.net.")
    world.give(LAN, name="eth1")
    world.start("165.154.15.1")
    assert listed(world) == [("noc.hookup.net", "dns")]


@pytest.mark.parametrize("name", ["localhost", "relay", "a_b.example.net", "x.in-addr.arpa"])
def test_c9_a_name_must_satisfy_c2(name: str) -> None:
    world = world_with("10:noc.hookup.net.")
    world.give(name)
    world.start("165.154.15.1")
    assert listed(world) == [("noc.hookup.net", "dns")]
    assert (name, "C2") in world.dropped()


@pytest.mark.parametrize("literal", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.1.1", "::1", "fe80::1", "0.1.2.3"])
def test_c9_the_address_bans_of_c3_apply(literal: str) -> None:
    world = world_with("10:noc.hookup.net.")
    world.give(literal, "inside.example.net")
    world.host("inside.example.net", at(literal) if ":" not in literal else at("127.0.0.2"))
    world.start("165.154.15.1")
    assert listed(world) == [("noc.hookup.net", "dns")]
    assert {(literal, "C3"), ("inside.example.net", "C3")} <= world.dropped()


def test_c9_c4_applies_to_that_relay_alone() -> None:
    world = world_with("10:noc.hookup.net.")
    world.give("165.154.15.1", "self.example.net", LAN)
    world.host("self.example.net", at("165.154.15.1"))
    world.start("165.154.15.1")
    assert listed(world) == [(LAN, "link"), ("noc.hookup.net", "dns")]
    assert {("165.154.15.1", "C4"), ("self.example.net", "C4")} <= world.dropped()


def test_c9_c5_bounds_them_with_the_rest() -> None:
    world = world_with("10:noc.hookup.net.", settings=HOME)
    world.give(*(f"10.0.0.{n}" for n in range(1, 71)))
    world.start("165.154.15.1")
    assert len(world.said.relays) == 65
    assert listed(world)[-1] == (SMTP.host, "static")
    assert ("noc.hookup.net", "C5") in world.dropped()


def test_c9_c7_applies_and_a_link_relay_is_never_authenticated() -> None:
    world = world_with("10:noc.hookup.net.", settings=Settings(policy=Policy(deny=("192.0.2.*",))))
    world.give(LAN)
    world.start("165.154.15.1")
    assert (LAN, "C7") in world.dropped()
    world = World(Settings(policy=Policy(require="dnssec")))
    world.host("mail.example.net", at("203.0.113.50", ad=True))
    world.give("mail.example.net")
    world.start("165.154.15.1")
    assert ("mail.example.net", "C7") in world.dropped()


def test_c9_a_name_is_asked_at_its_links_servers_and_retried_when_that_fails() -> None:
    world = World()
    server = Server("10.0.0.53", ifindex=2)
    world.host("mail.example.net", FAILED)
    world.give("mail.example.net")
    view = ServerView(VIEW.default, ((2, (server,)),))
    world.send(ServersRead(view), FactsRead(facts("165.154.15.1")))
    assert [q.servers for q in world.asked if q.name == "mail.example.net"] == [(server,), (server,)]
    assert listed(world) == []
    assert world.state == "degraded"
    world.host("mail.example.net", at("203.0.113.50"))
    world.pass_time(2.1)
    assert listed(world) == [("mail.example.net", "link")]


def test_e1_set_link_relays_runs_a_round() -> None:
    world = world_with("10:noc.hookup.net.")
    world.start("165.154.15.1")
    world.give(LAN)
    assert world.rounds[-1] == "link relays"
    assert world.best == f"{LAN}:25"
    world.give()
    assert world.best == "noc.hookup.net:25"


def test_c9_the_source_is_link() -> None:
    world = World()
    world.give(LAN)
    world.start("165.154.15.1")
    relay = world.said.relays[0].relay
    assert relay.source is Source.LINK
    assert relay.addresses == (ip_address(LAN),)
    assert (relay.name, relay.level, relay.preference) == ("", None, None)
