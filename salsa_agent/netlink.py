"""The kernel's links, addresses, default routes, rules and route choices, by rtnetlink; every change is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable
from contextlib import closing
from enum import Enum, auto
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import nlmsg, rtnl
from pyroute2.netlink.exceptions import NetlinkError

from salsa_agent import netlink_parse as parse
from salsa_agent.core.bucket import Bucket
from salsa_agent.core.model import DefaultRoute, HostAddress, NetworkFacts, RouteChoice
from salsa_agent.netlink_ask import Asker, bind

# RTNLGRP_* of linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
GROUPS = (1, 5, 7, 8, 9, 11, 19)

DUMP_TRIES = 4
DUMP_PAUSE = 0.01  # seconds before the second try; doubles
DUMP_AGAIN = 1.0  # seconds until more tries, when the last one was interrupted, too
SETTLE_TURNS = 3  # of the loop: one reads a datagram, the next wakes who waits for it, one to be sure
SETTLE_MOST = 0.1  # seconds
SESSION_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds before another socket, when the last one gave nothing


class Kind(Enum):
    """What is dumped."""

    LINKS = auto()
    ADDRESSES = auto()
    ROUTES = auto()
    RULES = auto()


class HeadOnly(nlmsg):  # type: ignore[misc]  # untyped base
    """A route or rule event: only its fixed part is looked at, which is five times cheaper than all of it."""

    __slots__ = ()
    fields = (("head", "8BI"),)


HEADS_ONLY = dict.fromkeys((rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE, rtnl.RTM_NEWRULE, rtnl.RTM_DELRULE), HeadOnly)


class Netlink:
    """Tells `on_facts` (which must not raise) what the kernel knows: once at first, then whenever it is something else.

    Links and addresses follow their events. Default routes and rules are dumped again when an event hints at them: the
    kernel drops IPv4 routes with their link or address, and replaces them, without a message for each.
    """

    def __init__(
        self,
        on_facts: Callable[[NetworkFacts], None],
        *,
        log: logging.Logger = logging.getLogger("salsa-agent"),  # noqa: B008  # loggers are singletons
        rcvbuf: int = 1 << 20,
    ) -> None:
        self._on_facts = on_facts
        self._log = log
        self._rcvbuf = rcvbuf
        self._links: dict[int, parse.LinkState] = {}
        self._addresses: dict[parse.AddressKey, HostAddress] = {}
        self._defaults: frozenset[DefaultRoute] = frozenset()
        self._rules: frozenset[str] = frozenset()
        self._told: NetworkFacts | None = None
        self._stale: set[Kind] = set()
        self._wake = asyncio.Event()
        self._gate = asyncio.Event()  # closed during a dump: events wait, and are then applied to what it gave
        self._datagrams = 0
        self._fruitless = 0  # sessions in a row that told nothing
        self._budget = Bucket(10, 0.1)  # of snapshots: a roam never waits, a storm costs ten a second

    def reread(self) -> None:
        """Ask for a fresh dump of everything."""
        self._touch(*Kind)

    async def run(self) -> None:
        """Follow the kernel until cancelled. A socket that overran or failed is replaced and all is read again (E3)."""
        while True:
            try:
                await self._session()
            except* (OSError, NetlinkError) as group:
                self._log_failure(group)
            if self._fruitless:
                await asyncio.sleep(SESSION_PAUSES[min(self._fruitless, len(SESSION_PAUSES)) - 1])
            self._fruitless += 1

    async def _session(self) -> None:
        """One life of the sockets: first the subscription, then the dumps, so that nothing falls between."""
        self._gate.set()
        self.reread()
        with closing(AsyncIPRoute(rcvbuf=self._rcvbuf)) as events, closing(Asker()) as asker:
            events.register_policy(HEADS_ONLY)
            await bind(events)
            for group in GROUPS:
                events.add_membership(group)
            await asker.open()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(events), name="netlink events")
                tasks.create_task(asker.watch(), name="netlink errors")
                tasks.create_task(self._follow(asker), name="netlink facts")

    def _log_failure(self, group: BaseExceptionGroup[Any]) -> None:
        for error in group.exceptions:
            code = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
            if code == errno.ENOBUFS:
                self._log.info("more network changes than the netlink socket could hold: reading everything again")
            else:
                self._log.warning("netlink failed (%s): reading everything again", errno.errorcode.get(code or 0, code))

    # --- events

    async def _listen(self, events: Any) -> None:
        while True:
            async for message in events.get():
                await self._gate.wait()
                self._apply(message)
            self._datagrams += 1

    def _apply(self, message: parse.Message) -> None:
        match message["header"]["type"]:
            case rtnl.RTM_NEWADDR:
                self._address_there(message)
            case rtnl.RTM_DELADDR:
                self._address_gone(message)
            case rtnl.RTM_NEWLINK:
                self._link_there(message)
            case rtnl.RTM_DELLINK:
                self._link_gone(message)
            case rtnl.RTM_NEWRULE | rtnl.RTM_DELRULE:
                self._touch(Kind.RULES)
            case rtnl.RTM_NEWROUTE | rtnl.RTM_DELROUTE:
                route = parse.RouteHead(*message["head"])
                if route.matters and route.dst_len == 0:
                    self._touch(Kind.ROUTES)
                elif route.matters:  # such as the half routes of a VPN: no fact itself, but it may move the choice
                    self._touch()

    def _link_there(self, message: parse.Message) -> None:
        state = parse.link(message)
        if state is None:
            return
        before = self._links.get(state.link.index)
        self._links[state.link.index] = state
        if before is None or before.up != state.up:
            self._touch(Kind.ADDRESSES, Kind.ROUTES)
        elif before != state:
            self._touch()

    def _link_gone(self, message: parse.Message) -> None:
        state = parse.link(message)
        if state is not None and self._links.pop(state.link.index, None) is not None:
            self._addresses = {k: address for k, address in self._addresses.items() if k.ifindex != state.link.index}
            self._touch(Kind.ROUTES)

    def _address_there(self, message: parse.Message) -> None:
        parsed = parse.address(message)
        if parsed is not None and self._addresses.get(parsed[0]) != parsed[1]:  # a router advertisement repeats them
            self._addresses[parsed[0]] = parsed[1]
            self._touch()

    def _address_gone(self, message: parse.Message) -> None:
        parsed = parse.address(message)
        if parsed is None or self._addresses.pop(parsed[0], None) is None:
            return
        if parsed[1].ip.version == 4:  # its routes go with it, and with the last one all of the link's, unsaid
            self._touch(Kind.ROUTES)
        else:
            self._touch()

    def _touch(self, *stale: Kind) -> None:
        self._stale.update(stale)
        self._wake.set()

    # --- facts

    async def _follow(self, asker: Asker) -> None:
        """After each change: what is stale is dumped, the routes are looked up, and that is one snapshot."""
        while True:
            await self._due()
            self._wake.clear()
            for kind in Kind:
                if kind in self._stale:
                    await self._read(asker, kind)
            self._tell(await asker.choices())
            self._fruitless = 0

    async def _due(self) -> None:
        """Wait for a change, for the budget, and until what has come so far is applied."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DUMP_AGAIN if self._stale else None):
                await self._wake.wait()
        await asyncio.sleep(self._budget.ready_at(loop.time()) - loop.time())
        self._budget.take(loop.time())
        end = loop.time() + SETTLE_MOST
        seen = -1
        while self._datagrams != seen and loop.time() < end:
            seen = self._datagrams
            for _ in range(SETTLE_TURNS):
                await asyncio.sleep(0)

    def _tell(self, choices: frozenset[RouteChoice]) -> None:
        facts = NetworkFacts(
            links=frozenset(state.link for state in self._links.values()),
            addresses=frozenset(self._addresses.values()),
            defaults=self._defaults,
            choices=choices,
            rules=self._rules,
        )
        if facts != self._told:
            self._told = facts
            self._on_facts(facts)

    async def _read(self, asker: Asker, kind: Kind) -> None:
        """Dump one kind; again, a few times, if it changed meanwhile, and later if it always did (E3)."""
        for attempt in range(DUMP_TRIES):
            if attempt:
                await asyncio.sleep(DUMP_PAUSE * 2 ** (attempt - 1))
            self._stale.discard(kind)  # before the dump: a hint that comes while it runs asks for another
            self._gate.clear()
            try:
                await self._dump(asker, kind)
            finally:
                self._gate.set()
            if asker.whole:
                return
            self._stale.add(kind)

    async def _dump(self, asker: Asker, kind: Kind) -> None:
        match kind:
            case Kind.LINKS:
                self._links = await asker.links()
            case Kind.ADDRESSES:
                self._addresses = await asker.addresses()
            case Kind.ROUTES:
                self._defaults = await asker.defaults()
            case Kind.RULES:
                self._rules = await asker.rules()
