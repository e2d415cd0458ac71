"""What the host says about the network that it is on, and what is a change of it (rule E1)."""

from __future__ import annotations

from enum import Enum, auto
from ipaddress import ip_address
from typing import NamedTuple

from salsa_agent.core import addresses as rules_a
from salsa_agent.core.events import Command, DiscoverExternalAddress
from salsa_agent.core.model import IPAddress, LinkInfo, LinkRelays, NetworkFacts, Server, ServerView, number_of
from salsa_agent.core.nat import ExternalAddress
from salsa_agent.core.selection import SelectionInput, sites_of_links
from salsa_agent.core.servers import without_own_links
from salsa_agent.core.settings import Settings
from salsa_agent.text import split_host_port

AF_INET = 2  # sys/socket.h


class Change(Enum):
    """How what was read differs from what was read before."""

    NOTHING = auto()
    OWN_ADDRESSES = auto()  # of addresses that do not count, which C4 looks at, too
    NETWORK = auto()
    RESUMED = auto()  # the machine was suspended: another network, whatever was read


class _Identity(NamedTuple):
    """What makes a network; only to be compared. `sites`: the names of the links' sites (F4)."""

    of_kernel: rules_a.Network
    servers: ServerView
    sites: tuple[tuple[int, str], ...]


class Network:
    """What drivers read, put together to the input of a selection.

    `inputs`: None until the kernel's state and the servers are known.
    """

    def __init__(self, settings: Settings, identity: bytes) -> None:
        self.settings = settings
        self.inputs: SelectionInput | None = None
        self.external = ExternalAddress()
        self._machine = identity
        self._facts: NetworkFacts | None = None
        self._servers: ServerView | None = None
        self._links: tuple[LinkRelays, ...] = ()
        self._infos: tuple[LinkInfo, ...] = ()
        self._last: _Identity | None = None
        self._resumed = False
        self._stale = False  # something that `inputs` is made from changed

    @property
    def servers(self) -> tuple[Server, ...]:
        """The DNS servers for what belongs to no address: those of the first one, else the global ones (F1)."""
        return self.inputs.view.of_link(self.inputs.first_link) if self.inputs else ()

    @property
    def before_external(self) -> frozenset[str] | None:
        """The links whose relays go before those that the external address may bring; None: it is not awaited (G1)."""
        if self.external.settled:
            return None
        addresses = self.inputs.addresses if self.inputs else ()
        last = max((n for n, one in enumerate(addresses) if one.ifindex == self.external.ifindex), default=-1)
        return frozenset(address.interface for address in addresses[: last + 1])

    @property
    def links(self) -> dict[str, int]:
        """The indexes of the links whose addresses count, by name."""
        return {address.interface: address.ifindex for address in self.inputs.addresses} if self.inputs else {}

    @property
    def ip_versions(self) -> tuple[int, ...]:
        """The IP versions of which the host has an address that counts or a default route: a route may come (D1)."""
        versions = {address.ip.version for address in self.inputs.addresses} if self.inputs else set()
        routes = self._facts.defaults if self._facts else ()
        return tuple(sorted(versions | {4 if route.family == AF_INET else 6 for route in routes}))

    def is_own(self, server: str) -> bool:
        """Whether a DNS server (`address`, or `address:port` as in an answer) is at an address of this host."""
        try:
            ip = ip_address(split_host_port(server)[0])
        except ValueError:  # such as the hosts file
            return True
        return ip.is_loopback or (self.inputs is not None and number_of(ip) in self.inputs.own)

    # --- what was read; `update` compares it

    def read_facts(self, facts: NetworkFacts) -> None:
        """The kernel's state."""
        self._facts, self._stale = facts, True

    def read_servers(self, view: ServerView) -> None:
        """The servers that are to be asked."""
        self._servers, self._stale = view, True

    def read_link_infos(self, infos: tuple[LinkInfo, ...]) -> None:
        """What else the links say (F4)."""
        self._infos, self._stale = infos, True

    def set_link_relays(self, links: tuple[LinkRelays, ...]) -> None:
        """What the links' own configuration gives (C9)."""
        self._links, self._stale = links, True

    def read_settings(self, settings: Settings) -> list[Command]:
        """The configuration."""
        commands = self.external.reset() if settings.network != self.settings.network else []
        self.settings, self._stale = settings, True
        return commands

    def found_external(self, request: DiscoverExternalAddress, ip: IPAddress | None) -> bool:
        """What a NAT answered (G1); whether it is news."""
        news = self.external.record(request, ip)
        self._stale |= news
        return news

    def resumed(self) -> None:
        """The machine was suspended."""
        self._resumed = self._stale = True

    # ---

    def update(self) -> Change:
        """Make `inputs` from what was read, and compare, so that a repeated message costs nothing."""
        if self._facts is None or self._servers is None or not self._stale:
            return Change.NOTHING
        before, last = self.inputs, self._last
        self.inputs = inputs = self._make_inputs(self._facts, self._servers)
        if before is not None and last is not None:  # other sites in the configuration are no change of the network
            last = last._replace(sites=_sites(before._replace(settings=self.settings)))
        link_addresses = tuple(address for address in inputs.addresses if address.origin == "link")
        self._last = _Identity(rules_a.network(self._facts, link_addresses), inputs.view, _sites(inputs))
        resumed, self._resumed = self._resumed, False
        if resumed:
            return Change.RESUMED
        if self._last != last:
            return Change.NETWORK
        return Change.OWN_ADDRESSES if before is not None and before.own != inputs.own else Change.NOTHING

    def leave(self) -> list[Command]:
        """The network changed: what a NAT said on the old one is void."""
        commands = self.external.reset()
        if commands and self._facts is not None and self._servers is not None:
            self.inputs = self._make_inputs(self._facts, self._servers)
        return commands

    def _make_inputs(self, facts: NetworkFacts, servers: ServerView) -> SelectionInput:
        self._stale = False
        return SelectionInput(
            self.settings,
            self.external.add_to(rules_a.counting(facts, self.settings.network.ignore)),
            rules_a.own(facts),
            without_own_links(servers, facts.addresses),
            self._machine,
            self._links,
            self._infos,
            facts.addresses,
        )

    def discover(self) -> list[Command]:
        """Ask for the external address, as the settings want it (G1)."""
        if self._facts is None or self.inputs is None:
            return []
        addresses = tuple(address for address in self.inputs.addresses if address.origin == "link")
        return self.external.discover(self.settings.network, self._facts, addresses, self.inputs.view)


def _sites(inputs: SelectionInput) -> tuple[tuple[int, str], ...]:
    """The links that a site holds for (C10), with its name."""
    return tuple((ifindex, site.name) for ifindex, site in sites_of_links(inputs).items())
