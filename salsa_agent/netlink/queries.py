"""Questions to the kernel: dumps and route lookups, on a socket that hears no events.

The kernel answers within the system call that asks, and continues a dump within the one that reads. So nothing here
waits; a long dump lets the event loop turn in between.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Callable
from itertools import count
from socket import AF_INET, AF_INET6
from typing import Any, TypeVar

from salsa_agent.core.model import DefaultRoute, HostAddress, RouteChoice
from salsa_agent.netlink import messages as parse
from salsa_agent.netlink._pyroute2 import NLM_F_DUMP, NLM_F_REQUEST, ifaddrmsg, nlmsg, rtmsg, rtnl
from salsa_agent.netlink.route_socket import RouteSocket

NLMSG_ERROR, NLMSG_DONE = 2, 3  # linux/netlink.h
RTEXT_FILTER_SKIP_STATS = 8  # linux/rtnetlink.h

# the outside as route lookups see it: the addresses of root server a (no packet is sent)
OUTSIDE = {AF_INET: "198.41.0.4", AF_INET6: "2001:503:ba3e::2:30"}

TURN = 8  # datagrams, some 2,000 messages, after which the event loop gets a turn

T = TypeVar("T")
log = logging.getLogger("salsa-agent")

_U32 = struct.Struct("=I")
_SEQUENCE = 8  # where it is in struct nlmsghdr


class LinkRequest(nlmsg):  # type: ignore[misc]  # untyped base
    """struct ifinfomsg, and the one attribute that is sent; the library's own comes with each kind of link there is."""

    __slots__ = ()
    fields = (("family", "B"), ("pad", "B"), ("type", "H"), ("index", "i"), ("flags", "I"), ("change", "I"))
    nla_map = ((29, "IFLA_EXT_MASK", "uint32"),)


def _request(message: Any, kind: int, flags: int, *attributes: tuple[str, object], **fields: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.update(fields)
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


LINKS = _request(LinkRequest(), rtnl.RTM_GETLINK, NLM_F_DUMP, ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS))
ADDRESSES = _request(ifaddrmsg(), rtnl.RTM_GETADDR, NLM_F_DUMP)
ROUTES = {
    family: _request(rtmsg(), rtnl.RTM_GETROUTE, NLM_F_DUMP, family=family, type=parse.RTN_UNICAST)
    for family in OUTSIDE
}
LOOKUPS = {
    family: _request(
        rtmsg(), rtnl.RTM_GETROUTE, 0, ("RTA_DST", target), family=family, dst_len=32 if family == AF_INET else 128
    )
    for family, target in OUTSIDE.items()
}


def _said(message: parse.Message, read: Callable[[parse.Message], T | None]) -> T | None:
    """What `read` makes of it. A message that is malformed would be so in the next dump, too: it is left out."""
    try:
        return read(message)
    except struct.error as error:
        log.debug("netlink: left out a message of type %d: %s", message.kind, error)
        return None


class Asker:
    """Reads the kernel's state by asking. `whole`: the last dump was not interrupted (E3). All of it raises OSError."""

    def __init__(self) -> None:
        self._sock = RouteSocket()
        self._sequence = count(1)
        self.whole = True

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    async def links(self) -> dict[int, parse.LinkState]:
        """All links by index."""
        return {state.link.index: state async for state in self._dump(LINKS, parse.link)}

    async def addresses(self) -> dict[parse.AddressKey, HostAddress]:
        """All addresses."""
        return {key: address async for key, address in self._dump(ADDRESSES, parse.address)}

    async def defaults(self) -> frozenset[DefaultRoute]:
        """The default routes of all tables. Routes of other types or with a destination are dropped as they come."""
        found: set[DefaultRoute] = set()
        interrupted = False
        for request in ROUTES.values():
            async for routes in self._dump(request, parse.defaults):
                found.update(routes)
            interrupted |= not self.whole
        self.whole = not interrupted
        return frozenset(found)

    def choices(self) -> frozenset[RouteChoice]:
        """The route to the outside in each family that has one (RTM_GETROUTE; A4)."""
        found = [self._choice(request) for request in LOOKUPS.values()]
        return frozenset(choice for choice in found if choice)

    def _choice(self, request: bytes) -> RouteChoice | None:
        number = self._send(request)
        while True:
            for message in self._sock.receive():
                if message.sequence == number:  # an error, such as ENETUNREACH: this family leads nowhere
                    return None if message.kind == NLMSG_ERROR else _said(message, parse.choice)

    async def _dump(self, request: bytes, read: Callable[[parse.Message], T | None]) -> AsyncIterator[T]:
        number = self._send(request)
        self.whole = True
        for turn in count(1):
            for message in self._sock.receive():
                if message.sequence != number:
                    continue
                self.whole = self.whole and not parse.interrupted(message)
                if message.kind not in (NLMSG_ERROR, NLMSG_DONE):
                    if (value := _said(message, read)) is not None:
                        yield value
                elif error := parse.error(message):
                    raise OSError(error, "a dump failed")
                else:
                    return
            if turn % TURN == 0:
                await asyncio.sleep(0)

    def _send(self, request: bytes) -> int:
        """Ask; the number that the answer has."""
        number = next(self._sequence) & 0xFFFFFFFF
        numbered = bytearray(request)
        _U32.pack_into(numbered, _SEQUENCE, number)
        self._sock.send(bytes(numbered))
        return number
