"""Rule F1: which of the servers that are known are asked for what."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from salsa_agent.core.addresses import families
from salsa_agent.core.events import FactsRead, ServersRead
from salsa_agent.core.model import DefaultRoute, DomainRoute, HostAddress, NetworkFacts, Server, ServerView
from salsa_agent.core.servers import without_own_links
from tests.core.sim import World, facts, host

COMMON = Server("192.0.2.53")
WIFI, VPN = Server("192.168.1.1", ifindex=2), Server("10.8.0.1", ifindex=3)
VIEW = ServerView((COMMON,), ((2, (WIFI,)), (3, (VPN,))), (COMMON,))


def routed(*routes: tuple[str, int, Server]) -> ServerView:
    return VIEW._replace(routes=tuple(DomainRoute(domain, index, (server,)) for domain, index, server in routes))


def own(ip: str, index: int = 4) -> HostAddress:
    return HostAddress(ip_address(ip), index, scope=0, flags=0x80)


# --- a link's own servers, and the global ones behind them


def test_f1_the_global_servers_stand_behind_those_of_a_link() -> None:
    assert VIEW.of_link(2) == (WIFI, COMMON._replace(fallback=True))
    assert VIEW.of_link(9) == (COMMON,)
    assert VIEW._replace(common=()).of_link(2) == (WIFI,)


def test_f1_a_global_server_that_is_the_links_own_is_not_asked_twice() -> None:
    assert VIEW._replace(common=(WIFI, COMMON)).of_link(2) == (WIFI, COMMON._replace(fallback=True))


# --- names that are not the reverse tree's


def test_f1_a_name_below_a_routing_domain_is_asked_at_its_link() -> None:
    view = routed(("corp.example", 3, VPN))
    for name in ("corp.example", "mail.corp.example", "Mail.Corp.Example."):
        assert view.servers_for(name, 2) == (VPN,)
    for name in ("mail.example", "notcorp.example", "example"):
        assert view.servers_for(name, 2) == view.of_link(2)
        assert view.servers_for(name, 0) == (COMMON,)


def test_f1_the_longest_domain_decides() -> None:
    view = routed(("example", 2, WIFI), ("corp.example", 3, VPN), ("", 0, COMMON))
    assert view.servers_for("mail.corp.example", 2) == (VPN,)
    assert view.servers_for("mail.example", 3) == (WIFI,)
    assert view.servers_for("mail.test", 3) == (COMMON,)


def test_f1_of_two_links_with_the_domain_the_names_own_is_first() -> None:
    view = routed(("corp.example", 2, WIFI), ("corp.example", 3, VPN))
    assert view.servers_for("mail.corp.example", 3) == (VPN, WIFI)
    assert view.servers_for("mail.corp.example", 2) == (WIFI, VPN)
    assert view.servers_for("mail.corp.example", 0) == (WIFI, VPN)


# --- servers that are this host itself


def test_f1_a_server_that_is_an_own_address_is_asked_without_its_link() -> None:
    view = routed(("corp.example", 3, VPN))
    here = without_own_links(view, frozenset((own("192.168.1.1"), own("10.8.0.1"))))
    assert here.of_link(2)[0] == WIFI._replace(ifindex=0)
    assert here.of_link(3)[0] == VPN._replace(ifindex=0)
    assert here.servers_for("mail.corp.example", 2) == (VPN._replace(ifindex=0),)
    assert without_own_links(view, frozenset((own("192.168.1.2"),))) == view


def test_f1_an_own_ipv4_link_local_server_needs_no_link_and_an_ipv6_one_does() -> None:
    four, six = Server("169.254.20.10", ifindex=2), Server("fe80::10", ifindex=2)
    view = ServerView(links=((2, (four, six)),))
    here = without_own_links(view, frozenset((own("169.254.20.10"), own("fe80::10"))))
    assert here.of_link(2) == (four._replace(ifindex=0), six)


def test_f1_the_engine_asks_an_own_server_without_the_link() -> None:
    world = World()
    world.send(ServersRead(VIEW), FactsRead(facts("165.154.15.1", host("192.168.1.1", index=4))))
    assert {question.servers[0] for question in world.asked} == {WIFI._replace(ifindex=0)}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (facts("192.0.2.5", "fe80::1", defaults=()), {4}),
        (facts("2001:db8::5", "127.0.0.1", defaults=()), {6}),
        (facts("::1", "fe80::1", "127.0.0.1", defaults=()), set()),
        (facts("192.0.2.5", defaults=[DefaultRoute(10, 2, 1024)]), {4, 6}),
        (facts(defaults=[DefaultRoute(2, 2, 100)]), {4}),
    ],
)
def test_f2_the_families_of_which_the_host_has_an_address_or_a_default_route(
    known: NetworkFacts, expected: set[int]
) -> None:
    assert families(known) == expected
