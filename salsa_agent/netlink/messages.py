"""What one rtnetlink message says, as values of the model. Nothing here reads a socket.

The messages are pyroute2's. What it cannot decode it gives as octets or leaves out: for a message that is not as the
kernel's headers have it these functions raise one of `UNREADABLE`.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from pyroute2.netlink import nlmsg, rtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from salsa_agent.core.model import DefaultRoute, HostAddress, Link, RouteChoice

IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000  # linux/if.h

RTN_UNICAST, RTN_MULTICAST = 1, 5  # linux/rtnetlink.h
RTN_LOCAL_KINDS = range(2, RTN_MULTICAST + 1)  # local, broadcast, anycast, multicast: they lead nowhere outside
RTM_F_CLONED = 0x200
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255

RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106  # linux/rtnetlink.h; pyroute2 has none of them

UNREADABLE = (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError, struct.error)

_LINK = frozenset({"IFLA_IFNAME", "IFLA_CARRIER_CHANGES"})
_ADDRESS = frozenset({"IFA_ADDRESS", "IFA_LOCAL", "IFA_CACHEINFO", "IFA_FLAGS"})
_ROUTE = frozenset(
    {"RTA_OIF", "RTA_GATEWAY", "RTA_PRIORITY", "RTA_PREFSRC", "RTA_MULTIPATH", "RTA_TABLE", "RTA_VIA", "RTA_NH_ID"}
)
_NEXTHOP = frozenset({"NHA_ID", "NHA_GROUP", "NHA_OIF", "NHA_GATEWAY"})

_U32 = struct.Struct("=I")
_NEXTHOP_GRP = 8  # octets of struct nexthop_grp of linux/nexthop.h, which begins with the id


class RouteMessage(rtmsg):  # type: ignore[misc]  # untyped base
    """pyroute2's, and RTA_NH_ID of linux/rtnetlink.h."""

    __slots__ = ()
    nla_map = (*((number, *named) for number, named in enumerate(rtmsg.nla_map)), (30, "RTA_NH_ID", "uint32"))


class NexthopMessage(nlmsg):  # type: ignore[misc]  # untyped base
    """A nexthop object: struct nhmsg and NHA_* of linux/nexthop.h."""

    __slots__ = ()
    prefix = "NHA_"
    fields = (("family", "B"), ("scope", "B"), ("protocol", "B"), ("resvd", "B"), ("flags", "I"))
    nla_map = (
        (1, "NHA_ID", "uint32"),
        (2, "NHA_GROUP", "binary"),
        (5, "NHA_OIF", "uint32"),
        (6, "NHA_GATEWAY", "ipaddr"),
    )


MESSAGE_CLASSES = {
    rtnl.RTM_NEWROUTE: RouteMessage,
    rtnl.RTM_DELROUTE: RouteMessage,
    RTM_NEWNEXTHOP: NexthopMessage,
    RTM_DELNEXTHOP: NexthopMessage,
}


class LinkState(NamedTuple):
    """A link, and those of its flags whose change moves addresses and routes without a message of their own."""

    link: Link
    up: int


class Hop(NamedTuple):
    """The link and the gateway (empty: none) of one next hop."""

    ifindex: int
    gateway: str


class RouteEntry(NamedTuple):
    """A default route as its message has it: with next hops of its own, or by the id of a nexthop object."""

    family: int
    metric: int
    hops: tuple[Hop, ...]
    nexthop_id: int  # where there are no hops, as with sysctl nexthop_compat_mode 0; 0: none


class Nexthop(NamedTuple):
    """A nexthop object: one next hop, or a group of other objects by their ids; a blackhole has neither."""

    id: int
    hop: Hop | None
    members: tuple[int, ...]


def kind(message: Any) -> int:
    """RTM_* of linux/rtnetlink.h."""
    return int(message["header"]["type"])


def link(message: Any) -> LinkState | None:
    """A link; None where the message speaks of something else, such as a bridge about its port (AF_BRIDGE)."""
    if message["family"] != 0:
        return None
    found = _attributes(message, _LINK)
    up = message["flags"] & (IFF_UP | IFF_LOWER_UP)
    usable = up == IFF_UP | IFF_LOWER_UP
    loopback = bool(message["flags"] & IFF_LOOPBACK)
    changes = _number(found, "IFLA_CARRIER_CHANGES")
    return LinkState(Link(message["index"], _name(found.get("IFLA_IFNAME")), usable, loopback, changes), up)


