"""Which user a caller is. The bus is asked once for each unique name, and what waits for its answer is bounded.

The answers come on a connection of their own, and while many calls wait for them no more calls are taken from the bus
(`full`): so none, whoever's it is, has to be refused because others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from salsa_agent.bus.connection import BusConnection, BusGone
from salsa_agent.bus.message import CALL, RETURN, Header, Malformed, decode, encode

ANSWER_TIME = 25.0  # seconds; in a flood the bus answers late
ENOUGH = 256  # calls that wait: more are not taken until some have their answers
# Calls that wait for the answer. dbus-daemon allows 128 of one connection. Neither number has an exception: a caller
# can make as many connections as it likes.
WAITING_PER_SENDER, WAITING_IN_ALL = 128, 512
_REMEMBERED = 512  # callers
GONE = -1  # stands for the user of callers that are gone
_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"

Then = Callable[[int | None], None]


class Credentials:
    """The users of callers, by unique name.

    A bus never gives a unique name twice (D-Bus Specification, "Unique names"), so what is known of one stays true:
    the oldest are forgotten for their number alone.
    """

    def __init__(
        self, ask: Callable[[str], Awaitable[int | None]], on_answer: Callable[[], None] = lambda: None
    ) -> None:
        """`ask`: the user of a unique name; GONE if the caller is, None if the bus does not say.

        `on_answer` is called after each answer: it may no longer be `full`.
        """
        self._ask = ask
        self._on_answer = on_answer
        self._known: dict[str, int] = {}
        self._waiting: dict[str, list[Then]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_all = 0

    def __len__(self) -> int:
        """How many calls wait."""
        return self._in_all

    @property
    def full(self) -> bool:
        """Whether so many calls wait that no more should come."""
        return self._in_all >= ENOUGH

    def learn(self, sender: str, then: Then) -> bool:
        """Call `then` with the user of this caller, now or later; False, and it is not called, if too many wait."""
        if (known := self._known.get(sender)) is not None:
            then(known)
            return True
        waiting = self._waiting.get(sender)
        if self._in_all >= WAITING_IN_ALL or (waiting is not None and len(waiting) >= WAITING_PER_SENDER):
            return False
        self._in_all += 1
        if waiting is not None:
            waiting.append(then)
            return True
        self._waiting[sender] = [then]
        task = asyncio.ensure_future(self._learn(sender))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _learn(self, sender: str) -> None:
        uid: int | None = None
        try:
            uid = await self._ask(sender)
        finally:
            waiting = self._waiting.pop(sender)
            self._in_all -= len(waiting)
            if uid is not None:
                while len(self._known) >= _REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[sender] = uid
            for then in waiting:
                then(uid)
            self._on_answer()

    async def close(self) -> None:
        """Ask no more; for what waits `then` is called with None."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sender in list(self._waiting):  # of tasks that never began
            for then in self._waiting.pop(sender):
                then(None)
        self._in_all = 0


async def ask_bus(bus: BusConnection, sender: str) -> int | None:
    """The user of a connection to this bus; GONE if it is, None if the bus does not say."""
    question = Header(
        CALL,
        0,
        0,
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member="GetConnectionUnixUser",
        destination="org.freedesktop.DBus",
        signature="s",
    )
    with suppress(TimeoutError, BusGone, Malformed):
        async with asyncio.timeout(ANSWER_TIME):
            reply, body = await (bus.beside or bus).ask(question, encode("s", [sender]))
        if reply.kind == RETURN and reply.signature == "u" and body is not None:
            return int(decode("u", body, little=reply.little)[0])
        if reply.error_name == _NO_OWNER:
            return GONE
    return None
