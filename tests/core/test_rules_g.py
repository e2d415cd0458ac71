"""Rule G1: the external address, as a NAT tells it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.events import DiscoverExternalAddress, ExternalAddressFound, FactsRead, ServersRead, SettingsRead
from salsa_agent.core.model import DefaultRoute, Link, RelayKey, RouteChoice
from salsa_agent.core.settings import Network, Settings
from tests.core.sim import VIEW, World, at, facts, host, mx

NAT = Settings(network=Network(nat="nat-pmp"))
STUN = Settings(network=Network(nat="stun", stun_server=RelayKey("stun.example.net", 3479)))
HOME = DefaultRoute(2, 2, 100, "192.168.1.1")
OUTSIDE = "203.0.113.7"
NOC = "noc.hookup.net"


def world(settings: Settings = NAT, outside: str | None = OUTSIDE) -> World:
    """A host behind a NAT whose outside network publishes a relay."""
    made = World(settings)
    made.outside = ip_address(outside) if outside else None
    made.mx("113.0.203.in-addr.arpa", mx(f"10:{NOC}."))
    made.host(NOC, at("198.51.100.1"))
    return made


def start(made: World, *ips: str) -> None:
    made.send(ServersRead(VIEW), FactsRead(facts(*(ips or ("192.168.1.5",)), defaults=[HOME])))


def nat_request(made: World) -> DiscoverExternalAddress:
    last = made.nat_requests[-1]
    assert last is not None
    return last


def test_g1_off_by_default() -> None:
    made = world(Settings())
    start(made)
    assert made.nat_requests == []
    assert made.best == ""


def test_g1_the_default_gateway_is_asked_and_its_address_counts() -> None:
    made = world()
    start(made)
    assert (nat_request(made).method, nat_request(made).gateway, nat_request(made).ifindex) == (
        "nat-pmp",
        "192.168.1.1",
        2,
    )
    assert made.best == f"{NOC}:25"
    assert [(str(e.address.ip), e.address.origin) for e in made.said.evidence] == [
        ("192.168.1.5", "link"),
        (OUTSIDE, "nat"),
    ]


def test_g1_stun_asks_its_server() -> None:
    made = world(STUN)
    start(made)
    assert (nat_request(made).method, nat_request(made).server) == ("stun", ("stun.example.net", 3479))
    assert nat_request(made).servers == VIEW.default
    assert made.best == f"{NOC}:25"


def test_g1_it_counts_after_its_own_links_addresses() -> None:
    made = world()
    links = (Link(2, "eth0", usable=True), Link(3, "wlan0", usable=True))
    hosts = (host("192.168.1.5"), host("192.168.1.6"), host("10.0.0.1", index=3))
    choices = (RouteChoice(2, 2),)
    made.send(ServersRead(VIEW), FactsRead(facts(*hosts, links=links, defaults=[HOME], choices=choices)))
    assert [str(e.address.ip) for e in made.said.evidence] == ["192.168.1.5", "192.168.1.6", OUTSIDE, "10.0.0.1"]
    assert made.said.evidence[2].address.interface == "eth0"


@pytest.mark.parametrize("private", ["10.1.2.3", "172.16.0.1", "192.168.9.9", "100.64.0.1", "fd00::1", "127.0.0.1"])
def test_g1_a_private_result_is_not_used(private: str) -> None:
    made = world(outside=private)
    start(made)
    assert [str(e.address.ip) for e in made.said.evidence] == ["192.168.1.5"]


def test_g1_an_external_address_that_is_an_own_one_is_nothing_new() -> None:
    made = world(outside="203.0.113.7")
    start(made, "203.0.113.7")
    assert [e.address.origin for e in made.said.evidence] == ["link"]


def test_g1_a_round_waits_for_it_at_most_the_dns_part() -> None:
    made = world()
    made.nat_silent = True
    start(made)
    made.pass_time(7.9)
    assert made.state == "starting"
    made.pass_time(0.2)
    assert made.state == "ready"
    made.send(ExternalAddressFound(nat_request(made), ip_address(OUTSIDE)))  # retransmission went on
    assert made.rounds[-1] == "external address"
    assert made.best == f"{NOC}:25"


def test_g1_a_changed_answer_starts_a_round() -> None:
    made = world()
    start(made)
    made.send(ExternalAddressFound(nat_request(made), ip_address(OUTSIDE)))
    assert made.rounds == ["start"]
    made.send(ExternalAddressFound(nat_request(made), ip_address("198.51.100.9")))
    assert made.rounds == ["start", "external address"]
    assert made.best == ""


def test_g1_a_changed_address_is_noticed_at_the_next_round() -> None:
    made = world()
    start(made)
    made.outside = ip_address("198.51.100.9")
    made.refresh()
    assert [str(e.address.ip) for e in made.said.evidence] == ["192.168.1.5", "198.51.100.9"]


def test_g1_no_answer_takes_nothing_away_on_an_unchanged_network() -> None:
    made = world()
    start(made)
    made.outside = None
    made.refresh()
    assert made.best == f"{NOC}:25"


def test_g1_on_another_network_the_old_answer_is_void() -> None:
    made = world()
    start(made)
    old = nat_request(made)
    made.outside = None
    made.send(FactsRead(facts("192.168.1.9", defaults=[HOME])))
    assert made.best == ""
    made.send(ExternalAddressFound(old, ip_address(OUTSIDE)))
    assert made.best == ""


def test_g1_a_question_still_on_its_way_is_not_asked_again() -> None:
    made = world()
    made.nat_silent = True
    start(made)
    made.pass_time(9)
    asked = len(made.nat_requests)
    made.refresh()
    assert len(made.nat_requests) == asked


def test_g1_turned_off_by_a_reload() -> None:
    made = world()
    start(made)
    made.send(SettingsRead(replace(NAT, network=Network())))
    assert made.nat_requests[-1] is None
    assert made.best == ""
    assert [e.address.origin for e in made.said.evidence] == ["link"]


@pytest.mark.parametrize(
    "route",
    [DefaultRoute(2, 2, 1, ""), DefaultRoute(10, 2, 1, "fe80::1"), DefaultRoute(2, 2, 1, "192.168.1.1", table=99)],
)
def test_g1_no_gateway_nothing_to_ask(route: DefaultRoute) -> None:
    made = world()
    made.send(ServersRead(VIEW), FactsRead(facts("192.168.1.5", defaults=[route])))
    assert made.nat_requests == []
    assert made.state == "ready"
