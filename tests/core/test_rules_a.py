"""Rules A: which addresses count, and in which order."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations

import pytest

from salsa_agent.core.addresses import counting, eligible_links, left_out, own
from salsa_agent.core.model import Address, DefaultRoute, HostAddress, Link, NetworkFacts, RouteChoice, number_of
from salsa_agent.core.settings import DEFAULT_IGNORE
from tests.core.sim import ETH0, facts, host

WLAN0 = Link(3, "wlan0", usable=True)
TUN0 = Link(4, "tun0", usable=True)


def order(state: NetworkFacts, ignore: tuple[str, ...] = DEFAULT_IGNORE) -> list[str]:
    """The addresses that count; of each other one is known why it does not."""
    found = [str(address.ip) for address in counting(state, ignore)]
    rest = [str(one.ip) for one in left_out(state, ignore)]
    assert sorted({*found, *rest}) == sorted({str(one.ip) for one in state.addresses})
    assert not set(found) & set(rest)
    return found


def why(state: NetworkFacts, ignore: tuple[str, ...] = DEFAULT_IGNORE) -> list[str]:
    """Why the others do not count."""
    return [f"{one.ip} on {one.interface}: {one.why.rule} {one.why.reason}" for one in left_out(state, ignore)]


def test_a1_a_global_address_on_a_usable_link_counts() -> None:
    assert order(facts("165.154.15.1", "2001:db8::1")) == ["2001:db8::1", "165.154.15.1"]


@pytest.mark.parametrize("link", [Link(2, "eth0", usable=False), Link(2, "lo", usable=True, loopback=True)])
def test_a1_a_link_without_carrier_and_the_loopback_link_do_not_count(link: Link) -> None:
    assert order(facts("165.154.15.1", links=[link])) == []


LO = Link(1, "lo", usable=True, loopback=True)


@pytest.mark.parametrize(("ip", "family"), [("203.0.113.1", 2), ("2001:db8::1", 10)])
def test_a1_an_address_on_loopback_counts_where_the_kernel_picks_it_as_its_source(ip: str, family: int) -> None:
    """A host that announces its address by BGP; those on its links are for the neighbours."""
    other = host("10.255.0.1", index=1)
    state = facts(host(ip, index=1), other, links=[LO, ETH0], choices=[RouteChoice(family, 2, ip_address(ip))])
    assert counting(state, DEFAULT_IGNORE) == (Address(ip_address(ip), 2, "eth0"),)
    assert order(facts(host(ip, index=1), links=[LO, ETH0], choices=[RouteChoice(family, 2)])) == []


def test_a1_an_address_on_loopback_has_the_place_of_the_kernels_source() -> None:
    there = RouteChoice(2, 2, ip_address("203.0.113.1"))
    state = facts("192.0.2.1", host("203.0.113.1", index=1), links=[LO, ETH0], choices=[there])
    assert order(state) == ["203.0.113.1", "192.0.2.1"]
    twice = facts("203.0.113.1", host("203.0.113.1", index=1), links=[LO, ETH0], choices=[there])
    assert order(twice) == ["203.0.113.1"]


@pytest.mark.parametrize(
    "address", [host("127.0.0.5", index=1), host("203.0.113.1", index=1, flags=0x20), host("169.254.1.1", index=1)]
)
def test_a1_an_address_on_loopback_is_held_to_the_same_rules(address: HostAddress) -> None:
    assert order(facts(address, links=[LO, ETH0], choices=[RouteChoice(2, 2, address.ip)])) == []


def test_a1_an_address_on_loopback_does_not_count_through_a_link_that_does_not() -> None:
    chosen = [RouteChoice(2, 2, ip_address("203.0.113.1"))]
    for link in (Link(2, "eth0", usable=False), LO, Link(3, "eth1", usable=True)):
        assert order(facts(host("203.0.113.1", index=1), links=[LO, link], choices=chosen)) == []
    ignored = facts(host("203.0.113.1", index=1), links=[LO, ETH0], choices=chosen)
    assert order(ignored, ignore=("eth*",)) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (host("2001:db8::1", flags=0x80 | 0x20), "deprecated"),
        (host("2001:db8::1", preferred=False), "deprecated"),
        (host("2001:db8::1", flags=0x40), "tentative"),
        (host("2001:db8::1", flags=0x40 | 0x20), "tentative"),
        (host("2001:db8::1", flags=0x40 | 0x08), "duplicate"),
        (host("2001:db8::1", scope=253), "its scope is not global"),
    ],
)
def test_a1_why_an_address_that_is_not_in_use_does_not_count(address: HostAddress, reason: str) -> None:
    assert why(facts(address, "192.0.2.1")) == [f"2001:db8::1 on eth0: A1 {reason}"]


def test_a1_why_no_address_of_a_link_counts() -> None:
    down, lo = Link(2, "eth0", usable=False), Link(1, "lo", usable=True, loopback=True)
    state = facts("192.0.2.1", host("203.0.113.1", index=1), host("192.0.2.9", index=9), links=[lo, down])
    assert why(state) == [
        "203.0.113.1 on lo: A1 the loopback link",
        "192.0.2.1 on eth0: A1 its link is down or without carrier",
        "192.0.2.9 on : A1 its link is not known",
    ]


def test_a2_why_special_addresses_do_not_count_comes_last() -> None:
    lo, bridge = Link(1, "lo", usable=True, loopback=True), Link(7, "docker0", usable=False)  # it has no container yet
    others = [host("127.0.0.1", index=1), host("172.17.0.1", index=7), host("fe80::1", index=7)]
    assert why(facts("192.0.2.1", "fe80::2", *others, links=[lo, ETH0, bridge])) == [
        "172.17.0.1 on docker0: A3 network.ignore",
        "127.0.0.1 on lo: A2 loopback",
        "fe80::2 on eth0: A2 link-local",
        "fe80::1 on docker0: A2 link-local",
    ]


@pytest.mark.parametrize("flag", [0x08, 0x20, 0x40])
def test_a1_dadfailed_deprecated_and_tentative_do_not_count(flag: int) -> None:
    assert order(facts(host("2001:db8::1", flags=flag), "2001:db8::2")) == ["2001:db8::2"]


def test_a1_preferred_lifetime_zero_does_not_count() -> None:
    assert order(facts(host("2001:db8::1", preferred=False))) == []


def test_a1_scopes_other_than_global_do_not_count() -> None:
    assert order(facts(host("10.0.0.1", scope=253), host("10.0.0.2", scope=254))) == []


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.2", "127.255.255.255", "169.254.0.0", "169.254.3.4", "fe80::1", "febf::1", "224.0.0.9",
        "239.255.255.255", "ff02::1", "0.0.0.0", "::", "::1", "192.0.0.0", "192.0.0.1", "192.0.0.7",
    ],
)  # fmt: skip
def test_a2_special_addresses_never_count(ip: str) -> None:
    assert order(facts(ip)) == []


@pytest.mark.parametrize(
    "ip",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "192.0.0.8", "191.255.255.255", "0.0.0.1",
        "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "223.255.255.255", "240.0.0.0", "::2",
        "fe7f::1", "fec0::1", "feff::1", "255.255.255.254",
    ],
)  # fmt: skip
def test_a2_private_shared_and_unique_local_addresses_count(ip: str) -> None:
    assert order(facts(ip)) == [ip]


@pytest.mark.parametrize(
    "name",
    [
        "docker0", "br-0123456789ab", "veth1", "virbr0", "vnet3", "cni0", "flannel.1", "cali12", "podman1", "lxcbr0",
        "lxdbr0", "incusbr0", "vmnet8", "vboxnet0", "cilium_host", "nodelocaldns", "hassio", "nerdctl0", "cbr0",
        "kube-ipvs0", "waydroid0", "ovn-k8s-mp0",
    ],
)  # fmt: skip
def test_a3_container_bridges_are_left_out(name: str) -> None:
    assert order(facts("172.17.0.1", links=[Link(2, name, usable=True)])) == []


@pytest.mark.parametrize("name", ["br-ex", "br-lan", "br-0123456789abc", "br-0123456789AB", "eno1", "wlp3s0", "bond0"])
def test_a3_the_hosts_own_links_are_not(name: str) -> None:
    """OpenShift's br-ex and OpenWrt's br-lan carry the host's own address."""
    assert order(facts("192.0.2.1", links=[Link(2, name, usable=True)])) == ["192.0.2.1"]


