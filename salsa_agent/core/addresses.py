"""Rules A: which of the host's addresses count, and in which order. Rule E1: which facts make the network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from heapq import nsmallest
from ipaddress import ip_network
from itertools import filterfalse
from math import inf
from operator import attrgetter
from typing import NamedTuple

from salsa_agent.core.model import (
    FIRST_IPV6,
    Address,
    DefaultRoute,
    HostAddress,
    Link,
    NetworkFacts,
    RouteChoice,
    number_of,
)
from salsa_agent.core.settings import DEFAULT_IGNORE

# linux/if_addr.h; 0x01 on an IPv4 address is IFA_F_SECONDARY
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
_UNUSABLE = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE

AF_INET6 = 10  # sys/socket.h on Linux
RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h: global
RT_TABLE_MAIN = 254
MAX_ADDRESSES = 64

LOOPBACK, LINK_LOCAL = "loopback", "link-local"
# rule A2: the prefixes whose addresses never count, and why
_NEVER = (
    ("0.0.0.0/32", "unspecified"),
    ("127.0.0.0/8", LOOPBACK),
    ("169.254.0.0/16", LINK_LOCAL),
    ("192.0.0.0/29", "internal to this host (RFC 7335)"),
    ("224.0.0.0/4", "multicast"),
    ("::/128", "unspecified"),
    ("::1/128", LOOPBACK),
    ("fe80::/10", LINK_LOCAL),
    ("ff00::/8", "multicast"),
)


class _Prefixes:
    """Disjoint prefixes, each with a reason. A host may have 10,000 addresses: one look-up is one bisection."""

    def __init__(self, table: Iterable[tuple[str, str]]) -> None:
        networks = [(ip_network(prefix), reason) for prefix, reason in table]
        ranges = sorted((number_of(net[0]), number_of(net[-1]), reason) for net, reason in networks)
        self._firsts = [first for first, _, _ in ranges]
        self._ranges = ranges

    def reason(self, number: int) -> str:
        """The reason of the prefix that holds the address of this number (see `number_of`); empty: none does."""
        place = bisect_right(self._firsts, number)
        if place == 0:
            return ""
        _, last, reason = self._ranges[place - 1]
        return reason if number <= last else ""


_never = _Prefixes(_NEVER)
_unique_local = _Prefixes([("fc00::/7", "unique-local")])


def counting(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses that count, first the one that matters most (A1-A4); at most 64 (A3). The order is total.

    `ignore`: shell patterns on the names of links (`network.ignore`).
    """
    links = {link.index: link for link in facts.links if _link_counts(link, ignore, facts)}
    # an IPv4 address may be on a link twice, with two masks
    unique = {(host.number, host.index): host for host in facts.addresses if host.index in links and _may_count(host)}
    candidates = [*unique.values()]
    candidates += _on_loopback(facts, links, candidates)
    first = nsmallest(MAX_ADDRESSES, candidates, key=_Order(facts, links).of)
    return tuple(Address(host.ip, host.index, links[host.index].name, _temporary(host)) for host in first)


def eligible_links(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Link, ...]:
    """The links whose addresses count (A1, A3), also those that have none yet; the first 64 (A4), by index."""
    links = {link.index: link for link in facts.links if _link_counts(link, ignore, facts)}
    first = nsmallest(MAX_ADDRESSES, links, key=_Order(facts, links).of_link)
    return tuple(links[index] for index in sorted(first))


def own(facts: NetworkFacts) -> frozenset[int]:
    """C4: the numbers of all addresses on the host but loopback and link-local ones, which say nothing of it."""
    return frozenset(filterfalse(_says_nothing, map(_NUMBER, facts.addresses)))


