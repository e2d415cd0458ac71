"""What one rtnetlink message says, as values of the model. Nothing here reads a socket."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from salsa_agent.core.model import DefaultRoute, HostAddress, IPAddress, Link, RouteChoice

Message = Any  # a pyroute2 nlmsg; the library has no types

NLM_F_DUMP_INTR = 0x10  # linux/netlink.h

IFF_UP = 0x1  # linux/if.h
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

RTN_UNICAST = 1  # linux/rtnetlink.h
RTN_LOCAL_KINDS = frozenset((2, 3, 4, 5))  # local, broadcast, anycast, multicast: they lead nowhere outside
RTM_F_CLONED = 0x200
RT_TABLE_LOCAL = 255

FIB_RULE_KEPT = 0x3  # linux/fib_rules.h: PERMANENT, INVERT; the other flags follow links and goto targets silently


class LinkState(NamedTuple):
    """A link and those of its flags whose change moves addresses and routes without a message of their own."""

    link: Link
    up: int


class AddressKey(NamedTuple):
    """What makes two address messages speak of the same address."""

    ifindex: int
    ip: IPAddress
    prefix: int
    peer: str


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


def interrupted(message: Message) -> bool:
    """Whether the kernel's state changed while it was dumped (E3): the dump may lack what did not change."""
    return bool(message["header"]["flags"] & NLM_F_DUMP_INTR)


def link(message: Message) -> LinkState | None:
    """A link; None where the message speaks of something else, such as a bridge about its port (AF_BRIDGE)."""
    if message["family"] != 0:
        return None
    flags = message["flags"]
    up = flags & (IFF_UP | IFF_LOWER_UP)
    name = _name(message.get("IFLA_IFNAME"))
    usable = up == IFF_UP | IFF_LOWER_UP
    return LinkState(Link(message["index"], name, usable, loopback=bool(flags & IFF_LOOPBACK)), up)


def address(message: Message) -> tuple[AddressKey, HostAddress] | None:
    """An address of the host: IFA_LOCAL, and IFA_ADDRESS only where there is none (linux/if_addr.h)."""
    if message["family"] not in (AF_INET, AF_INET6):
        return None
    peer = message.get("IFA_ADDRESS") or ""
    own = message.get("IFA_LOCAL") or peer
    if not own:
        return None
    ip = ip_address(own)
    index = message["index"]
    # an IPv4 address may stand on a link twice, with two masks or peers; an IPv6 address only once, its peer may change
    key = AddressKey(index, ip, message["prefixlen"], peer) if ip.version == 4 else AddressKey(index, ip, 0, "")
    flags = message.get("IFA_FLAGS")
    times = message.get("IFA_CACHEINFO")
    preferred = times is None or times["ifa_preferred"] != 0
    return key, HostAddress(ip, index, message["scope"], message["flags"] if flags is None else flags, preferred)


def defaults(message: Message) -> Iterator[DefaultRoute]:
    """The default routes a route message stands for: one for each next hop of a multipath route."""
    family = message["family"]
    if (
        message["dst_len"] != 0
        or message["type"] != RTN_UNICAST
        or message["table"] == RT_TABLE_LOCAL
        or message["flags"] & RTM_F_CLONED
        or family not in (AF_INET, AF_INET6)
    ):
        return
    table = message.get("RTA_TABLE") or message["table"]
    metric = message.get("RTA_PRIORITY") or 0
    index = message.get("RTA_OIF")
    if index:
        yield DefaultRoute(family, index, metric, _gateway(message), table)
    for hop in message.get("RTA_MULTIPATH") or ():
        yield DefaultRoute(family, hop["oif"], metric, _gateway(hop), table)


def rule(message: Message) -> str | None:
    """A routing rule as the kernel wrote it, without the flags that change with no message; only to be compared."""
    if message["family"] not in (AF_INET, AF_INET6):
        return None
    start = message.offset + 16  # past struct nlmsghdr: struct fib_rule_hdr, its flags at 8, then the attributes
    body = bytes(message.data[start : message.offset + message["header"]["length"]])
    return f"{body[:8].hex()} {message['flags'] & FIB_RULE_KEPT} {body[12:].hex()}"


def choice(message: Message) -> RouteChoice | None:
    """What the kernel's route lookup answered."""
    index = message.get("RTA_OIF")
    if message["type"] != RTN_UNICAST or not index:
        return None
    source = message.get("RTA_PREFSRC")
    return RouteChoice(message["family"], index, ip_address(source) if source else None)


def _gateway(message: Message) -> str:
    via = message.get("RTA_VIA")  # an IPv4 route by way of an IPv6 neighbour (RFC 5549)
    return str(message.get("RTA_GATEWAY") or (via and via.get("addr")) or "")


def _name(raw: object) -> str:
    """A link's name; the kernel takes any bytes but white space, slash and colon."""
    text = raw.decode("ascii", "backslashreplace") if isinstance(raw, bytes) else str(raw or "")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
