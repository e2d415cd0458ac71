"""What one rtnetlink message says, as values of the model. Nothing here reads a socket.

Links, addresses and route lookups come by the thousand, so they are read as the C structs that they are; only routes,
which may nest, go through the library's codec (ten times as long).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from salsa_agent.core.model import DefaultRoute, HostAddress, IPAddress, Link, RouteChoice
from salsa_agent.netlink_library import rtmsg

NLM_F_DUMP_INTR = 0x10  # linux/netlink.h

IFLA_IFNAME = 3  # linux/if_link.h
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8  # linux/if_addr.h
RTA_OIF, RTA_PREFSRC = 4, 7  # linux/rtnetlink.h

IFF_UP = 0x1  # linux/if.h
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

RTN_UNICAST = 1  # linux/rtnetlink.h
RTN_LOCAL_KINDS = frozenset((2, 3, 4, 5))  # local, broadcast, anycast, multicast: they lead nowhere outside
RTM_F_CLONED = 0x200
RT_TABLE_LOCAL = 255

FIB_RULE_KEPT = 0x3  # linux/fib_rules.h: PERMANENT, INVERT; the other flags follow links and goto targets silently

_NLMSGHDR = struct.Struct("=IHHII")
_BODY = _NLMSGHDR.size
_RTATTR = struct.Struct("=HH")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=8BI")
_FIB_RULE_FLAGS = struct.Struct("=8xI")
_U32 = struct.Struct("=I")


class Message(NamedTuple):
    """One message: what its header says, and all of its octets."""

    kind: int
    flags: int
    sequence: int
    octets: bytes


class LinkState(NamedTuple):
    """A link and those of its flags whose change moves addresses and routes without a message of their own."""

    link: Link
    up: int


class AddressKey(NamedTuple):
    """What makes two address messages speak of the same address."""

    ifindex: int
    ip: IPAddress
    prefix: int
    peer: bytes


class RouteHead(NamedTuple):
    """struct rtmsg of linux/rtnetlink.h; `table` is 252 for any table over 255."""

    family: int
    dst_len: int
    src_len: int
    tos: int
    table: int
    protocol: int
    scope: int
    type: int
    flags: int

    @property
    def matters(self) -> bool:
        """Whether this route can change where something outside is reached."""
        return (
            self.family in (AF_INET, AF_INET6)
            and self.type not in RTN_LOCAL_KINDS
            and self.table != RT_TABLE_LOCAL
            and not self.flags & RTM_F_CLONED
        )


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram; what is cut off at its end is none."""
    start = 0
    while start + _BODY <= len(datagram):
        length, kind, flags, sequence, _ = _NLMSGHDR.unpack_from(datagram, start)
        if not _BODY <= length <= len(datagram) - start:
            return
        yield Message(kind, flags, sequence, datagram[start : start + length])
        start += _aligned(length)


def attributes(octets: bytes, start: int) -> dict[int, bytes]:
    """The values of a message's attributes by their type, from the first one on."""
    found = {}
    while start + 4 <= len(octets):
        length, kind = _RTATTR.unpack_from(octets, start)
        if length < 4:
            break
        found[kind] = octets[start + 4 : start + length]
        start += _aligned(length)
    return found


def interrupted(message: Message) -> bool:
    """Whether the kernel's state changed while it was dumped (E3): the dump may lack what did not change."""
    return bool(message.flags & NLM_F_DUMP_INTR)


def link(message: Message) -> LinkState | None:
    """A link; None where the message speaks of something else, such as a bridge about its port (AF_BRIDGE)."""
    family, _, index, flags, _ = _IFINFOMSG.unpack_from(message.octets, _BODY)
    if family != 0:
        return None
    name = attributes(message.octets, _BODY + _IFINFOMSG.size).get(IFLA_IFNAME, b"")
    up = flags & (IFF_UP | IFF_LOWER_UP)
    usable = up == IFF_UP | IFF_LOWER_UP
    return LinkState(Link(index, _name(name), usable, loopback=bool(flags & IFF_LOOPBACK)), up)


