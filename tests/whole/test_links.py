"""The whole program on real links: IPv6 as routers give it, several links, VPNs, carriers, bridges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.netns import veth
from tests.lab.whole import CONFIG, HOME, NET24, NOC, RELAYS, SERVER, VERTEX, Process, World, until

V6 = "2001:db8:7"
NET64 = "0.0.0.0.7.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
V6_RELAY = "2001:db8:9::25"
RADVD = """interface down0 {{
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 30;
  prefix {prefix}::/64 {{ AdvOnLink on; AdvAutonomous on; AdvValidLifetime 60; AdvPreferredLifetime {preferred}; }};
}};
"""


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for relay in (NOC, VERTEX, HOME):
            made.relay(relay)
        yield made


def addresses(world: World) -> list[str]:
    return [one["address"] for one in world.get("Addresses") or ()]


def outcomes(world: World) -> dict[str, str]:
    return {one["address"]: one["outcome"] for one in world.get("Addresses") or ()}


# --- IPv6


class Router:
    """The far side as an IPv6 router; its DNS server and relay are reached by IPv6, too."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.conf = world.directory / "radvd.conf"
        for space, link in ((world.far, "down0"), (world.host, "up0")):
            space.sysctl(f"net/ipv6/conf/{link}/addr_gen_mode", 0)
            space.ip("link", "set", link, "down")
        world.far.sysctl("net/ipv6/conf/all/forwarding", 1)
        world.host.sysctl("net/ipv6/conf/up0/accept_ra", 1)
        world.host.sysctl("net/ipv6/conf/up0/use_tempaddr", 2)
        for space, link in ((world.far, "down0"), (world.host, "up0")):
            space.ip("link", "set", link, "up")
        for address in (f"{V6}::1/64", f"{V6_RELAY}/128"):
            world.far.ip("addr", "add", address, "dev", "down0", "nodad")
        world.far.batch([f"route replace {net}.0/24 dev down0" for net in ("165.154.15", "198.51.100")])
        self.advertise()

    def advertise(self, preferred: int = 30) -> None:
        self.conf.write_text(RADVD.format(prefix=V6, preferred=preferred))

    def start(self) -> Process:
        argv = ["radvd", "-n", "-C", str(self.conf), "-p", str(self.world.directory / "radvd.pid"), "-m", "stderr"]
        return self.world.start(self.world.far, argv)


@pytest.mark.timeout(150)
def test_slaac_temporary_addresses_and_deprecation(world: World) -> None:
    """B1: no question for the 128-bit name of a temporary address; E1: router advertisements cost nothing."""
    world.publish(world.zone | {NET64: {"MX": [f"10 {NOC}."]}})
    world.host.ip("addr", "add", "10.77.0.2/24", "dev", "up0")  # by which the DNS server and the relay are reached
    world.far.ip("addr", "add", "10.77.0.1/24", "dev", "down0")
    world.host.ip("route", "add", "default", "via", "10.77.0.1")
    router = Router(world)
    world.host.batch(["addr replace 10.77.0.2/24 dev up0", "route replace default via 10.77.0.1"])
    world.agent()
    radvd = router.start()
    until(lambda: len([a for a in addresses(world) if a.startswith(V6)]), lambda count: count == 2, patience=60)
    world.wait_for_best(NOC, "ready")
    temporary = {
        line.split()[3].partition("/")[0]
        for line in world.host.ip("-6", "-o", "addr", "show", "dev", "up0", "temporary").splitlines()
    }
    assert len(temporary) == 1
    assert addresses(world)[1] in temporary  # A4: after the stable one
    asked = [name for name in world.queries() if name.endswith("ip6.arpa") and name.count(".") == 33]
    assert len(set(asked)) == 1
    router.advertise(preferred=0)  # deprecated: they no longer count
    radvd.popen.send_signal(1)
    until(lambda: [a for a in addresses(world) if a.startswith(V6)], lambda left: left == [], patience=60)
    world.wait_for_best(HOME, "ready")


@pytest.mark.timeout(120)
def test_ipv6_only_with_a_relay_that_has_only_aaaa(world: World) -> None:
    world.publish({NET64: {"MX": ["10 six.hookup.net."]}, "six.hookup.net": {"AAAA": [V6_RELAY]}})
    router = Router(world)
    world.host.ip("addr", "flush", "dev", "up0", "scope", "global")
    dns = world.start(
        world.far,
        [
            "/bin/sh", "-c",
            'exec "$0" -m tests.lab.dnsserver --listen "$1" --log "$2" "$3"',
            sys.executable, f"{V6}::1", str(world.directory / "queries"),
            str(world.directory / "zone.json"),
        ],
    )  # fmt: skip
    dns.wait_for("ready", where="out")
    relay = world.start(world.far, [sys.executable, "-m", "tests.lab.smtpserver", "--listen", V6_RELAY])
    relay.wait_for("listening", where="out")
    router.start()
    world.agent(f'[static]\nrelays = ["{HOME}"]\n[dns]\nservers = ["{V6}::1"]\n')
    world.wait_for_best("six.hookup.net", "ready")


def test_a1_duplicate_and_tentative_addresses_do_not_count(world: World) -> None:
    world.publish(world.zone | {NET64: {"MX": [f"10 {VERTEX}."]}})
    Router(world)
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    world.host.ip("addr", "add", f"{V6}::1/64", "dev", "up0")  # the router has it
    until(lambda: world.host.ip("-6", "addr", "show", "dev", "up0"), lambda seen: "dadfailed" in seen)
    world.host.ip("addr", "add", "198.51.100.9/24", "dev", "up0")
    until(lambda: addresses(world), lambda seen: "198.51.100.9" in seen)
    assert f"{V6}::1" not in addresses(world)
    assert world.best == f"{NOC}:25"


