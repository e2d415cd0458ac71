"""The netlink driver against a real kernel, in network namespaces of its own."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import count, pairwise
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from salsa_agent.core.addresses import counting
from salsa_agent.core.model import DefaultRoute, Link, NetworkFacts, RouteChoice
from salsa_agent.core.settings import DEFAULT_IGNORE
from salsa_agent.netlink import monitor
from salsa_agent.netlink.kernel_socket import EventSocket
from salsa_agent.netlink.monitor import Netlink
from salsa_agent.netlink.queries import KernelQueries
from tests.lab.netns import Netns
from tests.parts.netlink.watch import (
    DEPRECATED,
    NOPREFIXROUTE,
    PATIENCE,
    TENTATIVE,
    Watch,
    choice_of,
    has,
    texts,
    watching,
)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the routes were looked up: once for each snapshot."""
    times: list[float] = []

    def counted(self: KernelQueries) -> Any:
        times.append(time.monotonic())
        return original(self)

    original = KernelQueries.choices
    monkeypatch.setattr(KernelQueries, "choices", counted)
    return times


# --- the first dump


async def test_a_host_without_addresses_is_told_of_once() -> None:
    with Netns() as bare, bare.inside():
        bare.batch(["link set lo down", "addr flush dev lo"])
        async with watching() as watch:
            assert not watch.now.addresses
            assert not watch.now.defaults
            assert not watch.now.choices
            assert watch.now.links == {Link(1, "lo", usable=False, loopback=True)}
            assert len(watch.told) == 1


async def test_the_first_dump_has_everything(host: Netns) -> None:
    host.batch(
        ["addr add 192.0.2.5/24 dev up0", "addr add 192.0.2.6/24 dev up0", "addr add 2001:db8::5/64 dev up0 nodad"]
    )
    host.batch(["route add default via 192.0.2.1 metric 7", "route add default via 2001:db8::1 metric 9"])
    host.ip("route", "add", "default", "via", "192.0.2.9", "table", "1000")
    index = host.index("up0")
    async with watching() as watch:
        assert has("192.0.2.5", "192.0.2.6", "2001:db8::5")(watch.now)
        assert watch.link("up0") == Link(index, "up0", usable=True, carrier_changes=2)
        assert watch.link("lo").loopback
        assert watch.now.defaults == {
            DefaultRoute(AF_INET, index, 7, "192.0.2.1"),
            DefaultRoute(AF_INET6, index, 9, "2001:db8::1"),
        }
        assert watch.now.choices == {
            RouteChoice(AF_INET, index, ip_address("192.0.2.5")),
            RouteChoice(AF_INET6, index, ip_address("2001:db8::5")),
        }


# --- addresses


