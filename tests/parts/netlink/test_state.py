"""What events do to what is known, and what has to be dumped for it."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from salsa_agent.netlink import messages as read
from salsa_agent.netlink.messages import NexthopMessage, RouteMessage
from salsa_agent.netlink.state import KernelState, Kind
from tests.parts.netlink.watch import link_message, message, parsed, with_attribute

UP = 0x10001  # IFF_UP, IFF_LOWER_UP
ALL, ROUTES, NOTHING = {Kind.ADDRESSES, Kind.ROUTES}, {Kind.ROUTES}, set[Kind]()


def address(kind: int = rtnl.RTM_NEWADDR, ip: str = "192.0.2.5", index: int = 2, **fields: int) -> Any:
    family, prefixlen = (AF_INET6, 64) if ":" in ip else (AF_INET, 24)
    own = (("IFA_ADDRESS", ip),) if family == AF_INET6 else (("IFA_ADDRESS", ip), ("IFA_LOCAL", ip))
    return message(ifaddrmsg, kind, *own, family=family, prefixlen=prefixlen, index=index, **fields)


def route(kind: int = rtnl.RTM_NEWROUTE, **fields: int) -> Any:
    return message(RouteMessage, kind, ("RTA_OIF", 2), **({"family": AF_INET, "type": 1, "table": 254} | fields))


def with_carrier(changes: int) -> Any:
    octets = bytes(link_message(rtnl.RTM_NEWLINK, index=2, flags=UP).data)
    return parsed(with_attribute(octets, 35, changes.to_bytes(4, "little")))  # IFLA_CARRIER_CHANGES


@pytest.mark.parametrize(
    ("before", "event", "stale"),
    [
        pytest.param([], link_message(rtnl.RTM_NEWLINK, index=2), ALL, id="new link"),
        pytest.param([link_message(16, index=2)], link_message(16, index=2), None, id="same link"),
        pytest.param([link_message(16, index=2)], link_message(16, b"wan0", index=2), NOTHING, id="renamed link"),
        pytest.param([link_message(16, index=2)], link_message(16, index=2, flags=UP), ALL, id="carrier"),
        pytest.param([link_message(16, index=2, flags=1)], link_message(16, index=2), ALL, id="down, without carrier"),
        pytest.param([with_carrier(2)], with_carrier(4), ALL, id="carrier that came back"),
        pytest.param([with_carrier(2)], with_carrier(2), None, id="same carrier"),
        pytest.param([], link_message(17, index=2), None, id="unknown link gone"),
        pytest.param([link_message(16, index=2), address()], link_message(17, index=2), ROUTES, id="link gone"),
        pytest.param([], address(), NOTHING, id="new address"),
        pytest.param([address()], address(), None, id="same address"),
        pytest.param([address()], address(flags=0x20), NOTHING, id="deprecated address"),
        pytest.param([], address(rtnl.RTM_DELADDR), None, id="unknown address gone"),
        pytest.param([address()], address(rtnl.RTM_DELADDR), ROUTES, id="IPv4 address gone"),
        pytest.param([address(ip="2001:db8::1")], address(rtnl.RTM_DELADDR, "2001:db8::1"), NOTHING, id="IPv6 gone"),
        pytest.param([], route(), ROUTES, id="default route"),
        pytest.param([], route(rtnl.RTM_DELROUTE), ROUTES, id="default route gone"),
        pytest.param([], route(dst_len=1), NOTHING, id="half route"),
        pytest.param([], route(table=100), NOTHING, id="default route of another table"),
        pytest.param([], route(table=255, type=2, dst_len=32), None, id="route of the table local"),
        pytest.param([], route(flags=0x200), None, id="cached route"),
        pytest.param([], message(fibmsg, rtnl.RTM_NEWRULE, family=AF_INET), NOTHING, id="rule"),
        pytest.param([], message(fibmsg, rtnl.RTM_DELRULE, family=AF_INET), NOTHING, id="rule gone"),
        pytest.param([], message(NexthopMessage, read.RTM_NEWNEXTHOP, ("NHA_ID", 1)), ROUTES, id="nexthop object"),
        pytest.param([], message(NexthopMessage, read.RTM_DELNEXTHOP, ("NHA_ID", 1)), ROUTES, id="nexthop object gone"),
        pytest.param([], message(ndmsg, rtnl.RTM_NEWNEIGH, family=AF_INET), None, id="anything else"),
    ],
)
def test_what_an_event_asks_for(before: list[Any], event: Any, stale: set[Kind] | None) -> None:
    state = KernelState()
    for earlier in before:
        state.apply(earlier)
    found = state.apply(event)
    assert (found if found is None else set(found)) == stale


def test_a_link_that_goes_takes_its_addresses() -> None:
    """Kernels differ in what else they say."""
    state = KernelState()
    for event in (link_message(16, index=2), address(), address(ip="192.0.2.6", index=3)):
        state.apply(event)
    state.apply(link_message(17, index=2))
    assert [str(one.ip) for one in state.facts(frozenset()).addresses] == ["192.0.2.6"]