def test_a3_the_default_list_never_leaves_out_the_link_that_leads_outside() -> None:
    bridge = [Link(2, "virbr0", usable=True), Link(3, "docker0", usable=True)]
    state = facts("192.0.2.1", host("172.17.0.1", index=3), links=bridge, choices=[RouteChoice(2, 2)])
    assert order(state) == ["192.0.2.1"]
    assert order(state, ignore=("virbr*",)) == ["172.17.0.1"]  # an administrator's own list does


def test_a3_the_patterns_are_the_administrators() -> None:
    assert order(facts("172.17.0.1", links=[Link(2, "docker0", usable=True)]), ignore=()) == ["172.17.0.1"]
    assert order(facts("172.17.0.1"), ignore=("eth?",)) == []


def test_a3_at_most_the_first_64() -> None:
    state = facts(*(f"10.0.{i // 200}.{i % 200 + 1}" for i in range(300)))
    many = order(state)
    assert len(many) == 64
    assert many[0] == "10.0.0.1"
    assert len(why(state)) == 300 - 64
    assert why(state)[0] == "10.0.0.65 on eth0: A3 beyond the first 64"


def test_a3_an_address_on_loopback_may_be_beyond_the_first_64() -> None:
    source = ip_address("203.0.113.1")
    hosts = [f"2001:db8::{i:x}" for i in range(1, 65)]  # which go before IPv4 addresses
    state = facts(*hosts, host("203.0.113.1", index=1), links=[LO, ETH0], choices=[RouteChoice(2, 2, source)])
    assert why(state) == ["203.0.113.1 on lo: A3 beyond the first 64"]