async def test_addresses_come_and_go(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
        await watch.until(has("192.0.2.5"))
        host.ip("addr", "add", "198.51.100.5/24", "dev", "up0")
        await watch.until(has("192.0.2.5", "198.51.100.5"))
        host.ip("addr", "del", "192.0.2.5/24", "dev", "up0")
        await watch.until(has("198.51.100.5"))


async def test_the_same_address_twice_goes_when_the_last_one_goes(host: Netns) -> None:
    async with watching() as watch:
        host.batch(["addr add 192.0.2.5/24 dev up0", "addr add 192.0.2.5/25 dev up0", "addr add 192.0.2.9/24 dev up0"])
        await watch.until(has("192.0.2.5", "192.0.2.9"))
        host.batch(["addr del 192.0.2.5/25 dev up0", "addr del 192.0.2.9/24 dev up0"])
        await watch.until(has("192.0.2.5"))
        host.ip("addr", "del", "192.0.2.5/24", "dev", "up0")
        await watch.until(has())


async def test_a1_an_ipv6_address_is_tentative_first(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "2001:db8::5/64", "dev", "up0")
        await watch.until(has("2001:db8::5"))
        assert watch.address("2001:db8::5").flags & TENTATIVE
        await watch.until(lambda facts: not watch.address("2001:db8::5").flags & TENTATIVE)


async def test_a1_without_dad_it_is_not_tentative(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "2001:db8::5/64", "dev", "up0", "nodad")
        await watch.until(has("2001:db8::5"))
        assert not watch.address("2001:db8::5").flags & TENTATIVE


async def test_a1_preferred_lifetime_0(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "2001:db8::5/64", "dev", "up0", "nodad")
        await watch.until(has("2001:db8::5"))
        assert watch.address("2001:db8::5").preferred
        host.ip("addr", "change", "2001:db8::5/64", "dev", "up0", "preferred_lft", "0")
        await watch.until(lambda facts: not watch.address("2001:db8::5").preferred)
        assert watch.address("2001:db8::5").flags & DEPRECATED


@pytest.mark.parametrize(("own", "peer"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
async def test_a1_of_a_point_to_point_link_the_own_address_counts(host: Netns, own: str, peer: str) -> None:
    async with watching() as watch:
        host.ip("addr", "add", own, "peer", peer, "dev", "up0", *(["nodad"] if ":" in own else []))
        await watch.until(has(own))


async def test_a_point_to_point_address_with_two_peers_goes_with_the_last(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "up0")
        host.ip("addr", "add", "192.0.2.1", "peer", "192.0.2.3", "dev", "up0")
        await watch.until(has("192.0.2.1"))
        host.batch(["addr del 192.0.2.1 peer 192.0.2.2 dev up0", "addr add 192.0.2.77/32 dev up0"])
        await watch.until(has("192.0.2.1", "192.0.2.77"))
        host.ip("addr", "del", "192.0.2.1", "peer", "192.0.2.3", "dev", "up0")
        await watch.until(has("192.0.2.77"))


async def test_a1_an_ipv6_peer_that_changes_leaves_one_address(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "2001:db8::1", "peer", "2001:db8::2", "dev", "up0", "nodad")
        await watch.until(has("2001:db8::1"))
        host.ip("addr", "change", "2001:db8::1", "peer", "2001:db8::3", "dev", "up0", "nodad")
        host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
        await watch.until(has("2001:db8::1", "192.0.2.5"))
        host.ip("addr", "del", "2001:db8::1", "peer", "2001:db8::3", "dev", "up0")
        await watch.until(has("192.0.2.5"))


async def test_a1_flags_have_32_bits(host: Netns) -> None:
    async with watching() as watch:
        host.ip("addr", "add", "2001:db8::5/64", "dev", "up0", "nodad", "noprefixroute")
        await watch.until(has("2001:db8::5"))
        assert watch.address("2001:db8::5").flags & NOPREFIXROUTE


async def test_e2_a_change_is_emitted_within_a_few_turns_of_the_event_loop(host: Netns) -> None:
    """Nothing in between waits for a clock: the event, the route lookups in both families, the snapshot."""
    async with watching() as watch:
        told = len(watch.told)
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if len(watch.told) == told:
                asyncio.get_running_loop().call_soon(turn)

        host.ip("addr", "add", "192.0.2.5/32", "dev", "up0", "noprefixroute")
        asyncio.get_running_loop().call_soon(turn)
        await watch.until(has("192.0.2.5"))
        assert turns <= 10


async def test_a_defect_where_a_change_is_told_ends_the_run(host: Netns) -> None:
    """The agent ends with it rather than go on with half of itself."""
    told: list[NetworkFacts] = []

    def stumble(facts: NetworkFacts) -> None:
        told.append(facts)
        if len(told) > 1:
            raise RuntimeError("a defect")

    running = asyncio.create_task(Netlink(stumble).run())
    async with asyncio.timeout(PATIENCE):
        while not told:
            await asyncio.sleep(0.005)
        host.ip("addr", "add", "192.0.2.5/32", "dev", "up0", "noprefixroute")
        with pytest.raises(RuntimeError, match="a defect"):
            await running


async def test_e1_a_repeated_address_is_no_news(host: Netns, lookups: list[float]) -> None:
    address = ["2001:db8::5/64", "dev", "up0", "nodad", "noprefixroute", "valid_lft", "600", "preferred_lft"]
    host.ip("addr", "add", *address, "300")
    async with watching() as watch:
        before = len(lookups)
        for life in range(301, 311):  # what a router advertisement does to each address
            host.ip("addr", "change", *address, str(life))
            await asyncio.sleep(0.01)
        host.ip("addr", "add", "192.0.2.5/32", "dev", "up0")
        await watch.until(has("2001:db8::5", "192.0.2.5"))
        assert len(lookups) - before <= 2  # for the IPv4 address alone; it and its route are not one message
        assert len(watch.told) == 2


# --- links


async def test_a1_carrier_lost_and_found(host: Netns) -> None:
    far: Netns = host.far  # type: ignore[attr-defined]
    host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
    async with watching() as watch:
        assert watch.link("up0").usable
        far.ip("link", "set", "down0", "down")
        await watch.until(lambda facts: not watch.link("up0").usable)
        assert has("192.0.2.5")(watch.now)  # the kernel keeps it, and says nothing
        far.ip("link", "set", "down0", "up")
        await watch.until(lambda facts: watch.link("up0").usable)


async def test_a_link_that_goes_takes_its_addresses_and_routes(host: Netns) -> None:
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    async with watching() as watch:
        assert watch.now.defaults
        host.ip("link", "del", "up0")
        await watch.until(lambda facts: all(link.name == "lo" for link in facts.links))
        await watch.until(lambda facts: not texts(facts) and not facts.defaults and not facts.choices)


async def test_a_renamed_link_keeps_what_it_has(host: Netns) -> None:
    host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
    async with watching() as watch:
        index = watch.link("up0").index
        host.ip("link", "set", "up0", "name", "wan0")
        await watch.until(lambda facts: Link(index, "wan0", usable=True, carrier_changes=2) in facts.links)
        assert has("192.0.2.5")(watch.now)
        assert all(link.name != "up0" for link in watch.now.links)


async def test_a_port_that_leaves_its_bridge_is_still_a_link(host: Netns) -> None:
    host.batch(["link add br9 type bridge", "link set br9 up"])
    async with watching() as watch:
        host.ip("link", "set", "up0", "master", "br9")
        await watch.until(lambda facts: any(link.name == "br9" and link.usable for link in facts.links))
        host.ip("link", "set", "up0", "nomaster")  # RTM_DELLINK of family AF_BRIDGE, with the port's index
        await watch.until(lambda facts: any(link.name == "br9" and not link.usable for link in facts.links))
        assert watch.link("up0").usable


# --- routes and rules


async def test_a4_a_default_route_and_its_metric(host: Netns) -> None:
    host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
    index = host.index("up0")
    async with watching() as watch:
        assert not watch.now.defaults
        assert not watch.now.choices
        host.ip("route", "add", "default", "via", "192.0.2.1", "metric", "100")
        await watch.until(lambda facts: facts.defaults == {DefaultRoute(AF_INET, index, 100, "192.0.2.1")})
        await watch.until(lambda facts: choice_of(facts, AF_INET) is not None)
        host.ip("route", "add", "default", "via", "192.0.2.1", "metric", "50")
        host.ip("route", "del", "default", "via", "192.0.2.1", "metric", "100")
        await watch.until(lambda facts: facts.defaults == {DefaultRoute(AF_INET, index, 50, "192.0.2.1")})
        host.ip("route", "replace", "default", "via", "192.0.2.254", "metric", "50")
        await watch.until(lambda facts: facts.defaults == {DefaultRoute(AF_INET, index, 50, "192.0.2.254")})


async def test_a_default_route_with_several_next_hops_is_several(host: Netns) -> None:
    host.batch(["addr add 192.0.2.5/24 dev up0", "addr add 2001:db8::5/64 dev up0 nodad"])
    index = host.index("up0")
    hops = ("nexthop", "via", "{}1", "dev", "up0", "nexthop", "via", "{}2", "dev", "up0")
    async with watching() as watch:
        host.ip("route", "add", "default", *(word.format("192.0.2.") for word in hops))
        host.ip("-6", "route", "add", "default", "metric", "9", *(word.format("2001:db8::") for word in hops))
        await watch.until(
            lambda facts: (
                facts.defaults
                == {
                    DefaultRoute(AF_INET, index, 0, "192.0.2.1"),
                    DefaultRoute(AF_INET, index, 0, "192.0.2.2"),
                    DefaultRoute(AF_INET6, index, 9, "2001:db8::1"),
                    DefaultRoute(AF_INET6, index, 9, "2001:db8::2"),
                }
            )
        )


async def test_a_default_route_by_way_of_the_other_family(host: Netns) -> None:
    host.ip("addr", "add", "192.0.2.5/32", "dev", "up0")
    index = host.index("up0")
    async with watching() as watch:
        host.ip("-4", "route", "add", "default", "via", "inet6", "fe80::1", "dev", "up0")
        await watch.until(lambda facts: facts.defaults == {DefaultRoute(AF_INET, index, 0, "fe80::1")})


async def test_routes_that_the_kernel_drops_unsaid_are_gone(host: Netns) -> None:
    far: Netns = host.far  # type: ignore[attr-defined]
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    async with watching() as watch:
        assert watch.now.defaults
        host.ip("link", "set", "up0", "down")
        await watch.until(lambda facts: not facts.defaults and not facts.choices)
        # and of a link that had no carrier, where nothing else changes
        far.ip("link", "set", "down0", "down")
        host.batch(["link set up0 up", "route add default dev up0"])
        await watch.until(lambda facts: bool(facts.defaults))
        host.ip("link", "set", "up0", "down")
        await watch.until(lambda facts: not facts.defaults)
        # and with the address they prefer
        far.ip("link", "set", "down0", "up")
        host.batch(["link set up0 up", "addr add 192.0.2.9/24 dev up0"])
        host.ip("route", "add", "default", "via", "192.0.2.1", "src", "192.0.2.9")
        await watch.until(lambda facts: bool(facts.defaults))
        host.ip("addr", "del", "192.0.2.9/24", "dev", "up0")
        await watch.until(lambda facts: not facts.defaults)


@pytest.mark.parametrize(
    ("address", "default", "halves"),
    [("10.0.0.1/24", "192.0.2.1", ("0.0.0.0/1", "128.0.0.0/1")), ("fd00::1/64", "2001:db8::1", ("::/1", "8000::/1"))],
)
async def test_a4_half_routes_move_the_choice(host: Netns, address: str, default: str, halves: tuple[str, str]) -> None:
    family = AF_INET6 if ":" in address else AF_INET
    host.batch(["link add vpn0 type veth peer name vpn1", "link set vpn0 up", "link set vpn1 up"])
    host.batch(["addr add 192.0.2.5/24 dev up0", "addr add 2001:db8::5/64 dev up0 nodad"])
    host.ip("addr", "add", address, "dev", "vpn0", *(["nodad"] if family == AF_INET6 else []))
    host.ip("route", "add", "default", "via", default)
    up, vpn = host.index("up0"), host.index("vpn0")
    async with watching() as watch:
        choice = choice_of(watch.now, family)
        assert choice and choice.index == up
        for half in halves:
            host.ip("route", "add", half, "dev", "vpn0")
        wanted = RouteChoice(family, vpn, ip_address(address.partition("/")[0]))
        await watch.until(lambda facts: choice_of(facts, family) == wanted)
        assert {route.index for route in watch.now.defaults} == {up}
        for half in halves:
            host.ip("route", "del", half, "dev", "vpn0")
        await watch.until(lambda facts: choice_of(facts, family) == choice)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
async def test_a4_a_rule_with_a_table_of_its_own_moves_the_choice(host: Netns, family: int) -> None:
    if family == AF_INET:
        flag, own, out, gateway = "-4", "10.0.0.1/24", "192.0.2.5/24", "192.0.2.1"
    else:
        flag, own, out, gateway = "-6", "fd00::1/64", "2001:db8::5/64", "2001:db8::1"
    nodad = ["nodad"] if family == AF_INET6 else []
    host.batch(["link add vpn0 type veth peer name vpn1", "link set vpn0 up", "link set vpn1 up"])
    host.ip("addr", "add", out, "dev", "up0", *nodad)
    host.ip("addr", "add", own, "dev", "vpn0", *nodad)
    host.ip("route", "add", "default", "via", gateway)
    up, vpn = host.index("up0"), host.index("vpn0")
    async with watching() as watch:
        host.ip(flag, "route", "add", "default", "dev", "vpn0", "table", "51820", "metric", "5")
        choice = choice_of(watch.now, family)
        assert choice and choice.index == up
        rule = ("not", "fwmark", "51820", "table", "51820")
        host.ip(flag, "rule", "add", *rule)
        wanted = RouteChoice(family, vpn, ip_address(own.partition("/")[0]))
        await watch.until(lambda facts: choice_of(facts, family) == wanted)
        assert {route.index for route in watch.now.defaults} == {up}
        host.ip(flag, "rule", "del", *rule)
        await watch.until(lambda facts: choice_of(facts, family) == choice)


async def test_e1_the_rules_and_tables_of_ten_pods_are_no_news(host: Netns) -> None:
    """Each has two rules and a table; none of it moves what the kernel chooses for the host itself."""
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    async with watching() as watch:
        for pod in range(1, 11):
            own = f"10.244.0.{pod}"
            host.batch([f"rule add from {own} table 10{pod}", f"rule add to {own} table main"])
            host.batch([f"route add default via 192.0.2.{100 + pod} table 10{pod}"])
            await asyncio.sleep(0)
        host.ip("addr", "add", "198.51.100.5/32", "dev", "up0")  # the sign that all before it was read
        await watch.until(has("192.0.2.5", "198.51.100.5"))
        assert len(watch.told) == 2


async def test_e1_a_gateway_of_a_table_that_the_kernel_chooses_is_news(host: Netns) -> None:
    host.batch(["addr add 192.0.2.5/24 dev up0", "rule add table 100", "route add default via 192.0.2.1 table 100"])
    index, source = host.index("up0"), ip_address("192.0.2.5")
    async with watching() as watch:
        assert watch.now.choices == {RouteChoice(AF_INET, index, source, "192.0.2.1")}
        host.ip("route", "replace", "default", "via", "192.0.2.9", "table", "100")
        await watch.until(lambda facts: facts.choices == {RouteChoice(AF_INET, index, source, "192.0.2.9")})


async def test_a1_an_address_on_loopback_that_the_kernel_picks_as_its_source(host: Netns) -> None:
    """As a host has it that announces its address by BGP."""
    host.batch(["addr add 203.0.113.9/32 dev lo", "addr add 192.0.2.5/24 dev up0"])
    host.ip("route", "add", "default", "via", "192.0.2.1", "src", "203.0.113.9")
    async with watching() as watch:
        found = counting(watch.now, DEFAULT_IGNORE)
        assert [(str(one.ip), one.interface) for one in found] == [("203.0.113.9", "up0"), ("192.0.2.5", "up0")]


async def test_a_blackhole_is_no_choice_and_no_default_route(host: Netns) -> None:
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1 metric 5"])
    async with watching() as watch:
        assert watch.now.choices
        host.ip("route", "add", "blackhole", "0.0.0.0/1")
        host.ip("route", "add", "blackhole", "128.0.0.0/1")
        await watch.until(lambda facts: not facts.choices)
        host.ip("route", "replace", "unreachable", "default", "metric", "5")
        await watch.until(lambda facts: not facts.defaults)


# --- overruns and interrupted dumps


def storm(first: int, count: int, verb: str) -> list[str]:
    return [f"addr {verb} 10.{n >> 8}.{n & 255}.1/32 dev up0" for n in range(first, first + count)]


async def test_e3_an_overrun_leads_to_a_fresh_dump(host: Netns, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "salsa-agent")
    async with watching(rcvbuf=4096) as watch:
        host.batch(
            ["addr add 192.0.2.5/24 dev up0", *storm(0, 300, "add"), *storm(0, 299, "del")]
        )  # the loop is blocked
        await watch.until(has("192.0.2.5", "10.1.43.1"))
        assert "more network changes than the netlink socket could hold" in caplog.text
        assert all(one.levelno < logging.WARNING for one in caplog.records)  # nor does asyncio stumble
        host.ip("addr", "del", "10.1.43.1/32", "dev", "up0")  # and the new socket is followed as the old one was
        await watch.until(has("192.0.2.5"))


async def test_e3_many_overruns_leave_no_descriptor_behind(host: Netns) -> None:
    async with watching(rcvbuf=4096) as watch:
        await watch.until(lambda facts: True)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            host.batch([*storm(0, 300, "add"), *storm(0, 300, "del"), "addr add 192.0.2.5/24 dev up0"])
            await watch.until(has("192.0.2.5"))
            host.ip("addr", "del", "192.0.2.5/24", "dev", "up0")
            await watch.until(has())
        assert len(os.listdir("/proc/self/fd")) <= before


async def test_e3_an_interrupted_dump_is_done_again(host: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel cannot be made to interrupt a dump on command: a dump that lacks something, and says so."""
    dumps = 0

    async def counted(self: KernelQueries) -> Any:
        nonlocal dumps
        dumps += 1
        found = await original(self)
        if dumps == 1:
            self.dump_consistent = False
            return {}
        return found

    original = KernelQueries.links
    monkeypatch.setattr(KernelQueries, "links", counted)
    async with watching() as watch:
        assert dumps == 2
        assert {link.name for link in watch.told[0].links} >= {"lo", "up0"}


async def test_e3_a_change_while_dumping_is_not_lost(host: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(self: KernelQueries) -> Any:
        found = await original(self)
        if not any(str(address.ip) == "192.0.2.5" for address in found.values()):
            host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")  # the dump missed it
            await asyncio.sleep(0.1)
        return found

    original = KernelQueries.addresses
    monkeypatch.setattr(KernelQueries, "addresses", slow)
    async with watching() as watch:
        await watch.until(has("192.0.2.5"))


async def test_e3_a_dump_that_is_always_interrupted_holds_nothing_up(
    host: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps = 0
    calm = False

    async def counted(self: KernelQueries) -> Any:
        nonlocal dumps
        dumps += 1
        found = await original(self)
        self.dump_consistent = calm
        return found

    original = KernelQueries.addresses
    monkeypatch.setattr(KernelQueries, "addresses", counted)
    async with watching() as watch:
        assert dumps == 4
        host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
        await watch.until(has("192.0.2.5"))
        calm = True
        before = dumps
        async with asyncio.timeout(PATIENCE):
            while dumps == before:  # with no event at all: it is tried again by itself
                await asyncio.sleep(0.05)


async def test_e3_churn_while_dumping_ends_in_the_kernels_state(host: Netns) -> None:
    """Dumps all the while addresses come and go: 30 of 30 such dumps were seen interrupted."""
    host.batch(storm(0, 500, "add"))
    lines = [line for n in range(8) for line in (*storm(1000, 300, "add"), *storm(1000, 300, "del"))]
    async with watching() as watch:
        process = host.exec(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        assert process.stdin
        await feed(process, [*lines, *storm(0, 500, "del"), "addr add 192.0.2.5/24 dev up0"], watch.netlink.reread)
        await watch.until(has("192.0.2.5"))


async def feed(process: subprocess.Popen[Any], lines: list[str], between: Callable[[], None]) -> None:
    """Give the process its lines in portions, the loop running all the while; wait for its end."""
    assert process.stdin
    for start in range(0, len(lines), 100):
        process.stdin.write("".join(f"{line}\n" for line in lines[start : start + 100]))
        process.stdin.flush()
        between()
        await asyncio.sleep(0)
    process.stdin.close()
    async with asyncio.timeout(PATIENCE):
        while process.poll() is None:
            between()
            await asyncio.sleep(0.005)
    assert process.returncode == 0


# --- storms


def routes(verb: str, count: int) -> list[str]:
    return [f"route {verb} 10.{n >> 8}.{n & 255}.0/24 dev up0" for n in range(count)]


async def test_a_storm_of_addresses_ends_in_the_right_facts(host: Netns) -> None:
    lines = [*storm(0, 4000, "add"), *storm(0, 4000, "del")] * 2
    async with watching() as watch:
        process = host.exec(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True)
        started = time.process_time()
        await feed(process, [*lines, "addr add 192.0.2.5/24 dev up0"], lambda: None)
        ended = time.monotonic()
        await watch.until(has("192.0.2.5"))
        assert time.monotonic() - ended < 5
        spent = time.process_time() - started
        assert len(watch.told) < 200  # of 16,000 changes
        assert spent < 15


async def test_a_storm_of_routes_is_not_kept_and_costs_few_snapshots(
    host: Netns, lookups: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps = 0

    async def counted(self: KernelQueries) -> Any:
        nonlocal dumps
        dumps += 1
        return await original(self)

    original = KernelQueries.defaults
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    async with watching() as watch:
        monkeypatch.setattr(KernelQueries, "defaults", counted)
        gc.collect()
        objects, told, started = len(gc.get_objects()), len(watch.told), time.monotonic()
        lookups.clear()
        lines = routes("add", 10000)
        for start in range(0, len(lines), 200):  # in portions, so that no overrun leads to a dump
            host.batch(lines[start : start + 200])
            await asyncio.sleep(0.01)
        host.ip("route", "add", "198.41.0.0/24", "dev", "lo")  # the sign that all before it was read
        await watch.until(lambda facts: any(choice.index == 1 for choice in facts.choices))
        assert 0 < len(lookups) <= 11 + (time.monotonic() - started) / 0.1
        gc.collect()
        assert len(gc.get_objects()) - objects < 5000
        assert dumps == 0
        assert len(watch.told) == told + 1


# --- the end


async def test_cancel_leaves_no_descriptor_and_no_task(host: Netns) -> None:
    async with watching():  # whatever is made once is made
        pass
    await asyncio.sleep(0)
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = asyncio.all_tasks()
    async with watching() as watch:
        host.batch(storm(0, 50, "add"))
        await watch.until(lambda facts: len(texts(facts)) == 50)
        assert len(os.listdir("/proc/self/fd")) == descriptors + 2
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_cancel_at_any_moment_leaves_nothing(host: Netns, turns: int) -> None:
    async with watching():
        pass
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = asyncio.all_tasks()
    task = asyncio.create_task(Netlink(lambda facts: None).run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_e3_a_kernel_that_refuses_sockets_is_asked_again(
    host: Netns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "salsa-agent")

    def refused(*args: Any, **options: Any) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pyroute2.netns.create_socket", refused)
        watch = Watch()
        task = asyncio.create_task(watch.netlink.run())
        async with asyncio.timeout(PATIENCE):
            while caplog.text.count("netlink failed (EMFILE)") < 2:
                await asyncio.sleep(0.01)
        assert not watch.told
    try:
        await watch.until(lambda facts: True)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    said = [one for one in caplog.records if "netlink failed" in one.message]
    assert [one.levelname for one in said[:2]] == ["WARNING", "DEBUG"]


async def test_e3_a_kernel_that_says_nothing_is_one_without_addresses_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So that the static relay is used. It is asked again, more and more seldom, and at once at `reread`."""
    times: list[float] = []

    def refused(*args: Any, **options: Any) -> None:
        times.append(time.monotonic())
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr("pyroute2.netns.create_socket", refused)
    monkeypatch.setattr(monitor, "SILENCE", 0.5)
    watch = Watch()
    task = asyncio.create_task(watch.netlink.run())
    try:
        started = time.monotonic()
        await watch.until(lambda facts: True)
        assert time.monotonic() - started >= 0.5
        assert watch.told == [NetworkFacts()]
        assert caplog.text.count("netlink failed (EAFNOSUPPORT)") == 1
        async with asyncio.timeout(PATIENCE):
            while len(times) < 5:
                await asyncio.sleep(0.01)
        pauses = [after - before for before, after in pairwise(times)]
        assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True)), pauses
        watch.netlink.reread()
        asked, reread = len(times), time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while len(times) == asked:
                await asyncio.sleep(0.01)
        assert times[-1] - reread < 0.8  # the pause is 1.6 s
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_e3_a_socket_that_fails_again_and_again_is_no_flood_of_warnings_and_dumps(
    host: Netns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one event a second that the library cannot read: each session gets as far as a snapshot."""
    sessions = 0

    async def messages(self: EventSocket) -> Any:
        nonlocal sessions
        sessions += 1
        await asyncio.sleep(0.05)
        raise OSError(errno.EBADMSG, "Bad message")
        yield

    monkeypatch.setattr(EventSocket, "messages", messages)
    async with watching() as watch:
        await asyncio.sleep(2.0)
        assert 2 <= sessions <= 6  # after 0.1, 0.2, 0.4, 0.8 s
        assert caplog.text.count("netlink failed (EBADMSG)") == 1
        assert len(watch.told) == 1


# --- what others refuse (E3)


async def test_e3_a_group_that_is_refused_is_as_if_nothing_came_of_it(
    host: Netns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A group that no kernel has; that is said once, also after an overrun."""
    monkeypatch.setitem(monitor.GROUPS, 200, "wonders")
    async with watching(rcvbuf=4096) as watch:
        host.batch(["addr add 192.0.2.5/24 dev up0", *storm(0, 300, "add"), *storm(0, 300, "del")])
        await watch.until(has("192.0.2.5"))
    said = [one.message for one in caplog.records if "wonders" in one.message]
    assert said == ["the kernel does not tell changes of wonders (EINVAL): going on as if there were none"]


# --- nexthop objects


@pytest.mark.parametrize("compat", [1, 0])
async def test_e3_routes_by_nexthop_objects_are_followed(host: Netns, compat: int) -> None:
    """The kernel drops an IPv4 route with its object, without a message for it."""
    host.sysctl("net/ipv4/nexthop_compat_mode", compat)
    host.batch(["addr add 192.0.2.5/24 dev up0", "nexthop add id 7 via 192.0.2.1 dev up0", "route add default nhid 7"])
    index = host.index("up0")
    async with watching() as watch:
        assert watch.now.defaults == {DefaultRoute(AF_INET, index, 0, "192.0.2.1")}
        host.ip("nexthop", "replace", "id", "7", "via", "192.0.2.9", "dev", "up0")
        await watch.until(lambda facts: facts.defaults == {DefaultRoute(AF_INET, index, 0, "192.0.2.9")})
        host.ip("nexthop", "del", "id", "7")
        await watch.until(lambda facts: not facts.defaults and not facts.choices)
        host.batch(["nexthop add id 1 via 192.0.2.1 dev up0", "nexthop add id 2 via 192.0.2.2 dev up0"])
        host.batch(["nexthop add id 9 group 1/2", "route add default nhid 9 metric 5"])
        both = {DefaultRoute(AF_INET, index, 5, f"192.0.2.{n}") for n in (1, 2)}
        await watch.until(lambda facts: facts.defaults == both)


# --- a carrier that comes back at once


async def test_e3_a_carrier_that_came_back_within_one_message_is_a_change(host: Netns) -> None:
    """The kernel looks at carriers now and then, and may tell of both changes in one message; the counter shows it."""
    far: Netns = host.far  # type: ignore[attr-defined]
    host.ip("addr", "add", "192.0.2.5/24", "dev", "up0")
    async with watching() as watch:
        async with asyncio.timeout(PATIENCE):
            for changes in count(4, 2):  # 2 are there from the start
                told = len(watch.told)
                far.batch(["link set down0 down", "link set down0 up"])
                wanted = replace(watch.link("up0"), usable=True, carrier_changes=changes)
                await watch.until(partial(_has_link, wanted))
                if all(link.usable for facts in watch.told[told:] for link in facts.links if link.name == "up0"):
                    break  # it was never seen without


def _has_link(link: Link, facts: NetworkFacts) -> bool:
    return link in facts.links
