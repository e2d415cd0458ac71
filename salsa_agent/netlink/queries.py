"""Questions to the kernel: dumps and route lookups."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import aclosing
from socket import AF_INET, AF_INET6
from typing import Any, TypeVar

from pyroute2.netlink import nlmsg, rtnl
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from salsa_agent.core.model import DefaultRoute, HostAddress, RouteChoice
from salsa_agent.netlink import messages as read
from salsa_agent.netlink.kernel_socket import RequestSocket

RTEXT_FILTER_SKIP_STATS = 8  # linux/rtnetlink.h
RTM_F_LOOKUP_TABLE = 0x1000  # linux/rtnetlink.h: say which table gave the answer; IPv6 always does, and knows no flag

# the outside as route lookups see it: the addresses of root server a (no packet is sent)
OUTSIDE: dict[int, str] = {AF_INET: "198.41.0.4", AF_INET6: "2001:503:ba3e::2:30"}

ANSWER_WITHIN = 10.0  # seconds for a dump; the kernel answers at once, a sandbox maybe never

T = TypeVar("T")


class KernelQueries:
    """Reads the kernel's state by asking. `dump_consistent`: nothing changed during the last dump (E3).

    All of it raises OSError (TimeoutError where no answer comes) and pyroute2's NetlinkError.
    """

    def __init__(self, sock: RequestSocket, refused: Callable[[str, Exception], None], log: logging.Logger) -> None:
        """`refused` is told of a part that the kernel refuses, which is as if it were empty (E3)."""
        self._sock = sock
        self._refused = refused
        self._log = log
        self.dump_consistent = True

    async def links(self) -> dict[int, read.LinkState]:
        """All links by index."""
        request = ifinfmsg()
        request["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
        return {state.link.index: state for state in await self._dump(request, rtnl.RTM_GETLINK, read.link) if state}

    async def addresses(self) -> dict[Hashable, HostAddress]:
        """All addresses, by what makes two messages speak of the same one."""
        return dict(found for found in await self._dump(ifaddrmsg(), rtnl.RTM_GETADDR, read.address) if found)

    async def defaults(self) -> frozenset[DefaultRoute]:
        """The default routes of the main table."""
        consistent = True
        entries: list[read.RouteEntry] = []
        objects: list[read.Nexthop] = []
        for family in OUTSIDE:
            request = read.RouteMessage()
            request.update(family=family, type=read.RTN_UNICAST)
            found = await self._dump_if_there(request, rtnl.RTM_GETROUTE, read.default_route, "routes")
            entries += [entry for entry in found if entry]
            consistent &= self.dump_consistent
        if any(entry.nexthop_id for entry in entries):
            request = read.NexthopMessage()
            objects = await self._dump_if_there(request, read.RTM_GETNEXTHOP, read.nexthop, "nexthop objects")
            consistent &= self.dump_consistent
        self.dump_consistent = consistent
        return read.default_routes(entries, objects)

    async def choices(self) -> frozenset[RouteChoice]:
        """The route to the outside in each family that has one (RTM_GETROUTE; A4)."""
        asked = [await self._sock.lookup(_lookup(family), rtnl.RTM_GETROUTE) for family in OUTSIDE]
        found: list[RouteChoice | None] = []
        for answers in asked:
            try:
                async with asyncio.timeout(ANSWER_WITHIN), aclosing(answers):
                    found += [read.choice(message) async for message in answers]
            except NetlinkError:  # such as ENETUNREACH: this family leads nowhere
                continue
            except read.UNREADABLE as error:
                self._log.debug("netlink: an answer was left out: %r", error)
        return frozenset(choice for choice in found if choice)

    async def _dump(self, request: nlmsg, kind: int, how: Callable[[Any], T]) -> list[T]:
        """What the messages of a dump say. One that is malformed would be so in the next dump, too: it is left out."""
        found = []
        async with asyncio.timeout(ANSWER_WITHIN), aclosing(self._sock.dump(request, kind)) as messages:
            async for message in messages:
                try:
                    found.append(how(message))
                except read.UNREADABLE as error:
                    self._log.debug("netlink: a message was left out: %r", error)
        self.dump_consistent = self._sock.dump_consistent
        return found

    async def _dump_if_there(self, request: nlmsg, kind: int, how: Callable[[Any], T], what: str) -> list[T]:
        """The same of a part that the kernel may refuse: it is as if it were empty then."""
        try:
            return await self._dump(request, kind, how)
        except NetlinkError as error:
            self._refused(what, error)
            self.dump_consistent = True
            return []


def _lookup(family: int) -> Any:
    request = read.RouteMessage()
    request.update(
        family=family,
        dst_len=32 if family == AF_INET else 128,
        flags=RTM_F_LOOKUP_TABLE if family == AF_INET else 0,
        attrs=[("RTA_DST", OUTSIDE[family])],
    )
    return request