def test_a3_of_many_links_the_first_64_in_the_order_of_a4_are_looked_at() -> None:
    """A tunnel that leads outside has the highest index: its name servers and its connection are needed."""
    links = [Link(index, f"vlan{index}", usable=True) for index in range(2, 102)]
    state = facts(links=links, choices=[RouteChoice(2, 101)], defaults=[DefaultRoute(2, 90, 100)])
    found = [link.index for link in eligible_links(state, DEFAULT_IGNORE)]
    assert found == [*range(2, 64), 90, 101]


def test_a4_the_link_of_the_kernels_own_lookup_comes_first() -> None:
    state = facts(
        host("192.0.2.9"),
        host("198.51.100.9", index=4),
        links=[ETH0, TUN0],
        defaults=[DefaultRoute(2, 2, 0)],  # half routes through tun0 are no default routes
        choices=[RouteChoice(2, 4, ip_address("198.51.100.9"))],
    )
    assert order(state) == ["198.51.100.9", "192.0.2.9"]


def test_a4_a_link_that_took_one_family_over_goes_before_the_other_familys() -> None:
    state = facts(
        host("2001:db8::9"),
        host("10.8.0.2", index=4),
        links=[ETH0, TUN0],
        defaults=[DefaultRoute(10, 2, 1024)],
        choices=[RouteChoice(10, 2, ip_address("2001:db8::9")), RouteChoice(2, 4, ip_address("10.8.0.2"))],
    )
    assert order(state) == ["10.8.0.2", "2001:db8::9"]


def test_a4_then_the_lowest_metric_of_either_family_then_links_without_a_default_route() -> None:
    state = facts(
        host("192.0.2.1"),
        host("192.0.2.2", index=3),
        host("192.0.2.3", index=4),
        links=[ETH0, WLAN0, TUN0],
        defaults=[DefaultRoute(2, 2, 600), DefaultRoute(2, 3, 700), DefaultRoute(10, 3, 100)],
    )
    assert order(state) == ["192.0.2.2", "192.0.2.1", "192.0.2.3"]


def test_a4_a_default_route_of_another_table_gives_no_metric() -> None:
    state = facts(
        host("192.0.2.1"),
        host("192.0.2.2", index=3),
        links=[ETH0, WLAN0],
        defaults=[DefaultRoute(2, 2, 600), DefaultRoute(2, 3, 1, table=100)],
    )
    assert order(state) == ["192.0.2.1", "192.0.2.2"]


def test_a4_on_a_link_global_ipv6_then_ipv4_then_unique_local() -> None:
    assert order(facts("fd00::1", "192.0.2.1", "2001:db8::1")) == ["2001:db8::1", "192.0.2.1", "fd00::1"]


def test_a4_the_source_the_kernel_picks_is_the_first_ipv4_address() -> None:
    state = facts("192.0.2.1", "192.0.2.7", choices=[RouteChoice(2, 2, ip_address("192.0.2.7"))])
    assert order(state) == ["192.0.2.7", "192.0.2.1"]


def test_a4_temporary_addresses_are_last_of_their_kind_and_secondary_ones_are_not_temporary() -> None:
    state = facts(host("2001:db8::1", flags=0x81), "2001:db8::2", host("192.0.2.1", flags=0x81))
    assert order(state) == ["2001:db8::2", "2001:db8::1", "192.0.2.1"]
    assert [a.temporary for a in counting(state, ())] == [False, True, False]


def test_a1_an_address_with_two_masks_is_one_address() -> None:
    twice = [replace(host("192.0.2.1"), prefixlen=prefixlen) for prefixlen in (24, 25)]
    assert order(facts(*twice)) == ["192.0.2.1"]


def test_a4_the_order_is_total() -> None:
    hosts: list[HostAddress] = [host("192.0.2.1"), host("192.0.2.2"), host("192.0.2.1", index=3), host("fd00::2")]
    links = [ETH0, WLAN0]
    orders = {tuple(counting(NetworkFacts(frozenset(links), frozenset(some)), ())) for some in permutations(hosts)}
    assert len(orders) == 1


def test_c4_own_addresses_include_those_that_do_not_count() -> None:
    bridge = Link(9, "docker0", usable=True)
    loop = Link(1, "lo", usable=True, loopback=True)
    state = facts("127.0.0.1", "fe80::1", "192.0.2.1", host("172.17.0.1", 9), host("198.51.100.1", 1),
                  links=[ETH0, bridge, loop])  # fmt: skip
    assert own(state) == {number_of(ip_address(text)) for text in ("192.0.2.1", "172.17.0.1", "198.51.100.1")}
    assert number_of(ip_address("::c000:201")) not in own(state)  # the same as 192.0.2.1, but for the family