# --- several links


def second_link(world: World, name: str = "up1", address: str = "198.51.100.7") -> None:
    """Another cable to the far side, which publishes VERTEX for its addresses."""
    veth(world.host, name, world.far, f"far-{name}")
    world.publish(world.zone | {"100.51.198.in-addr.arpa": {"MX": [f"10 {VERTEX}."]}})
    world.host.ip("addr", "add", f"{address}/24", "dev", name)
    world.far.ip("route", "replace", f"{address}/32", "dev", f"far-{name}")


def test_a4_the_link_with_the_lower_metric_comes_first_and_both_count(world: World) -> None:
    world.join("165.154.15.1")
    world.host.ip("route", "replace", "default", "via", "165.154.15.254", "metric", "100")
    world.host.ip("route", "del", "default", "metric", "0")
    second_link(world)
    world.agent()
    world.wait_for_best(NOC, "ready")
    assert addresses(world) == ["165.154.15.1", "198.51.100.7"]
    world.host.ip("route", "add", "default", "via", "198.51.100.254", "dev", "up1", "onlink", "metric", "50")
    until(lambda: addresses(world), lambda seen: seen == ["198.51.100.7", "165.154.15.1"])
    world.wait_for_best(VERTEX, "ready")


def test_a4_a_vpn_with_half_routes_counts_as_what_it_is(world: World) -> None:
    world.join("165.154.15.1")
    second_link(world, "vpn0", "198.51.100.8")
    world.agent()
    world.wait_for_best(NOC, "ready")
    for half in ("0.0.0.0/1", "128.0.0.0/1"):  # as OpenVPN's redirect-gateway def1 does
        world.host.ip("route", "add", half, "dev", "vpn0")
    world.host.ip("route", "add", f"{SERVER}/32", "dev", "up0")
    for relay in RELAYS.values():
        world.host.ip("route", "add", f"{relay}/32", "dev", "up0")
    world.wait_for_best(VERTEX, "ready")
    assert addresses(world)[0] == "198.51.100.8"
    world.host.ip("link", "del", "vpn0")
    world.wait_for_best(NOC, "ready")


def test_a1_a_carrier_lost_and_found(world: World) -> None:
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    world.far.ip("link", "set", "down0", "down")  # the address stays, without a message of its own
    world.wait_for_best(HOME, "offline")
    world.far.ip("link", "set", "down0", "up")
    world.far.batch([f"route replace {net}.0/24 dev down0" for net in ("165.154.15", "198.51.100")])
    world.wait_for_best(NOC, "ready")


def test_a1_a_point_to_point_link_counts_by_its_own_address(world: World) -> None:
    world.host.ip("addr", "add", "165.154.15.1", "peer", "198.51.100.254/32", "dev", "up0")
    world.host.ip("route", "add", "default", "dev", "up0")
    world.far.ip("route", "replace", "165.154.15.1/32", "dev", "down0")
    world.agent()
    world.wait_for_best(NOC, "ready")
    assert addresses(world) == ["165.154.15.1"]


@pytest.mark.parametrize("bridge", ["docker0", "br-12345678abcd", "virbr0"])
def test_a3_container_bridges_do_not_count(world: World, bridge: str) -> None:
    world.host.ip("link", "add", bridge, "type", "bridge")
    world.host.ip("link", "add", "tap0", "type", "veth", "peer", "name", "tap1")
    for link in ("tap0", "tap1", bridge):
        world.host.ip("link", "set", link, "up")
    world.host.ip("link", "set", "tap0", "master", bridge)
    world.host.ip("addr", "add", "172.17.0.1/16", "dev", bridge)
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    assert addresses(world) == ["165.154.15.1"]
    world.publish(world.zone | {"self.hookup.net": {"A": ["172.17.0.1"]}, NET24: {"MX": ["10 self.hookup.net."]}})
    world.call("Refresh")
    assert world.best == f"{HOME}:25"  # but C4 knows the address


def test_a3_the_debug_log_says_which_addresses_count_and_why_others_do_not(world: World) -> None:
    agent = world.agent(CONFIG, "--log-level", "debug")
    agent.wait_for("debug: addresses that count: none\n")
    world.host.ip("link", "add", "docker0", "type", "bridge")
    world.host.ip("addr", "add", "172.17.0.1/16", "dev", "docker0")
    world.host.ip("addr", "add", f"{V6}::1/64", "dev", "up0", "nodad", "preferred_lft", "0")
    world.join("165.154.15.1")
    agent.wait_for(
        f"debug: addresses that count: 165.154.15.1 on up0; left out: {V6}::1 on up0: A1 (deprecated), "
        "172.17.0.1 on docker0: A3 (network.ignore)\n"
    )


def test_c6_the_same_relay_through_two_addresses_is_listed_once(world: World) -> None:
    world.join("165.154.15.1")
    world.host.ip("addr", "add", "165.154.16.9/24", "dev", "up0")
    world.agent(CONFIG)
    world.wait_for_best(NOC, "ready")
    relays: list[dict[str, Any]] = world.get("Relays")
    assert [one["host"] for one in relays] == [NOC, VERTEX, HOME]
    assert set(outcomes(world).values()) == {"found"}
