"""Rule G1: the external address of the host, as a NAT gateway or a STUN server tells it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from math import inf

from salsa_agent.core import admission as names
from salsa_agent.core.addresses import RT_TABLE_MAIN
from salsa_agent.core.events import Command, DiscoverExternalAddress, ForgetExternalAddress
from salsa_agent.core.model import Address, IPAddress, NetworkFacts, ServerView
from salsa_agent.core.settings import Network

_AF_INET = 2  # sys/socket.h on Linux
# RFC 1918, RFC 6598, RFC 7335, RFC 4193: addresses that another NAT, further out, would have to translate again
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/29")))
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


class ExternalAddress:
    """What was asked of the NAT of the present network, and what it answered."""

    def __init__(self) -> None:
        self._request: DiscoverExternalAddress | None = None
        self._answered = True
        self._ip: IPAddress | None = None
        self._serial = 0

    @property
    def settled(self) -> bool:
        """Whether a round has nothing to wait for."""
        return self._answered

    @property
    def ifindex(self) -> int:
        """The link whose external address was asked for; 0: none was."""
        return self._request.ifindex if self._request else 0

    def reset(self) -> list[Command]:
        """The network or the settings changed: what the NAT answered is void."""
        asked = self._request is not None
        self._request, self._ip, self._answered = None, None, True
        return [ForgetExternalAddress()] if asked else []

    def discover(
        self, network: Network, facts: NetworkFacts, counting: Sequence[Address], view: ServerView
    ) -> list[Command]:
        """A round starts: ask again, unless the same request is still under way."""
        wanted = _request(network, facts, counting, view)
        if wanted is None:
            return self.reset()
        if self._request is not None and not self._answered and self._request._replace(serial=0) == wanted:
            return []
        self._serial += 1
        self._request, self._answered = wanted._replace(serial=self._serial), False
        return [self._request]

    def record(self, request: DiscoverExternalAddress, ip: IPAddress | None) -> bool:
        """Take an answer in; whether it changed what is known. A missing answer takes nothing away (rule E5)."""
        if request != self._request:
            return False
        self._answered = True
        if ip is None or ip == self._ip:
            return False
        self._ip = ip
        return True

    def add_to(self, counting: tuple[Address, ...]) -> tuple[Address, ...]:
        """The addresses that count, the external one after those of its own link, unless it is private itself."""
        if self._request is None or self._ip is None or _is_private(self._ip):
            return counting
        of_link = [place for place, address in enumerate(counting) if address.ifindex == self._request.ifindex]
        if not of_link or any(address.ip == self._ip for address in counting):
            return counting
        last = of_link[-1] + 1
        external = counting[of_link[-1]]._replace(ip=self._ip, temporary=False, origin="nat")
        return (*counting[:last], external, *counting[last:])


def _request(
    network: Network, facts: NetworkFacts, counting: Sequence[Address], view: ServerView
) -> DiscoverExternalAddress | None:
    """What there is to ask: through the link over which the kernel reaches the outside by IPv4."""
    links = [address.ifindex for address in counting if address.ip.version == 4]
    chosen = [choice.index for choice in facts.choices if choice.family == _AF_INET and choice.index in links]
    if not links or network.nat == "off":
        return None
    ifindex = chosen[0] if chosen else links[0]
    if network.nat == "stun":
        server = network.stun_server
        servers = view.servers_for(server.host, ifindex) if server else ()
        return DiscoverExternalAddress(0, "stun", ifindex, server=server, servers=servers)
    gateways = [
        (route.metric, route.gateway)
        for route in facts.defaults
        if route.family == _AF_INET and route.index == ifindex and route.table == RT_TABLE_MAIN
    ]
    gateway = min(gateways, default=(inf, ""))[1]
    if not gateway or ":" in gateway:
        return None
    return DiscoverExternalAddress(0, "nat-pmp", ifindex, gateway=gateway)


def _is_private(ip: IPAddress) -> bool:
    if names.address_error(ip):
        return True
    return any(ip in net for net in _PRIVATE) if ip.version == 4 else ip in _UNIQUE_LOCAL
