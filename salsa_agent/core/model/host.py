"""What the kernel and the link managers say of this host, and its addresses that count (rules A, F4)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address

MAX_IFINDEX = (1 << 31) - 1  # the kernel's interface indexes are of type int
FIRST_IPV6 = 1 << 128  # the least number of an IPv6 address; see `number_of`


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `usable`: administratively up, with carrier (IFF_UP, IFF_LOWER_UP).

    `carrier_changes`: how often it lost or got its carrier (IFLA_CARRIER_CHANGES).
    """

    index: int
    name: str
    usable: bool
    loopback: bool = False
    carrier_changes: int = 0


def number_of(ip: IPAddress) -> int:
    """The address as a number, so that those of both families can be sorted together; IPv6 is above all of IPv4."""
    return int(ip) | FIRST_IPV6 if isinstance(ip, IPv6Address) else int(ip)


@dataclass(frozen=True, slots=True)
class HostAddress:
    """One address of the host as the kernel lists it.

    `ip` is IFA_LOCAL where present, else IFA_ADDRESS; `flags` are the 32-bit IFA_FLAGS where present, else the header's
    (linux/if_addr.h). `preferred`: preferred lifetime in seconds was not 0. `prefixlen`: ifa_prefixlen of the header;
    None: not known.
    """

    ip: IPAddress
    index: int
    scope: int
    flags: int
    preferred: bool = True
    prefixlen: int | None = None

    @property
    def number(self) -> int:
        """Its place among all addresses, see `number_of`."""
        return number_of(self.ip)

    def __hash__(self) -> int:
        return int(self.ip) ^ self.index  # an address hashes itself as text, twice as slow; there may be 10,000


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route. The rules ask for those of the main table (254) alone, and the driver gives no others."""

    family: int
    index: int
    metric: int
    gateway: str = ""
    table: int = 254


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """What the kernel's own route lookup (RTM_GETROUTE) gives for an outside address of this family.

    `gateway`: the next hop, where a table other than the main one gave it; those of the main table are `DefaultRoute`s.
    """

    family: int
    index: int
    source: IPAddress | None = None
    gateway: str = ""


class NetworkFacts(NamedTuple):
    """Everything the rules need of the kernel, read at one moment. Routing rules show in the `choices` they make."""

    links: frozenset[Link] = frozenset()
    addresses: frozenset[HostAddress] = frozenset()
    defaults: frozenset[DefaultRoute] = frozenset()
    choices: frozenset[RouteChoice] = frozenset()


class Address(NamedTuple):
    """An own address that counts (rules A1-A3), on its link."""

    ip: IPAddress
    ifindex: int
    interface: str
    temporary: bool = False
    origin: str = "link"  # or "nat" (rule G1)


class SearchDomains(NamedTuple):
    """The search and routing domains of links (rule F4), lower case without final dot; the root domain is `.`.

    `everywhere`: those of resolv.conf, which are every link's; only where systemd-resolved does not run.
    """

    everywhere: tuple[str, ...] = ()
    links: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def of_link(self, ifindex: int) -> tuple[str, ...]:
        """The domains of the link `ifindex`."""
        return next((domains for index, domains in self.links if index == ifindex), self.everywhere)


class LinkInfo(NamedTuple):
    """What else is known of a link, for the criteria of sites (rules C10, F4).

    `domains`: its search and routing domains, lower case without final dot; the root domain is `.`. `connection_id`
    and `connection_uuid`: of the NetworkManager connection that is active on it; empty: none.
    """

    ifindex: int
    domains: tuple[str, ...] = ()
    connection_id: str = ""
    connection_uuid: str = ""
