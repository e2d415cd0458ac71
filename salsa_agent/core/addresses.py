"""Rules A: which of the host's addresses count, and in which order."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Address, IPv6Network
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
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


def counting(facts: NetworkFacts, ignore: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses that count, first the one that matters most (A1-A4); at most 64 (A3). The order is total."""
    links = {link.index: link for link in facts.links if _link_counts(link, ignore)}
    found = [
        (_order(facts, host), Address(host.ip, host.index, links[host.index].name, _temporary(host)))
        for host in facts.addresses
        if host.index in links and _counts(host)
    ]
    found.sort(key=lambda pair: pair[0])
    return tuple(address for _, address in found[:MAX_ADDRESSES])


def own(facts: NetworkFacts) -> frozenset[IPAddress]:
    """Every address on the host but loopback and link-local (C4): an exchange that has one of them is this host."""
    return frozenset(a.ip for a in facts.addresses if not (a.ip.is_loopback or a.ip.is_link_local))


def _link_counts(link: Link, ignore: tuple[str, ...]) -> bool:
    return link.usable and not link.loopback and not any(fnmatchcase(link.name, pattern) for pattern in ignore)


def _counts(host: HostAddress) -> bool:
    ip = host.ip
    return (
        host.scope == RT_SCOPE_UNIVERSE
        and not host.flags & _UNUSABLE
        and host.preferred
        and not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
        and not (ip.version == 4 and ip in _CLAT)
    )


def _temporary(host: HostAddress) -> bool:
    return host.ip.version == 6 and bool(host.flags & IFA_F_TEMPORARY)


def _order(facts: NetworkFacts, host: HostAddress) -> tuple[float, ...]:
    """A4 as a sort key: the link's place, then the address's place on it."""
    chosen = any(choice.index == host.index for choice in facts.choices)
    metrics = [r.metric for r in facts.defaults if r.index == host.index and r.table == RT_TABLE_MAIN]
    # a link that the kernel picks without a default route of its own in the main table took traffic over from the
    # others (half routes, a table of its own): it goes before one that is picked for the other family only
    metric = min(metrics) if metrics else (-1 if chosen else inf)
    source = any(choice.source == host.ip and choice.index == host.index for choice in facts.choices)
    late = _temporary(host) if isinstance(host.ip, IPv6Address) else not source
    return (not chosen, metric, host.index, _family_rank(host.ip), late, int(host.ip))


def _family_rank(ip: IPAddress) -> int:
    if isinstance(ip, IPv6Address):
        return 2 if ip in _UNIQUE_LOCAL else 0
    return 1
