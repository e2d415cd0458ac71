"""Rule G1: the address that the outside sees, as a NAT tells it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from math import inf

from salsa_agent.core import admission as names
from salsa_agent.core.addresses import RT_TABLE_MAIN
from salsa_agent.core.events import Deed, ForgetOutside, LearnOutside
from salsa_agent.core.model import Address, IPAddress, NetworkFacts, ServerView
from salsa_agent.core.settings import Network

_AF_INET = 2  # sys/socket.h on Linux
# RFC 1918, RFC 6598, RFC 7335, RFC 4193: what another NAT, further out, would have to translate again
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/29")))
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


class Outside:
    """What was asked of the NAT of the present network, and what it said."""

    def __init__(self) -> None:
        self._wish: LearnOutside | None = None
        self._answered = True
        self._ip: IPAddress | None = None
        self._serial = 0

    @property
    def settled(self) -> bool:
        """Whether a round has nothing to wait for."""
        return self._answered

    def leave(self) -> list[Deed]:
        """The network changed, or the settings: what the NAT said is void."""
        asked = self._wish is not None
        self._wish, self._ip, self._answered = None, None, True
        return [ForgetOutside()] if asked else []

    def ask(self, network: Network, facts: NetworkFacts, counting: Sequence[Address], view: ServerView) -> list[Deed]:
        """A round starts: ask anew, unless the same question is still on its way."""
        wanted = _wish(network, facts, counting, view)
        if wanted is None:
            return self.leave()
        if self._wish is not None and not self._answered and self._wish._replace(serial=0) == wanted:
            return []
        self._serial += 1
        self._wish, self._answered = wanted._replace(serial=self._serial), False
        return [self._wish]

    def learn(self, wish: LearnOutside, ip: IPAddress | None) -> bool:
        """Take an answer in; whether it changed what is known. No answer takes nothing away (E5)."""
        if wish != self._wish:
            return False
        self._answered = True
        if ip is None or ip == self._ip:
            return False
        self._ip = ip
        return True

    def add_to(self, counting: tuple[Address, ...]) -> tuple[Address, ...]:
        """The addresses that count, the outside one after those of its own link, unless it is private itself."""
        if self._wish is None or self._ip is None or _is_private(self._ip):
            return counting
        of_link = [place for place, address in enumerate(counting) if address.ifindex == self._wish.ifindex]
        if not of_link or any(address.ip == self._ip for address in counting):
            return counting
        last = of_link[-1] + 1
        outside = counting[of_link[-1]]._replace(ip=self._ip, temporary=False, origin="nat")
        return (*counting[:last], outside, *counting[last:])


def _wish(network: Network, facts: NetworkFacts, counting: Sequence[Address], view: ServerView) -> LearnOutside | None:
    """What there is to ask: through the link over which the kernel reaches the outside by IPv4."""
    links = [address.ifindex for address in counting if address.ip.version == 4]
    chosen = [choice.index for choice in facts.choices if choice.family == _AF_INET and choice.index in links]
    if not links or network.nat == "off":
        return None
    ifindex = chosen[0] if chosen else links[0]
    if network.nat == "stun":
        return LearnOutside(0, "stun", ifindex, server=network.stun_server, servers=view.of_link(ifindex))
    gateways = [
        (route.metric, route.gateway)
        for route in facts.defaults
        if route.family == _AF_INET and route.index == ifindex and route.table == RT_TABLE_MAIN
    ]
    gateway = min(gateways, default=(inf, ""))[1]
    return LearnOutside(0, "nat-pmp", ifindex, gateway=gateway) if gateway and ":" not in gateway else None


def _is_private(ip: IPAddress) -> bool:
    if names.why_not_address(ip):
        return True
    return any(ip in net for net in _PRIVATE) if ip.version == 4 else ip in _UNIQUE_LOCAL
