"""The kernel's links, addresses, default routes and route choices, by rtnetlink; every change is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import struct
from collections.abc import Callable
from contextlib import closing
from enum import Enum, auto
from socket import AF_INET

from salsa_agent.core.model import DefaultRoute, HostAddress, NetworkFacts
from salsa_agent.core.token_bucket import Bucket
from salsa_agent.netlink import messages as parse
from salsa_agent.netlink._pyroute2 import rtnl
from salsa_agent.netlink.queries import Asker
from salsa_agent.netlink.route_socket import RouteSocket

# RTNLGRP_* of linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
GROUPS = (1, 5, 7, 8, 9, 11, 19)

DUMP_TRIES = 4
DUMP_PAUSE = 0.01  # seconds before the second try; doubles
DUMP_AGAIN = 1.0  # seconds until more tries, when the last one was interrupted, too
MOST_AT_ONCE = 1000  # datagrams that are read before the event loop gets a turn
STORM_PAUSE = 0.02  # seconds between two looks at the socket while the budget makes us wait
SESSION_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds before other sockets, when the last ones gave nothing


class Kind(Enum):
    """What is dumped."""

    LINKS = auto()
    ADDRESSES = auto()
    ROUTES = auto()


class Overrun(Exception):
    """More events came than the socket could hold (ENOBUFS): the rest is lost."""


class Netlink:
    """Tells `on_facts` (which must not raise) what the kernel knows: once at first, then whenever it is something else.

    Links and addresses follow their events. Default routes are dumped again when an event hints at them: the
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
        self._told: NetworkFacts | None = None
        self._stale: set[Kind] = set()  # to be dumped
        self._changed = False  # something since the last snapshot
        self._wake = asyncio.Event()  # a snapshot is due that has to wait, for a dump or the budget
        self._failure: Exception | None = None  # why the session, or the socket that hears events, has to end
        self._fruitless = 0  # sessions in a row that told nothing
        self._handlers = {
            rtnl.RTM_NEWADDR: self._address_there,
            rtnl.RTM_DELADDR: self._address_gone,
            rtnl.RTM_NEWLINK: self._link_there,
            rtnl.RTM_DELLINK: self._link_gone,
            rtnl.RTM_NEWROUTE: self._route_changed,
            rtnl.RTM_DELROUTE: self._route_changed,
            rtnl.RTM_NEWRULE: self._rule_changed,
            rtnl.RTM_DELRULE: self._rule_changed,
        }
        self._budget = Bucket(10, 0.1)  # of snapshots: a roam never waits, a storm costs ten a second

    def reread(self) -> None:
        """Ask for a fresh dump of everything."""
        self._touch(*Kind)
        self._wake.set()

    async def run(self) -> None:
        """Follow the kernel until cancelled. Sockets that failed are replaced and all is read again (E3)."""
        while True:
            try:
                await self._session()
            except OSError as error:
                reason = errno.errorcode.get(error.errno or 0, str(error))
                self._log.warning("netlink failed (%s): reading everything again", reason)
            if self._fruitless:
                await asyncio.sleep(SESSION_PAUSES[min(self._fruitless, len(SESSION_PAUSES)) - 1])
            self._fruitless += 1

    async def _session(self) -> None:
        """One life of the sockets. An overrun ends that of the one that hears events."""
        with closing(Asker()) as asker:
            while True:
                self._failure = None
                with closing(RouteSocket(rcvbuf=self._rcvbuf, groups=GROUPS)) as events:
                    self.reread()  # after the subscription, so that nothing falls between
                    failure = await self._follow(events, asker)
                if not isinstance(failure, Overrun):
                    raise failure
                self._log.info("more network changes than the netlink socket could hold: reading everything again")

    async def _follow(self, events: RouteSocket, asker: Asker) -> Exception:
        """After each change: what is stale is dumped, the routes are looked up, and that is one snapshot.

        Events wait in the socket during a dump, and are then applied to what it gave. Returns why no more events come.
        """
        while self._failure is None:
            await self._change(events, asker)
            await self._pay(events)
            self._wake.clear()
            self._changed = False
            for kind in Kind:
                if kind in self._stale:
                    await self._read(asker, kind)
            self._take(events)
            if self._changed and self._stale:
                self._wake.set()
            self._changed = False  # what was just taken is in this snapshot
            self._tell(asker)
            self._fruitless = 0
        return self._failure

    # --- events

    async def _change(self, events: RouteSocket, asker: Asker) -> None:
        """Wait until a snapshot is due that has to wait; any other is told as soon as the kernel speaks."""
        loop = asyncio.get_running_loop()
        loop.add_reader(events, self._hear, events, asker)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DUMP_AGAIN if self._stale else None):
                    await self._wake.wait()
        finally:
            loop.remove_reader(events)

    def _hear(self, events: RouteSocket, asker: Asker) -> None:
        """Tell what came, without a turn of the event loop, if that takes no dump and the budget allows it."""
        self._take(events)
        if not self._changed or self._wake.is_set():
            return
        if self._stale or not self._budget.take(asyncio.get_running_loop().time()):
            self._wake.set()
            return
        self._changed = False
        try:
            self._tell(asker)
        except Exception as error:  # also a defect of ours: it ends the run, as anywhere else
            self._fail(error)

    async def _pay(self, events: RouteSocket) -> None:
        """Wait for the budget. What comes in a storm is looked at now and then, not as it comes."""
        loop = asyncio.get_running_loop()
        while (wait := self._budget.ready_at(loop.time()) - loop.time()) > 0:
            await asyncio.sleep(min(wait, STORM_PAUSE))
            self._take(events)
        self._budget.take(loop.time())

    def _take(self, events: RouteSocket) -> None:
        """Apply what has come so far. After an overrun nothing is: the kernel says it before what it still holds."""
        if self._failure is not None:
            return
        try:
            for _ in range(MOST_AT_ONCE):
                for message in events.receive():
                    self._apply(message)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(Overrun() if error.errno == errno.ENOBUFS else error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._wake.set()

    def _apply(self, message: parse.Message) -> None:
        handle = self._handlers.get(message.kind)
        if handle is None:
            return
        try:
            handle(message)
        except struct.error as error:  # what it says is lost
            self._log.debug("netlink: reading everything again after a message of type %d: %s", message.kind, error)
            self._touch(*Kind)

    def _rule_changed(self, _message: parse.Message) -> None:
        self._touch()  # no fact itself, but it may move the choice

    def _route_changed(self, message: parse.Message) -> None:
        route = parse.route_head(message)
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
        key = parse.address_key(message)
        if self._addresses.pop(key, None) is None:
            return
        if key.family == AF_INET:  # its routes go with it, and with the last one all of the link's, unsaid
            self._touch(Kind.ROUTES)
        else:
            self._touch()

    def _touch(self, *stale: Kind) -> None:
        self._stale.update(stale)
        self._changed = True

    # --- facts

    def _tell(self, asker: Asker) -> None:
        facts = NetworkFacts(
            links=frozenset(state.link for state in self._links.values()),
            addresses=frozenset(self._addresses.values()),
            defaults=self._defaults,
            choices=asker.choices(),
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
            await self._dump(asker, kind)
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


async def read_once() -> NetworkFacts:
    """What the kernel knows now, for one look; nothing, where it does not say within two seconds."""
    found: asyncio.Future[NetworkFacts] = asyncio.get_running_loop().create_future()
    following = asyncio.create_task(Netlink(lambda facts: None if found.done() else found.set_result(facts)).run())
    try:
        async with asyncio.timeout(2.0):
            return await found
    except TimeoutError:
        return NetworkFacts()
    finally:
        following.cancel()
        await asyncio.wait([following])
