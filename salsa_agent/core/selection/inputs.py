"""What a selection is made from, besides the DNS answers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from salsa_agent.core.admission import leads_to
from salsa_agent.core.model import (
    Address,
    HostAddress,
    IPAddress,
    LinkInfo,
    LinkRelays,
    ServerView,
    number_of,
)
from salsa_agent.core.settings import Settings


class SelectionInput(NamedTuple):
    """The host and its settings at one moment.

    `addresses`: those that count, in order A4. `own`: the numbers (`number_of`) of all of the host's addresses but
    loopback and link-local ones (C4). `host_addresses`: all addresses with their prefixes (C3 with D11). `identity`: of
    the machine (C1). `links`: what the links' configuration gives (C9). `infos`: what else the links say (F4).
    """

    settings: Settings
    addresses: tuple[Address, ...]
    own: frozenset[int]
    view: ServerView
    identity: bytes
    links: tuple[LinkRelays, ...] = ()
    infos: tuple[LinkInfo, ...] = ()
    host_addresses: frozenset[HostAddress] = frozenset()

    def is_own(self, addresses: Iterable[IPAddress]) -> bool:
        """Whether one of the addresses is this host's (C4)."""
        return any(number_of(ip) in self.own or number_of(leads_to(ip)) in self.own for ip in addresses)

    def links_of(self, ip: IPAddress) -> frozenset[int]:
        """The links with an own address in whose prefix `ip` lies."""
        return _prefixes(self.host_addresses).links_of(leads_to(ip))

    @property
    def first_link(self) -> int:
        """The link of the first address, by which what belongs to no address is asked (F1); 0: there is none."""
        return self.addresses[0].ifindex if self.addresses else 0


class _Prefixes:
    """The links by the prefixes of the host's addresses; a look-up costs one step for each prefix length in use."""

    def __init__(self, addresses: Iterable[HostAddress]) -> None:
        links: dict[tuple[int, int, int], set[int]] = {}
        for host in addresses:
            bits = host.ip.max_prefixlen
            length = bits if host.prefixlen is None else min(host.prefixlen, bits)
            links.setdefault((bits, length, int(host.ip) >> (bits - length)), set()).add(host.index)
        self._links = {prefix: frozenset(indexes) for prefix, indexes in links.items()}
        self._lengths = {(bits, length) for bits, length, _ in links}

    def links_of(self, ip: IPAddress) -> frozenset[int]:
        bits, number = ip.max_prefixlen, int(ip)
        found = (
            self._links.get((bits, length, number >> (bits - length)), frozenset())
            for family, length in self._lengths
            if family == bits
        )
        return frozenset().union(*found)


@lru_cache(maxsize=4)
def _prefixes(addresses: frozenset[HostAddress]) -> _Prefixes:
    """Made only when a relay's private address has to be judged: a host may have 10,000 addresses."""
    return _Prefixes(addresses)
