"""What single messages say, and what becomes of those that no kernel sends."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

import pytest
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from salsa_agent.core.model import DefaultRoute, Link, RouteChoice
from salsa_agent.netlink import messages as read
from salsa_agent.netlink.messages import Nexthop, NexthopMessage, RouteEntry, RouteMessage
from tests.parts.netlink.watch import encoded, link_message, message, parsed, with_attribute


def test_what_a_bridge_says_of_its_port_is_not_of_the_link() -> None:
    assert read.link(link_message(rtnl.RTM_NEWLINK, family=7, index=2, flags=0x10001)) is None
    state = read.link(link_message(rtnl.RTM_NEWLINK, family=0, index=2, flags=0x10001))
    assert state == (Link(2, "up0", usable=True), 0x10001)


def test_a_link_name_is_printable() -> None:
    def name(octets: bytes) -> str:
        state = read.link(link_message(rtnl.RTM_NEWLINK, octets))
        assert state
        return state.link.name

    assert name(b"wlp3s0") == "wlp3s0"
    assert name(b"a\x1b[1m") == "a\\x1b[1m"
    assert name(b"\xff\x01") == "\\\\xff\\x01"
    assert name("ä".encode()) == "\\xc3\\xa4"
    assert name(b"") == ""


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 1),
        ({"type": 6}, 0),
        ({"table": 255}, 0),
        ({"table": 100}, 0),
        ({"flags": 0x200}, 0),
        ({"dst_len": 1}, 0),
        ({"family": 129}, 0),
    ],
)  # fmt: skip
def test_only_unicast_routes_to_everywhere_are_default_routes(change: dict[str, int], count: int) -> None:
    """Kernels before 4.20 dump everything, whatever is asked."""
    fields = {"family": AF_INET, "dst_len": 0, "type": 1, "table": 254, "flags": 0} | change
    route = message(RouteMessage, rtnl.RTM_NEWROUTE, ("RTA_OIF", 2), **fields)
    assert (read.default_route(route) is not None) is bool(count)


@pytest.mark.parametrize(
    "attribute",
    [
        (4, b"\2"),
        (5, b"\1\2"),
        (6, b""),
        (15, b"\1\0"),
        (18, b"\2\0\1"),
        (9, b"\1\0"),
        (9, struct.pack("=HBBi", 200, 0, 0, 2)),
        (30, b"\1"),
    ],
    ids=["link", "gateway", "metric", "table", "via", "hop", "hop's length", "nexthop id"],
)
def test_an_attribute_that_is_malformed_is_left_out_or_the_message_is_unreadable(
    caplog: pytest.LogCaptureFixture, attribute: tuple[int, bytes]
) -> None:
    """No kernel sends one. What the library makes of it is a route without it, or one of `UNREADABLE`."""
    kind, value = attribute
    fields = {"family": AF_INET, "type": 1, "table": 254}
    octets = encoded(RouteMessage, rtnl.RTM_NEWROUTE, *([] if kind == 4 else [("RTA_OIF", 2)]), **fields)
    try:
        entry = read.default_route(parsed(with_attribute(octets, kind, value)))
    except read.UNREADABLE:
        return
    found = read.default_routes([entry] if entry else [], [])
    assert all(type(number) is int for route in found for number in (route.index, route.metric, route.table))
    assert all(route.index == 2 and route.gateway == "" for route in found)
    assert not caplog.text


def test_an_address_of_another_family_is_none() -> None:
    assert read.address(message(ifaddrmsg, rtnl.RTM_NEWADDR, ("IFA_LOCAL", "192.0.2.1"), family=28, index=2)) is None


def test_the_32_bit_flags_count_where_present_even_if_they_are_zero() -> None:
    own = ("IFA_LOCAL", "192.0.2.1")
    for attributes, flags in (((own,), 0x40), ((own, ("IFA_FLAGS", 0)), 0), ((own, ("IFA_FLAGS", 0x200)), 0x200)):
        fields = {"family": AF_INET, "prefixlen": 24, "index": 2, "flags": 0x40}
        found = read.address(message(ifaddrmsg, rtnl.RTM_NEWADDR, *attributes, **fields))
        assert found
        assert found[1].flags == flags


# --- nexthop objects


def nexthop(number: int, *attributes: tuple[str, object]) -> Nexthop:
    return read.nexthop(message(NexthopMessage, read.RTM_NEWNEXTHOP, ("NHA_ID", number), *attributes, family=AF_INET))


def by_object(number: int, *attributes: tuple[str, object]) -> RouteEntry:
    fields = {"family": AF_INET, "type": 1, "table": 254}
    entry = read.default_route(message(RouteMessage, rtnl.RTM_NEWROUTE, ("RTA_NH_ID", number), *attributes, **fields))
    assert entry
    return entry


def test_e3_nexthop_objects_and_their_groups() -> None:
    members = struct.pack("=IBBHIBBH", 1, 0, 0, 0, 2, 0, 0, 0)  # struct nexthop_grp, twice
    objects = [
        nexthop(9, ("NHA_GROUP", members)),
        nexthop(5),  # a blackhole
        nexthop(1, ("NHA_OIF", 2), ("NHA_GATEWAY", "192.0.2.1")),
        nexthop(2, ("NHA_OIF", 3), ("NHA_GATEWAY", "198.51.100.1")),
        nexthop(3, ("NHA_OIF", 4)),
    ]
    assert objects[0] == Nexthop(9, None, (1, 2))
    both = {DefaultRoute(AF_INET, 2, 7, "192.0.2.1"), DefaultRoute(AF_INET, 3, 7, "198.51.100.1")}
    metric = ("RTA_PRIORITY", 7)
    assert read.default_routes([by_object(9, metric)], objects) == both
    assert read.default_routes([by_object(3, metric)], objects) == {DefaultRoute(AF_INET, 4, 7)}
    for entry, known in ((by_object(5), objects), (by_object(8), objects), (by_object(9), [])):
        assert not read.default_routes([entry], known)


def test_e3_a_route_that_says_its_next_hop_as_well_needs_no_object() -> None:
    entry = by_object(1, ("RTA_OIF", 2), ("RTA_GATEWAY", "192.0.2.1"))
    assert entry.nexthop_id == 0
    assert read.default_routes([entry], [nexthop(1, ("NHA_OIF", 9))]) == {DefaultRoute(AF_INET, 2, 0, "192.0.2.1")}


# --- choices


@pytest.mark.parametrize(("table", "gateway"), [(254, ""), (100, "192.0.2.1")])
def test_e1_a_choice_has_its_gateway_where_another_table_gave_it(table: int, gateway: str) -> None:
    attributes = (("RTA_OIF", 2), ("RTA_PREFSRC", "192.0.2.5"), ("RTA_GATEWAY", "192.0.2.1"), ("RTA_TABLE", table))
    route = message(RouteMessage, rtnl.RTM_NEWROUTE, *attributes, family=AF_INET, type=1)
    assert read.choice(route) == RouteChoice(AF_INET, 2, ip_address("192.0.2.5"), gateway)


def test_a_route_that_forwards_nothing_is_no_choice() -> None:
    for attributes, kind in (((("RTA_OIF", 2),), 7), ((), 1)):
        assert read.choice(message(RouteMessage, rtnl.RTM_NEWROUTE, *attributes, family=AF_INET6, type=kind)) is None
