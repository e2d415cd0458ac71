"""Rules A: which of the host's addresses count, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Address
from itertools import islice
from math import inf

from salsa_agent.core.model import Address, HostAddress, IPAddress, Link, NetworkFacts

# linux/if_addr.h; 0x01 on an IPv4 address is IFA_F_SECONDARY
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
_UNUSABLE = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE

RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h: global
RT_TABLE_MAIN = 254
MAX_ADDRESSES = 64

_CLAT = IPv4Network("192.0.0.0/29")  # host-internal (RFC 7335)
_UNIQUE_LOCAL = 0xFC >> 1  # fc00::/7


def counting(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses that count, first the one that matters most (A1-A4); at most 64 (A3). The order is total."""
    links = {link.index: link for link in facts.links if _link_counts(link, ignore)}
    order = _Order(facts, links)
    candidates = sorted((host for host in facts.addresses if host.index in links and _usable(host)), key=order.of)
    first = islice((host for host in candidates if _global(host.ip)), MAX_ADDRESSES)
    return tuple(Address(host.ip, host.index, links[host.index].name, _temporary(host)) for host in first)


def own(facts: NetworkFacts) -> frozenset[IPAddress]:
    """Every address on the host but loopback and link-local (C4): an exchange that has one of them is this host."""
    return frozenset(a.ip for a in facts.addresses if not _local(a.ip))


def _link_counts(link: Link, ignore: tuple[str, ...]) -> bool:
    return link.usable and not link.loopback and not any(fnmatchcase(link.name, pattern) for pattern in ignore)


def _usable(host: HostAddress) -> bool:
    return host.scope == RT_SCOPE_UNIVERSE and not host.flags & _UNUSABLE and host.preferred


def _global(ip: IPAddress) -> bool:
    """A2."""
    return not (_local(ip) or ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip in _CLAT))


def _local(ip: IPAddress) -> bool:
    """Loopback or link-local, as `ipaddress` has it, in a tenth of the time: a host may have 10,000 addresses."""
    number = int(ip)
    if ip.version == 4:
        return number >> 24 == 127 or number >> 16 == 0xA9FE  # 127.0.0.0/8, 169.254.0.0/16
    return number == 1 or number >> 118 == 0x3FA  # ::1, fe80::/10


def _temporary(host: HostAddress) -> bool:
    return host.ip.version == 6 and bool(host.flags & IFA_F_TEMPORARY)


class _Order:
    """A4 as a sort key: the link's place, then the address's place on it."""

    def __init__(self, facts: NetworkFacts, links: Iterable[int]) -> None:
        self._sources = {(choice.index, choice.source) for choice in facts.choices if choice.source}
        self._with_source = {index for index, _ in self._sources}
        self._links = {index: self._place(facts, index) for index in links}

    def of(self, host: HostAddress) -> tuple[float, ...]:
        """The less, the earlier."""
        ip = host.ip
        if isinstance(ip, IPv6Address):
            family, late = 2 if int(ip) >> 121 == _UNIQUE_LOCAL else 0, _temporary(host)
        else:
            family, late = 1, host.index not in self._with_source or (host.index, ip) not in self._sources
        return (*self._links[host.index], family, late, int(ip))

    @staticmethod
    def _place(facts: NetworkFacts, index: int) -> tuple[bool, float, int]:
        chosen = any(choice.index == index for choice in facts.choices)
        metrics = [r.metric for r in facts.defaults if r.index == index and r.table == RT_TABLE_MAIN]
        # a link that the kernel picks without a default route of its own in the main table took traffic over from the
        # others (half routes, a table of its own): it goes before one that is picked for the other family only
        metric = min(metrics) if metrics else (-1 if chosen else inf)
        return (not chosen, metric, index)
