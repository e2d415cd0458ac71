"""How many calls may be in progress (design section 4), and the users who make them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

PER_SENDER, PER_USER, IN_ALL = 16, 32, 64
_REMEMBERED = 512  # callers
# calls that wait for the bus to say whose they are: more than any honest caller has
_UNKNOWN_PER_SENDER, _UNKNOWN_IN_ALL = 1024, 4096


class CallsInProgress:
    """Counts them. Root's are not counted."""

    def __init__(self) -> None:
        self._senders: Counter[str] = Counter()
        self._users: Counter[int] = Counter()
        self._all = 0

    def enter(self, sender: str, uid: int) -> str:
        """Take a call in; if that would be one too many, say whose limit it is and take nothing."""
        if uid == 0:
            return ""
        if self._senders[sender] >= PER_SENDER:
            return f"This caller has {PER_SENDER} calls in progress."
        if self._users[uid] >= PER_USER:
            return f"This user has {PER_USER} calls in progress."
        if self._all >= IN_ALL:
            return f"There are {IN_ALL} calls in progress."
        self._senders[sender] += 1
        self._users[uid] += 1
        self._all += 1
        return ""

    def leave(self, sender: str, uid: int) -> None:
        """A call that was taken in has ended."""
        if uid == 0:
            return
        self._all -= 1
        _less(self._senders, sender)
        _less(self._users, uid)


class Callers:
    """Which user a caller is. The bus is asked once for each unique name.

    A bus never gives a unique name twice (D-Bus Specification, "Unique names"), so what is known of one stays true:
    the oldest are forgotten for their number alone.
    """

    def __init__(self, ask: Callable[[str], Awaitable[int | None]]) -> None:
        self._ask = ask
        self._known: dict[str, int] = {}
        self._asked: dict[str, asyncio.Task[int | None]] = {}
        self._waiting: Counter[str] = Counter()
        self._all = 0

    def full(self, sender: str) -> bool:
        """Whether too many calls of callers not known yet wait already. The first call of each caller may always."""
        waiting = self._waiting.get(sender, 0)
        return waiting >= _UNKNOWN_PER_SENDER or (waiting > 0 and self._all >= _UNKNOWN_IN_ALL)

    async def uid(self, sender: str) -> int | None:
        """The user of a caller; None if the caller is gone, or the bus does not say."""
        known = self._known.get(sender)
        if known is not None:
            return known
        if sender not in self._asked:
            self._asked[sender] = asyncio.ensure_future(self._learn(sender))
        self._waiting[sender] += 1
        self._all += 1
        try:
            return await asyncio.shield(self._asked[sender])
        finally:
            self._all -= 1
            _less(self._waiting, sender)

    async def _learn(self, sender: str) -> int | None:
        try:
            uid = await self._ask(sender)
        finally:
            del self._asked[sender]
        if uid is not None:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[sender] = uid
        return uid

    def close(self) -> None:
        """Ask no more."""
        for task in list(self._asked.values()):
            task.cancel()


def _less(counter: Counter[Any], key: object) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
