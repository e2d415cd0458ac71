"""The first of several addresses that connects (RFC 8305 section 5), and what became of the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from salsa_agent.smtp.connect import Connector

ATTEMPT_DELAY = 0.25  # seconds, "Connection Attempt Delay" (RFC 8305 section 5)

StartNext = Callable[[], None]
Connect = Callable[[Connector, StartNext], Awaitable[socket.socket]]
"""Connects, or raises OSError. It may call its second argument: the next address need not wait for this one."""


@dataclass(slots=True)
class Outcome:
    """How a race ended. `connected`: the winner first, then who connected at the same moment."""

    connected: list[tuple[Connector, socket.socket]] = field(default_factory=list)
    failed: list[tuple[Connector, OSError]] = field(default_factory=list)
    unfinished: list[Connector] = field(default_factory=list)


class Race:
    """Attempts that start one after the other, each when the one before failed or has had its delay."""

    def __init__(self, connectors: Sequence[Connector], connect: Connect) -> None:
        self._connect = connect
        self._waiting = list(connectors)
        self._running: dict[asyncio.Task[socket.socket], Connector] = {}
        self._start_next = asyncio.Event()
        self._stopped = asyncio.Event()
        self._outcome = Outcome()

    def stop(self) -> None:
        """Nobody needs a winner any more: `run` ends soon."""
        self._stopped.set()

    async def run(self) -> Outcome:
        """Return when one has connected, all have failed, or it was stopped. Cancelling it closes everything.

        An attempt that still connects then is ended, unless the kernel has the connection already: its server has seen
        a client that must not just go away.
        """
        outcome = self._outcome
        try:
            while (self._waiting or self._running) and not outcome.connected and not self._stopped.is_set():
                if self._waiting:
                    self._start_next.clear()
                    self._start(self._waiting.pop(0))
                await self._turn()
                self._collect()
            await self._end()
        except BaseException:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            self._collect()
            for _, sock in outcome.connected:
                sock.close()
            raise
        outcome.unfinished += self._waiting
        return outcome

    def _start(self, connector: Connector) -> None:
        async def attempt() -> socket.socket:
            return await self._connect(connector, self._start_next.set)

        self._running[asyncio.create_task(attempt(), name=f"connect to {connector.ip}")] = connector

    async def _turn(self) -> None:
        """Wait until an attempt has ended, until it is the next one's turn, or until this is stopped."""
        events = [self._stopped, self._start_next] if self._waiting else [self._stopped]
        signals = [asyncio.create_task(event.wait(), name="race") for event in events]
        delay = ATTEMPT_DELAY if self._waiting else None
        try:
            await asyncio.wait([*self._running, *signals], timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for signal in signals:
                signal.cancel()

    async def _end(self) -> None:
        for task, connector in self._running.items():
            if not connector.established:
                task.cancel()
        if self._running:
            await asyncio.wait(self._running)
            self._collect()

    def _collect(self) -> None:
        for task in [task for task in self._running if task.done()]:
            connector = self._running.pop(task)
            if task.cancelled():
                self._outcome.unfinished.append(connector)
            elif (error := task.exception()) is None:
                self._outcome.connected.append((connector, task.result()))
            elif isinstance(error, OSError):
                self._outcome.failed.append((connector, error))
            else:
                raise error
