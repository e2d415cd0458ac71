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
    IPAddress,
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


class Why(NamedTuple):
    """Why an address or a link does not count: the rule (A1 to A3), and in a few words what it found."""

    rule: str
    reason: str


class LeftOut(NamedTuple):
    """An address of the host that does not count. `interface`: empty where the kernel told no link of that index."""

    ip: IPAddress
    interface: str
    why: Why


_LOOPBACK_LINK = Why("A1", "the loopback link")
_LINK_DOWN = Why("A1", "its link is down or without carrier")
_NO_LINK = Why("A1", "its link is not known")
_NOT_GLOBAL = Why("A1", "its scope is not global")
_DADFAILED = Why("A1", "duplicate")
_DEPRECATED = Why("A1", "deprecated")
_TENTATIVE = Why("A1", "tentative")
_IGNORED = Why("A3", "network.ignore")
_BEYOND = Why("A3", f"beyond the first {MAX_ADDRESSES}")


def counting(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses that count, first the one that matters most (A1-A4); at most 64 (A3). The order is total.

    `ignore`: shell patterns on the names of links (`network.ignore`).
    """
    links = _links_that_count(facts, ignore)
    first = _first(facts, links, _candidates(facts, links))
    return tuple(Address(host.ip, host.index, links[host.index].name, _temporary(host)) for host in first)


def left_out(facts: NetworkFacts, ignore: tuple[str, ...]) -> list[LeftOut]:
    """The host's other addresses, each with the rule that leaves it out; those of A2 last.

    For a person who looks for an address: the list may be as long as that of the host's addresses.
    """
    links = _links_that_count(facts, ignore)
    candidates = _candidates(facts, links)
    may_count = {host.ip for host in candidates}
    counted = {(host.ip, host.index) for host in _first(facts, links, candidates)}
    ips = {ip for ip, _ in counted}
    known = {link.index: link for link in facts.links}
    found: dict[tuple[bool, int, int], LeftOut] = {}
    for host in facts.addresses:
        link = known.get(host.index)
        if (host.ip, host.index) in counted or (link and link.loopback and host.ip in ips):
            continue
        why = _why_not(host)
        if why is None:
            why = _why_link_does_not(link, ignore, facts) if link else _NO_LINK
            if why is None or (why is _LOOPBACK_LINK and host.ip in may_count):
                why = _BEYOND
        found[why.rule == "A2", host.index, host.number] = LeftOut(host.ip, link.name if link else "", why)
    return [found[place] for place in sorted(found)]


def eligible_links(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Link, ...]:
    """The links whose addresses count (A1, A3), also those that have none yet; the first 64 (A4), by index."""
    links = _links_that_count(facts, ignore)
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


def _links_that_count(facts: NetworkFacts, ignore: tuple[str, ...]) -> dict[int, Link]:
    """A1, A3: by index."""
    return {link.index: link for link in facts.links if _why_link_does_not(link, ignore, facts) is None}


def _why_link_does_not(link: Link, ignore: tuple[str, ...], facts: NetworkFacts) -> Why | None:
    """A1, A3: why no address counts on this link; None: they may.

    The default patterns only guess by the name: the kernel's choice for the outside outweighs them.
    """
    if link.loopback:
        return _LOOPBACK_LINK
    leads_out = ignore == DEFAULT_IGNORE and any(choice.index == link.index for choice in facts.choices)
    if not leads_out and _ignored(link.name, ignore):
        return _IGNORED
    return None if link.usable else _LINK_DOWN


@lru_cache(maxsize=1024)
def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """A3; the same few links again and again."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _why_not(host: HostAddress) -> Why | None:
    """A1, A2: why this address does not count, whatever its link; None: it does on a link that does."""
    never = _never.reason(host.number)
    if never:
        return Why("A2", never)
    if host.flags & _UNUSABLE or not host.preferred:
        if host.flags & IFA_F_DADFAILED:
            return _DADFAILED
        return _TENTATIVE if host.flags & IFA_F_TENTATIVE else _DEPRECATED
    return None if host.scope == RT_SCOPE_UNIVERSE else _NOT_GLOBAL


def _candidates(facts: NetworkFacts, links: dict[int, Link]) -> list[HostAddress]:
    """A1, A2: the addresses that count on these links, however many they are."""
    # an IPv4 address may be on a link twice, with two masks
    unique = {(one.number, one.index): one for one in facts.addresses if one.index in links and _why_not(one) is None}
    candidates = [*unique.values()]
    return [*candidates, *_on_loopback(facts, links, candidates)]


def _first(facts: NetworkFacts, links: dict[int, Link], candidates: Iterable[HostAddress]) -> list[HostAddress]:
    """A3, A4: the first 64, in their order."""
    return nsmallest(MAX_ADDRESSES, candidates, key=_Order(facts, links).of)


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
        if host.index in loopback and host.ip in leads_out and _why_not(host) is None:
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