def address(message: Message) -> tuple[AddressKey, HostAddress] | None:
    """An address of the host: IFA_LOCAL, and IFA_ADDRESS only where there is none (linux/if_addr.h)."""
    family, prefix, flags, scope, index = _IFADDRMSG.unpack_from(message.octets, _BODY)
    found = attributes(message.octets, _BODY + _IFADDRMSG.size)
    peer = found.get(IFA_ADDRESS, b"")
    ip = _ip(family, found.get(IFA_LOCAL) or peer)
    if ip is None:
        return None
    # an IPv4 address may stand on a link twice, with two masks or peers; an IPv6 address only once, its peer may change
    key = AddressKey(index, ip, prefix, peer) if family == AF_INET else AddressKey(index, ip, 0, b"")
    if IFA_FLAGS in found:
        (flags,) = _U32.unpack_from(found[IFA_FLAGS])
    preferred = found.get(IFA_CACHEINFO, b"")[:4] != b"\0\0\0\0"  # struct ifa_cacheinfo begins with ifa_prefered
    return key, HostAddress(ip, index, scope, flags, preferred)


def route_head(message: Message) -> RouteHead:
    """The fixed part of a route."""
    return RouteHead(*_RTMSG.unpack_from(message.octets, _BODY))


def defaults(message: Message) -> Iterator[DefaultRoute]:
    """The default routes a route message stands for: one for each next hop of a multipath route."""
    head = route_head(message)
    if head.dst_len != 0 or head.type != RTN_UNICAST or not head.matters:
        return
    route = rtmsg(message.octets)
    route.decode()
    table = route.get("RTA_TABLE") or head.table
    metric = route.get("RTA_PRIORITY") or 0
    index = route.get("RTA_OIF")
    if index:
        yield DefaultRoute(head.family, index, metric, _gateway(route), table)
    for hop in route.get("RTA_MULTIPATH") or ():
        yield DefaultRoute(head.family, hop["oif"], metric, _gateway(hop), table)


def rule(message: Message) -> str | None:
    """A routing rule as the kernel wrote it, without the flags that change with no message; only to be compared."""
    body = message.octets[_BODY:]  # struct fib_rule_hdr, then the attributes
    if body[0] not in (AF_INET, AF_INET6):
        return None
    (flags,) = _FIB_RULE_FLAGS.unpack_from(body)
    return f"{body[:8].hex()} {flags & FIB_RULE_KEPT} {body[12:].hex()}"


def choice(message: Message) -> RouteChoice | None:
    """What the kernel's route lookup answered."""
    head = route_head(message)
    found = attributes(message.octets, _BODY + _RTMSG.size)
    if head.type != RTN_UNICAST or RTA_OIF not in found:
        return None
    (index,) = _U32.unpack_from(found[RTA_OIF])
    return RouteChoice(head.family, index, _ip(head.family, found.get(RTA_PREFSRC, b"")))


def error(message: Message) -> int:
    """The errno that ends an answer (struct nlmsgerr, and NLMSG_DONE); 0: none."""
    return -int.from_bytes(message.octets[_BODY : _BODY + 4], sys.byteorder, signed=True)


def _aligned(length: int) -> int:
    """NLMSG_ALIGN and RTA_ALIGN."""
    return (length + 3) & ~3


def _ip(family: int, octets: bytes) -> IPAddress | None:
    if family == AF_INET and len(octets) == 4:
        return IPv4Address(octets)
    return IPv6Address(octets) if family == AF_INET6 and len(octets) == 16 else None


def _gateway(route: rtmsg) -> str:
    via = route.get("RTA_VIA")  # an IPv4 route by way of an IPv6 neighbour (RFC 5549)
    return str(route.get("RTA_GATEWAY") or (via and via.get("addr")) or "")


def _name(octets: bytes) -> str:
    """A link's name; the kernel takes any bytes but white space, slash and colon."""
    text = octets.partition(b"\0")[0].decode("ascii", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
