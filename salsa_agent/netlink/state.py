"""What the kernel's dumps and events have told so far. No input and output."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from socket import AF_INET
from typing import Any

from pyroute2.netlink import rtnl

from salsa_agent.core.model import DefaultRoute, HostAddress, NetworkFacts, RouteChoice
from salsa_agent.netlink import messages as read
from salsa_agent.netlink.messages import LinkState


class Kind(Enum):
    """What is dumped, in this order."""

    LINKS = auto()
    ADDRESSES = auto()
    ROUTES = auto()


Stale = frozenset[Kind]

NOTHING: Stale = frozenset()


class KernelState:
    """Links and addresses follow their events. Default routes are dumped again when an event hints at them.

    For the kernel drops IPv4 routes with their link, their address or their nexthop object, and replaces them, without
    a message for each.
    """

    def __init__(self) -> None:
        self.links: dict[int, LinkState] = {}
        self.addresses: dict[Hashable, HostAddress] = {}
        self.defaults: frozenset[DefaultRoute] = frozenset()
        self._handlers: dict[int, Callable[[Any], Stale | None]] = {
            rtnl.RTM_NEWADDR: self._new_address,
            rtnl.RTM_DELADDR: self._address_gone,
            rtnl.RTM_NEWLINK: self._new_link,
            rtnl.RTM_DELLINK: self._link_gone,
            rtnl.RTM_NEWROUTE: self._route,
            rtnl.RTM_DELROUTE: self._route,
            rtnl.RTM_NEWRULE: self._rule,
            rtnl.RTM_DELRULE: self._rule,
            read.RTM_NEWNEXTHOP: self._nexthop,
            read.RTM_DELNEXTHOP: self._nexthop,
        }

    def apply(self, message: Any) -> Stale | None:
        """Take an event in. What has to be dumped because of it, maybe nothing; None: it is no change at all.

        Raises one of `messages.UNREADABLE`.
        """
        handler = self._handlers.get(read.kind(message))
        return handler(message) if handler else None

    def facts(self, choices: frozenset[RouteChoice]) -> NetworkFacts:
        """All of it as a value, with the kernel's choices for the outside."""
        links = frozenset(state.link for state in self.links.values())
        return NetworkFacts(links, frozenset(self.addresses.values()), self.defaults, choices)

    def _new_link(self, message: Any) -> Stale | None:
        state = read.link(message)
        if state is None:
            return None
        before = self.links.get(state.link.index)
        self.links[state.link.index] = state
        if before == state:
            return None
        if before and (before.up, before.link.carrier_changes) == (state.up, state.link.carrier_changes):
            return NOTHING  # such as another name
        return frozenset({Kind.ADDRESSES, Kind.ROUTES})

    def _link_gone(self, message: Any) -> Stale | None:
        state = read.link(message)
        if state is None or self.links.pop(state.link.index, None) is None:
            return None
        gone = state.link.index
        self.addresses = {key: address for key, address in self.addresses.items() if address.index != gone}
        return frozenset({Kind.ROUTES})

    def _new_address(self, message: Any) -> Stale | None:
        found = read.address(message)
        if found is None or self.addresses.get(found[0]) == found[1]:  # a router advertisement repeats them
            return None
        self.addresses[found[0]] = found[1]
        return NOTHING

    def _address_gone(self, message: Any) -> Stale | None:
        found = read.address(message)
        if found is None or self.addresses.pop(found[0], None) is None:
            return None
        # the routes of an IPv4 address go with it, and with the last one all of the link's, without a message
        return frozenset({Kind.ROUTES}) if message["family"] == AF_INET else NOTHING

    def _route(self, message: Any) -> Stale | None:
        if not read.may_lead_outside(message):
            return None
        # other routes, such as the half routes or the table of a VPN, are no facts themselves, but may move the choice
        default = message["dst_len"] == 0 and message["table"] == read.RT_TABLE_MAIN
        return frozenset({Kind.ROUTES}) if default else NOTHING

    def _rule(self, _message: Any) -> Stale | None:
        return NOTHING  # no fact itself, but it may move the choice

    def _nexthop(self, _message: Any) -> Stale | None:
        return frozenset({Kind.ROUTES})
