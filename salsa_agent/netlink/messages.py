"""What one rtnetlink message says, as values of the model. Nothing here reads a socket.

Messages come by the thousand, so they are read as the C structs that they are. The library's codec takes ten times as
long, and what it cannot decode it logs, and passes on as octets.

What reads a message raises struct.error where it is not as the kernel's headers have it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from salsa_agent.core.model import DefaultRoute, HostAddress, IPAddress, Link, RouteChoice

NLM_F_DUMP_INTR = 0x10  # linux/netlink.h

IFLA_IFNAME = 3  # linux/if_link.h
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8  # linux/if_addr.h
RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 4, 5, 6, 7  # linux/rtnetlink.h
RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 9, 15, 18

IFF_UP = 0x1  # linux/if.h
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

RTN_UNICAST, RTN_MULTICAST = 1, 5  # linux/rtnetlink.h
RTN_LOCAL_KINDS = range(2, RTN_MULTICAST + 1)  # local, broadcast, anycast, multicast: they lead nowhere outside
RTM_F_CLONED = 0x200
RT_TABLE_LOCAL = 255

_NLMSGHDR = struct.Struct("=IHHII")
_BODY = _NLMSGHDR.size
_CUT_OFF = (0, 0, 0, 0, 0)
_RTATTR = struct.Struct("=HH")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=8BI")
_RTNEXTHOP = struct.Struct("=HBBi")
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
    family: int
    ip: bytes
    prefix: int = 0
    peer: bytes = b""


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
    """The messages of a datagram. Raises OSError(EBADMSG) after the last whole one, if something is cut off."""
    start = 0
    while (left := len(datagram) - start) > 0:
        length, kind, flags, sequence, _ = _NLMSGHDR.unpack_from(datagram, start) if left >= _BODY else _CUT_OFF
        if not _BODY <= length <= left:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        yield Message(kind, flags, sequence, datagram[start : start + length])
        start += _aligned(length)


def attributes(octets: bytes, start: int) -> dict[int, bytes]:
    """The values of a message's attributes by their type, from the first one on."""
    found = {}
    end = len(octets)
    while start + 4 <= end:
        length, kind = _RTATTR.unpack_from(octets, start)
        if not 4 <= length <= end - start:
            raise struct.error(f"an attribute of {length} octets, where {end - start} are left")
        found[kind] = octets[start + 4 : start + length]
        start += (length + 3) & ~3  # RTA_ALIGN
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
    """An address of the host; None where it is of no family that counts."""
    key, found = _address(message)
    ip = _ip(key.family, key.ip)
    if ip is None:
        return None
    _, _, flags, scope, index = _IFADDRMSG.unpack_from(message.octets, _BODY)
    if IFA_FLAGS in found:
        (flags,) = _U32.unpack_from(found[IFA_FLAGS])
    preferred = found.get(IFA_CACHEINFO, b"")[:4] != b"\0\0\0\0"  # struct ifa_cacheinfo begins with ifa_prefered
    return key, HostAddress(ip, index, scope, flags, preferred)


def address_key(message: Message) -> AddressKey:
    """Which address a message speaks of."""
    return _address(message)[0]


def _address(message: Message) -> tuple[AddressKey, dict[int, bytes]]:
    """The own address is IFA_LOCAL, and IFA_ADDRESS only where there is none (linux/if_addr.h)."""
    family, prefix, _, _, index = _IFADDRMSG.unpack_from(message.octets, _BODY)
    found = attributes(message.octets, _BODY + _IFADDRMSG.size)
    peer = found.get(IFA_ADDRESS, b"")
    own = found.get(IFA_LOCAL) or peer
    # an IPv4 address may stand on a link twice, with two masks or peers; an IPv6 address only once, its peer may change
    return AddressKey(index, family, own, prefix, peer) if family == AF_INET else AddressKey(index, family, own), found


def route_head(message: Message) -> RouteHead:
    """The fixed part of a route."""
    return RouteHead(*_RTMSG.unpack_from(message.octets, _BODY))


def defaults(message: Message) -> tuple[DefaultRoute, ...]:
    """The default routes a route message stands for: one for each next hop of a multipath route."""
    head = route_head(message)
    if head.dst_len != 0 or head.type != RTN_UNICAST or not head.matters:
        return ()
    found = attributes(message.octets, _BODY + _RTMSG.size)
    metric, table = _number(found, RTA_PRIORITY), _number(found, RTA_TABLE) or head.table
    hops = [(_number(found, RTA_OIF), found), *_next_hops(found.get(RTA_MULTIPATH, b""))]
    return tuple(
        DefaultRoute(head.family, index, metric, _gateway(head.family, hop), table) for index, hop in hops if index
    )


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
    if not octets or family not in (AF_INET, AF_INET6):
        return None
    if len(octets) != (4 if family == AF_INET else 16):
        raise struct.error(f"an address of {len(octets)} octets")
    return IPv4Address(octets) if family == AF_INET else IPv6Address(octets)


def _number(found: dict[int, bytes], kind: int) -> int:
    return int(_U32.unpack_from(found[kind])[0]) if kind in found else 0


def _next_hops(octets: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    """The link and the attributes of each next hop: struct rtnexthop of linux/rtnetlink.h, again and again."""
    start = 0
    while start < len(octets):
        length, _, _, index = _RTNEXTHOP.unpack_from(octets, start)
        if not _RTNEXTHOP.size <= length <= len(octets) - start:
            raise struct.error(f"a next hop of {length} octets, where {len(octets) - start} are left")
        yield index, attributes(octets[start : start + length], _RTNEXTHOP.size)
        start += _aligned(length)


def _gateway(family: int, found: dict[int, bytes]) -> str:
    via = found.get(RTA_VIA, b"")  # struct rtvia: an IPv4 route by way of an IPv6 neighbour (RFC 5549)
    gateway = _ip(family, found.get(RTA_GATEWAY, b"")) or _ip(int.from_bytes(via[:2], sys.byteorder), via[2:])
    return str(gateway or "")


def _name(octets: bytes) -> str:
    """A link's name; the kernel takes any bytes but white space, slash and colon."""
    text = octets.partition(b"\0")[0].decode("ascii", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
