"""Several addresses of one relay, raced in the Happy Eyeballs manner (RFC 8305 5), whole conversations of it (D1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

ATTEMPT_DELAY = 0.25  # seconds, "Connection Attempt Delay" (RFC 8305 5)
PATIENCE = 1.0  # seconds that an address which accepted the connection has before the next is tried as well


class Attempt(Protocol):
    """A conversation at one address. Whoever changes one of these sets `news`."""

    connected: bool
    gives_way: bool  # the next address need not wait: this one failed, or has no route yet
    won: bool
    over: bool

    async def run(self, news: asyncio.Event) -> None:
        """Hold it. Raises nothing but CancelledError, and is `over` at the end."""


async def race(attempts: Sequence[Attempt], seconds: float) -> None:
    """Return when one has won and is over, or all are; the others are ended by then.

    Each starts when the one before gives way or has had its share of the `seconds`: a short one while it connects, a
    longer one once it is connected. It goes on beside the next.
    """
    share = seconds / max(1, len(attempts))
    news = asyncio.Event()
    running: list[asyncio.Task[None]] = []

    def won() -> bool:
        return any(attempt.won for attempt in attempts)

    async with asyncio.TaskGroup() as group:
        for number, attempt in enumerate(attempts, 1):
            running.append(group.create_task(attempt.run(news)))
            if number < len(attempts):
                await _lead(attempt, won, news, share)
            if won():
                break
        await _until(lambda: won() or all(attempt.over for attempt in attempts), news)
        for attempt, task in zip(attempts, running, strict=False):
            if not attempt.won:
                task.cancel()


async def _lead(attempt: Attempt, won: Callable[[], bool], news: asyncio.Event, share: float) -> None:
    """Wait for as long as `attempt` is ahead of the next."""

    def ended() -> bool:
        return attempt.gives_way or won()

    connecting = min(ATTEMPT_DELAY, share)
    await _until(ended, news, connecting)
    if attempt.connected:
        await _until(ended, news, min(PATIENCE, share) - connecting)


async def _until(condition: Callable[[], bool], news: asyncio.Event, seconds: float | None = None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                news.clear()
                await news.wait()
