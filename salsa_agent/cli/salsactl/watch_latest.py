"""Work for each change of the relay: one run at a time, always for the last one, while the printing goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from salsa_agent.cli.salsactl.command import Best


class Latest:
    """Does `work` with the last value given. What comes while it is done replaces what waits."""

    def __init__(self, work: Callable[[Best], Awaitable[None]]) -> None:
        self._work = work
        self._waiting: Best | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run())

    def give(self, best: Best) -> None:
        """Have the work done with this."""
        self._waiting = best
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until all is done that was given."""
        await self._idle.wait()

    async def close(self) -> None:
        """Break off what is being done."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            best, self._waiting = self._waiting, None
            if best is not None:
                await self._work(best)
            if self._waiting is None:
                self._idle.set()
