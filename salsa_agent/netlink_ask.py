"""Questions to the kernel: dumps and route lookups, on a socket that hears no events.

Events carry the sequence number of whoever caused them, and pyroute2 sorts by it: on one socket they would mix.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_MULTI, NLM_F_REQUEST, rtnl
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from salsa_agent import netlink_parse as parse
from salsa_agent.core.model import DefaultRoute, HostAddress, RouteChoice

Socket = Any  # AsyncIPRoute; the library has no types

SOL_NETLINK = 270  # linux/socket.h
NETLINK_GET_STRICT_CHK = 12  # linux/netlink.h
RTEXT_FILTER_SKIP_STATS = 8  # linux/rtnetlink.h

# the outside as route lookups see it: the addresses of root server a (no packet is sent)
OUTSIDE = {AF_INET: "198.41.0.4", AF_INET6: "2001:503:ba3e::2:30"}


class LeanRoute(rtmsg):  # type: ignore[misc]  # untyped base
    """A dumped route: its attributes are decoded only where it is a default route."""

    __slots__ = ()

    def decode_nlas(self, offset: int) -> None:
        """Decode the attributes if they are wanted."""
        if self["dst_len"] == 0 or not self["header"]["flags"] & NLM_F_MULTI:
            super().decode_nlas(offset)


async def bind(sock: Socket) -> None:
    """Give the socket its port; OSError if there is none."""
    try:
        await sock.bind(groups=0)
    except KeyError as error:  # what pyroute2 makes of any failure
        raise OSError(errno.EADDRINUSE, "no netlink port") from error


class Asker:
    """Reads the kernel's state by asking. `whole`: the last dump was not interrupted (E3)."""

    def __init__(self) -> None:
        self._sock: Socket = AsyncIPRoute()
        self._sock.register_policy({rtnl.RTM_NEWROUTE: LeanRoute})
        self.whole = True

    async def open(self) -> None:
        """Make the socket usable."""
        await bind(self._sock)
        with contextlib.suppress(OSError):  # before Linux 4.20 the kernel dumps more than asked; the parser drops it
            self._sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    async def watch(self) -> None:
        """Raise OSError or NetlinkError when the socket fails: pyroute2 does not tell whoever awaits an answer."""
        while True:
            async for _ in self._sock.get():
                pass

    async def links(self) -> dict[int, parse.LinkState]:
        """All links by index."""
        request = ifinfmsg()
        request["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
        dump = self._dump(request, rtnl.RTM_GETLINK)
        return {state.link.index: state async for message in dump if (state := parse.link(message))}

    async def addresses(self) -> dict[parse.AddressKey, HostAddress]:
        """All addresses."""
        dump = self._dump(ifaddrmsg(), rtnl.RTM_GETADDR)
        return {pair[0]: pair[1] async for message in dump if (pair := parse.address(message))}

    async def defaults(self) -> frozenset[DefaultRoute]:
        """The default routes of all tables. Routes of other types or with a destination are dropped as they come."""
        found: set[DefaultRoute] = set()
        interrupted = False
        for family in OUTSIDE:
            request = rtmsg()
            request["family"] = family
            request["type"] = parse.RTN_UNICAST
            async for message in self._dump(request, rtnl.RTM_GETROUTE):
                found.update(parse.defaults(message))
            interrupted |= not self.whole
        self.whole = not interrupted
        return frozenset(found)

    async def rules(self) -> frozenset[str]:
        """The routing rules."""
        return frozenset([r async for m in self._dump(fibmsg(), rtnl.RTM_GETRULE) if (r := parse.rule(m))])

    async def choices(self) -> frozenset[RouteChoice]:
        """The route to the outside in each family that has one (RTM_GETROUTE; A4)."""
        found = [await self._choice(family, target) for family, target in OUTSIDE.items()]
        return frozenset(choice for choice in found if choice)

    async def _choice(self, family: int, target: str) -> RouteChoice | None:
        request = rtmsg()
        request["family"] = family
        request["dst_len"] = 32 if family == AF_INET else 128
        request["attrs"] = [("RTA_DST", target)]
        try:
            replies = [m async for m in await self._sock.nlm_request(request, rtnl.RTM_GETROUTE, NLM_F_REQUEST)]
        except NetlinkError:  # ENETUNREACH and its kin: this family leads nowhere
            return None
        return parse.choice(replies[0]) if replies else None

    async def _dump(self, request: parse.Message, command: int) -> AsyncIterator[parse.Message]:
        self.whole = True
        # pyroute2 shows the closing NLMSG_DONE, which may be the only one with the flag, to the callback alone
        answer = await self._sock.nlm_request(request, command, NLM_F_REQUEST | NLM_F_DUMP, callback=self._note)
        async for message in answer:
            yield message

    def _note(self, message: parse.Message) -> bool:
        self.whole = self.whole and not parse.interrupted(message)
        return False
