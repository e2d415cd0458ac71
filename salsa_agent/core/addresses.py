"""Rules A: which of the host's addresses count, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from heapq import nsmallest
from itertools import filterfalse
from math import inf
from operator import attrgetter

from salsa_agent.core.model import FIRST_IPV6, Address, HostAddress, Link, NetworkFacts, number_of

# linux/if_addr.h; 0x01 on an IPv4 address is IFA_F_SECONDARY
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
_UNUSABLE = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE

RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h: global
RT_TABLE_MAIN = 254
MAX_ADDRESSES = 64

_CLAT = 0xC0000000 >> 3  # 192.0.0.0/29, host-internal (RFC 7335)
_UNIQUE_LOCAL = 0x1FC >> 1  # fc00::/7
_UNSPECIFIED = (0, FIRST_IPV6)


def counting(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses that count, first the one that matters most (A1-A4); at most 64 (A3). The order is total."""
    links = {link.index: link for link in facts.links if _link_counts(link, ignore)}
    candidates = [host for host in facts.addresses if host.index in links and _may_count(host)]
    first = nsmallest(MAX_ADDRESSES, candidates, key=_Order(facts, links).of)
    return tuple(Address(host.ip, host.index, links[host.index].name, _temporary(host)) for host in first)


def own(facts: NetworkFacts) -> frozenset[int]:
    """C4: the numbers of all addresses on the host but loopback and link-local ones, which say nothing of it."""
    return frozenset(filterfalse(_local, map(_NUMBER, facts.addresses)))


_NUMBER: Callable[[HostAddress], int] = attrgetter("number")


def _link_counts(link: Link, ignore: tuple[str, ...]) -> bool:
    return link.usable and not link.loopback and not _ignored(link.name, ignore)


@lru_cache(maxsize=1024)
def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """A3; the same few links again and again."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# What follows goes by numbers: `ipaddress` takes ten times as long, and a host may have 10,000 addresses.


def _may_count(host: HostAddress) -> bool:
    """A1, A2: whether this address counts on a link that does."""
    if host.scope != RT_SCOPE_UNIVERSE or host.flags & _UNUSABLE or not host.preferred:
        return False
    number = host.number
    if number < FIRST_IPV6:
        multicast, clat = number >> 28 == 0xE, number >> 3 == _CLAT  # 224.0.0.0/4
    else:
        multicast, clat = number >> 120 == 0x1FF, False  # ff00::/8
    return not (multicast or clat or number in _UNSPECIFIED or _local(number))


def _local(number: int) -> bool:
    """Loopback or link-local."""
    if number < FIRST_IPV6:
        return number >> 24 == 127 or number >> 16 == 0xA9FE  # 127.0.0.0/8, 169.254.0.0/16
    return number == FIRST_IPV6 + 1 or number >> 118 == 0x7FA  # ::1, fe80::/10


def _temporary(host: HostAddress) -> bool:
    return host.number >= FIRST_IPV6 and bool(host.flags & IFA_F_TEMPORARY)


class _Order:
    """A4 as a sort key: the link's place, then the address's place on it."""

    def __init__(self, facts: NetworkFacts, links: Iterable[int]) -> None:
        self._sources = {(c.index, number_of(c.source)) for c in facts.choices if c.source}
        self._with_source = {index for index, _ in self._sources}
        self._links = {index: self._place(facts, index) for index in links}

    def of(self, host: HostAddress) -> tuple[tuple[bool, float, int], int, bool, int]:
        """The less, the earlier."""
        index, number = host.index, host.number
        if number >= FIRST_IPV6:
            family, late = 2 if number >> 121 == _UNIQUE_LOCAL else 0, _temporary(host)
        else:
            family, late = 1, index in self._with_source and (index, number) not in self._sources
        return self._links[index], family, late, number

    @staticmethod
    def _place(facts: NetworkFacts, index: int) -> tuple[bool, float, int]:
        chosen = any(choice.index == index for choice in facts.choices)
        metrics = [r.metric for r in facts.defaults if r.index == index and r.table == RT_TABLE_MAIN]
        # a link that the kernel picks without a default route of its own in the main table took traffic over from the
        # others (half routes, a table of its own): it goes before one that is picked for the other family only
        metric = min(metrics) if metrics else (-1 if chosen else inf)
        return (not chosen, metric, index)
