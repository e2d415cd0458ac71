"""Follows the kernel's links, addresses, default routes and route choices; emits a snapshot after each change."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from salsa_agent.core.model import NetworkFacts
from salsa_agent.netlink.kernel_socket import EventSocket, RequestSocket
from salsa_agent.netlink.messages import UNREADABLE
from salsa_agent.netlink.queries import KernelQueries
from salsa_agent.netlink.schedule import SnapshotSchedule
from salsa_agent.netlink.state import KernelState, Kind

# RTNLGRP_* of linux/rtnetlink.h
GROUPS = {
    1: "links",
    5: "IPv4 addresses",
    7: "IPv4 routes",
    8: "IPv4 rules",
    9: "IPv6 addresses",
    11: "IPv6 routes",
    19: "IPv6 rules",
    32: "nexthop objects",  # since Linux 5.3
}

DUMP_TRIES = 4
DUMP_PAUSE = 0.01  # seconds before the second try; doubles
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 300.0  # seconds before other sockets, when the last ones failed; doubles
CALM = 60.0  # seconds without a failure after which that begins anew
SILENCE = 5.0  # seconds at the start, after which a kernel that says nothing is taken for one without addresses
MOST_TURNS = 200  # of the event loop, in which a snapshot waits for events that are on their way
AT_ONCE = 200  # datagrams that are applied before the event loop gets a turn


class Netlink:
    """Gives `on_facts` (which must not raise) what the kernel knows: once at first, then whenever that has changed.

    Where the kernel says nothing at all (a sandbox without AF_NETLINK), it is given no addresses after five seconds,
    so that the static relay is used; the kernel is asked again, more and more seldom (E3).
    """

    def __init__(
        self,
        on_facts: Callable[[NetworkFacts], None],
        *,
        log: logging.Logger = logging.getLogger("salsa-agent"),  # noqa: B008  # loggers are singletons
        rcvbuf: int = 1 << 20,
    ) -> None:
        """`rcvbuf`: octets of the socket that hears events."""
        self._on_facts = on_facts
        self._log = log
        self._rcvbuf = rcvbuf
        self._state = KernelState()
        self._schedule = SnapshotSchedule()
        self._wake = asyncio.Event()  # something was noted in the schedule
        self._dumping = asyncio.Lock()  # events wait meanwhile, and are then applied to what the dump gave
        self._last_snapshot: NetworkFacts | None = None
        self._snapshots = 0  # taken
        self._refused: set[str] = set()  # what the log has said so of

    def reread(self) -> None:
        """Dump everything again, and compare. A pause after a failure ends."""
        self._note(*Kind)

    async def run(self) -> None:
        """Follow the kernel until cancelled. Sockets that failed are replaced, and all is read again (E3)."""
        loop = asyncio.get_running_loop()
        silence = loop.call_later(SILENCE, self._assume_nothing)
        pause = FIRST_PAUSE
        try:
            while True:
                began, before = loop.time(), self._snapshots
                error = await self._session()
                if _number(error) == errno.ENOBUFS and self._snapshots > before:
                    self._log.info("more network changes than the netlink socket could hold: reading everything again")
                    continue
                if loop.time() - began >= CALM:
                    pause = FIRST_PAUSE
                reason = errno.errorcode.get(_number(error), str(error))
                level = logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG
                self._log.log(level, "netlink failed (%s): reading everything again", reason)
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            silence.cancel()

    def _assume_nothing(self) -> None:
        if self._last_snapshot is None:
            self._log.warning("the kernel says nothing of the network: going on without addresses")
            self._emit(NetworkFacts())

    async def _session(self) -> OSError | NetlinkError:
        """One life of the sockets: an overrun, or any other error, is the end of pyroute2's. Returns that error."""
        try:
            async with EventSocket(self._rcvbuf) as events, RequestSocket() as requests:
                await events.listen()
                for group, name in GROUPS.items():
                    try:
                        events.join(group)
                    except OSError as error:
                        self._note_refused(f"changes of {name}", error)
                await requests.open()
                self.reread()  # after the subscription, so that nothing falls between
                queries = KernelQueries(requests, self._note_refused, self._log)
                return await _first_error(self._listen(events), self._follow(events, queries))
        except (OSError, NetlinkError) as error:
            return error

    # --- events

    async def _listen(self, events: EventSocket) -> None:
        while True:
            for _ in range(AT_ONCE):
                async for message in events.messages():
                    async with self._dumping:
                        self._apply(message)
            await asyncio.sleep(0)

    def _apply(self, message: object) -> None:
        try:
            stale = self._state.apply(message)
        except UNREADABLE as error:  # what it said is lost
            self._log.debug("netlink: reading everything again after a message that cannot be read: %r", error)
            self.reread()
        else:
            if stale is not None:
                self._note(*stale)

    def _note(self, *stale: Kind) -> None:
        self._schedule.note(stale)
        self._wake.set()

    def _note_refused(self, what: str, error: Exception) -> None:
        if what not in self._refused:
            self._refused.add(what)
            reason = errno.errorcode.get(_number(error), str(error))
            self._log.warning("the kernel does not tell %s (%s): going on as if there were none", what, reason)

    # --- snapshots

    async def _follow(self, events: EventSocket, queries: KernelQueries) -> None:
        """After each change: what is stale is dumped, the routes are looked up, and that is one snapshot."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._until_due()
            for kind in self._schedule.begin(clock()):
                async with self._dumping:
                    if not await self._dump(queries, kind):
                        self._schedule.interrupted(kind, clock())
            await _settled(events)
            self._schedule.taken()
            facts = self._state.facts(await queries.choices())
            self._snapshots += 1
            if facts != self._last_snapshot:
                self._emit(facts)

    def _emit(self, facts: NetworkFacts) -> None:
        self._last_snapshot = facts
        self._on_facts(facts)

    async def _until_due(self) -> None:
        clock = asyncio.get_running_loop().time
        while (due := self._schedule.due_at(clock())) is None or due > clock():
            if due is not None and self._schedule.changed:
                await asyncio.sleep(due - clock())
                continue
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def _dump(self, queries: KernelQueries, kind: Kind) -> bool:
        """Dump one kind; again, a few times, if something changed meanwhile (E3). Whether it was consistent."""
        for attempt in range(DUMP_TRIES):
            if attempt:
                await asyncio.sleep(DUMP_PAUSE * 2 ** (attempt - 1))
            match kind:
                case Kind.LINKS:
                    self._state.links = await queries.links()
                case Kind.ADDRESSES:
                    self._state.addresses = await queries.addresses()
                case Kind.ROUTES:
                    self._state.defaults = await queries.defaults()
            if queries.dump_consistent:
                return True
        return False


async def _settled(events: EventSocket) -> None:
    """Wait until all events that have come are applied, and no more come with each turn of the event loop.

    A dump may be newer than events that waited for its end: half of them would be a state that never was.
    """
    for _ in range(MOST_TURNS):
        received = events.received
        await asyncio.sleep(0)
        if events.received == received and not events.waiting:
            return


async def _first_error(*works: Coroutine[Any, Any, None]) -> OSError | NetlinkError:
    """Run these coroutines, none of which returns, until one fails. Raises what is no OSError or NetlinkError."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    try:
        done.pop().result()
    except (OSError, NetlinkError) as error:
        return error
    raise AssertionError("the netlink driver returned")


def _number(error: Exception) -> int:
    """The errno."""
    return int(error.code if isinstance(error, NetlinkError) else getattr(error, "errno", 0) or 0)


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