class Network(NamedTuple):
    """What a network change is a change of (E1), as far as the kernel tells it. Only to be compared.

    Rules, and routes of tables other than the main one, are in it by what they do to `choices`: containers and VPNs
    bring many that change nothing for the host itself. `carriers`: the links of the addresses, with the number of times
    that each lost or got its carrier, so that one that came back at once is seen.
    """

    addresses: tuple[Address, ...]
    defaults: frozenset[DefaultRoute]
    choices: frozenset[RouteChoice]
    carriers: frozenset[tuple[int, int]]


def network(facts: NetworkFacts, addresses: tuple[Address, ...]) -> Network:
    """The network of these facts and of the addresses of theirs that count."""
    indexes = {address.ifindex for address in addresses}
    return Network(
        addresses,
        frozenset(route for route in facts.defaults if route.table == RT_TABLE_MAIN),
        facts.choices,
        frozenset((link.index, link.carrier_changes) for link in facts.links if link.index in indexes),
    )


def families(facts: NetworkFacts) -> frozenset[int]:
    """The IP versions of which the host has an address or a default route: a route of another is not waited for (F2).

    Loopback and link-local addresses are none: every host has those.
    """
    versions = {6 if route.family == AF_INET6 else 4 for route in facts.defaults}
    for version in (4, 6):
        if any(host.ip.version == version and not _says_nothing(host.number) for host in facts.addresses):
            versions.add(version)
    return frozenset(versions)


_NUMBER: Callable[[HostAddress], int] = attrgetter("number")


def _link_counts(link: Link, ignore: tuple[str, ...], facts: NetworkFacts) -> bool:
    """A1, A3. The default patterns only guess by the name: the kernel's choice for the outside outweighs them."""
    if not link.usable or link.loopback:
        return False
    if not _ignored(link.name, ignore):
        return True
    return ignore == DEFAULT_IGNORE and any(choice.index == link.index for choice in facts.choices)


@lru_cache(maxsize=1024)
def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """A3; the same few links again and again."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _may_count(host: HostAddress) -> bool:
    """A1, A2: whether this address counts on a link that does."""
    if host.scope != RT_SCOPE_UNIVERSE or host.flags & _UNUSABLE or not host.preferred:
        return False
    return not _never.reason(host.number)


def _on_loopback(facts: NetworkFacts, links: dict[int, Link], others: Iterable[HostAddress]) -> Iterator[HostAddress]:
    """A1: an address on the loopback link that the kernel picks as its source counts on the link that it leads out by.

    So it is on hosts that announce their address by BGP: those of the links themselves are for the neighbours only.
    """
    leads_out = {choice.source: choice.index for choice in facts.choices if choice.source and choice.index in links}
    if not leads_out:
        return
    loopback = {link.index for link in facts.links if link.loopback and link.usable}
    there = {(host.index, host.ip) for host in others if host.ip in leads_out}
    for host in facts.addresses:
        if host.index in loopback and host.ip in leads_out and _may_count(host):
            index = leads_out[host.ip]
            if (index, host.ip) not in there:
                there.add((index, host.ip))
                yield replace(host, index=index)


def _says_nothing(number: int) -> bool:
    """Loopback or link-local: every host has it."""
    return _never.reason(number) in (LOOPBACK, LINK_LOCAL)


def _temporary(host: HostAddress) -> bool:
    return host.number >= FIRST_IPV6 and bool(host.flags & IFA_F_TEMPORARY)


class _Order:
    """A4 as a sort key: the link's place, then the address's place on it."""

    def __init__(self, facts: NetworkFacts, links: Iterable[int]) -> None:
        self._sources = {(c.index, number_of(c.source)) for c in facts.choices if c.source}
        self._with_source = {index for index, _ in self._sources}
        self._links = {index: self._place(facts, index) for index in links}

    def of_link(self, index: int) -> tuple[bool, float, int]:
        """The less, the earlier."""
        return self._links[index]

    def of(self, host: HostAddress) -> tuple[tuple[bool, float, int], int, bool, int]:
        """The less, the earlier."""
        index, number = host.index, host.number
        if number >= FIRST_IPV6:
            family, late = 2 if _unique_local.reason(number) else 0, _temporary(host)
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