def address(message: Any) -> tuple[Hashable, HostAddress] | None:
    """An address of the host, with what makes two messages speak of the same; None where its family does not count.

    The own address is IFA_LOCAL, and IFA_ADDRESS only where there is none (linux/if_addr.h). An IPv4 address may be on
    a link twice, with two masks or peers; an IPv6 address only once, its peer may change.
    """
    family, prefixlen, index = message["family"], message["prefixlen"], message["index"]
    if family not in (AF_INET, AF_INET6):
        return None
    found = _attributes(message, _ADDRESS)
    peer = found.get("IFA_ADDRESS")
    own = found.get("IFA_LOCAL") or found["IFA_ADDRESS"]
    flags = _number(found, "IFA_FLAGS") if "IFA_FLAGS" in found else message["flags"]
    preferred = (found.get("IFA_CACHEINFO") or {}).get("ifa_preferred") != 0
    key = (family, index, own, prefixlen, peer) if family == AF_INET else (family, index, own)
    return key, HostAddress(ip_address(own), index, message["scope"], flags, preferred, prefixlen)


def may_lead_outside(route: Any) -> bool:
    """Whether this route can change where something outside is reached."""
    return (
        route["family"] in (AF_INET, AF_INET6)
        and route["type"] not in RTN_LOCAL_KINDS
        and route["table"] != RT_TABLE_LOCAL
        and not route["flags"] & RTM_F_CLONED
    )


def default_route(route: Any) -> RouteEntry | None:
    """A route of the main table to everywhere that forwards; None where it is another.

    Those of other tables, which containers and VPNs bring, matter only by what they do to the kernel's choice (E1).
    """
    if route["dst_len"] != 0 or route["type"] != RTN_UNICAST or not may_lead_outside(route):
        return None
    found = _attributes(route, _ROUTE)
    if _table(route, found) != RT_TABLE_MAIN:
        return None
    hops = [Hop(_number(found, "RTA_OIF"), _gateway(found))]
    hops += [Hop(hop["oif"], _gateway(_attributes(hop, _ROUTE))) for hop in found.get("RTA_MULTIPATH") or ()]
    there = tuple(hop for hop in hops if hop.ifindex)
    nexthop_id = 0 if there else _number(found, "RTA_NH_ID")
    return RouteEntry(route["family"], _number(found, "RTA_PRIORITY"), there, nexthop_id)


def nexthop(message: Any) -> Nexthop:
    """A nexthop object."""
    found = _attributes(message, _NEXTHOP)
    octets = found.get("NHA_GROUP") or b""
    members = tuple(_U32.unpack_from(octets, start)[0] for start in range(0, len(octets), _NEXTHOP_GRP))
    ifindex = _number(found, "NHA_OIF")
    return Nexthop(_number(found, "NHA_ID"), Hop(ifindex, found.get("NHA_GATEWAY") or "") if ifindex else None, members)


def default_routes(entries: Iterable[RouteEntry], objects: Iterable[Nexthop]) -> frozenset[DefaultRoute]:
    """The default routes of these entries: one for each next hop, be it an entry's own or its nexthop object's."""
    known = {one.id: one for one in objects}
    found: set[DefaultRoute] = set()
    for entry in entries:
        ids = {entry.nexthop_id, *(known[entry.nexthop_id].members if entry.nexthop_id in known else ())}
        hops = (*entry.hops, *(one.hop for one in known.values() if one.id in ids and one.hop))
        found.update(DefaultRoute(entry.family, hop.ifindex, entry.metric, hop.gateway) for hop in hops)
    return frozenset(found)


def choice(route: Any) -> RouteChoice | None:
    """What the kernel's route lookup answered."""
    found = _attributes(route, _ROUTE)
    index, source = _number(found, "RTA_OIF"), found.get("RTA_PREFSRC")
    if route["type"] != RTN_UNICAST or not index:
        return None
    gateway = "" if _table(route, found) == RT_TABLE_MAIN else _gateway(found)
    return RouteChoice(route["family"], index, ip_address(source) if source else None, gateway)


def _attributes(message: Any, names: frozenset[str]) -> dict[str, Any]:
    """The values of these attributes. One pass: the library's `get` decodes and compares all of them for each name."""
    return {slot.name: slot.value for slot in reversed(message["attrs"]) if slot.name in names}


def _number(found: dict[str, Any], name: str) -> int:
    """An attribute that is a number; 0: not there. The library gives octets where it cannot decode one."""
    value = found.get(name) or 0
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r}")
    return value


def _table(route: Any, found: dict[str, Any]) -> int:
    """RT_TABLE_*; the field of the header is 252 for any table over 255."""
    return _number(found, "RTA_TABLE") or int(route["table"])


def _gateway(found: dict[str, Any]) -> str:
    """Of a route or one of its next hops; RTA_VIA: an IPv4 route by way of an IPv6 neighbour (RFC 5549)."""
    gateway = found.get("RTA_GATEWAY") or (found.get("RTA_VIA") or {}).get("addr") or ""
    return str(ip_address(gateway)) if gateway else ""


def _name(name: str | bytes | None) -> str:
    """A link's name; the kernel takes any bytes but white space, slash and colon."""
    octets = name if isinstance(name, bytes) else (name or "").encode("utf-8", "surrogateescape")
    text = octets.partition(b"\0")[0].decode("ascii", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
