"""Runs the engine on the event loop: events in, commands out, one timer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import Command, Event, Resumed
from salsa_agent.system.clock import clock

log = logging.getLogger("salsa-agent")


class EngineLoop:
    """What is posted within one turn of the event loop is one batch for the engine; its commands go to `execute`.

    `tell` is given them as well, in the same order, but after the tasks that `execute` began have taken their first
    step: questions are on their way before followers hear of the round.

    `slept`: whether the machine was suspended since it was last asked. Whatever wakes the engine after that, it hears
    `Resumed` first: logind may be absent, or say so only later.

    After an error that the engine, `execute` or `tell` raises nothing is handled any more: what the engine knows may be
    half of it. `run` is the part that ends then.
    """

    def __init__(
        self,
        engine: Engine,
        execute: Callable[[Command], None],
        tell: Callable[[Command], None],
        slept: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._execute = execute
        self._tell = tell
        self._untold: list[Command] = []
        self._slept = slept
        self._events: list[Event] = []
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._error: Exception | None = None
        self._failed = asyncio.Event()

    async def run(self) -> None:
        """Wait for an error that is a defect, and raise it."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error

    def post(self, event: Event) -> None:
        """Have the engine handle this event in the next turn of the event loop."""
        self._events.append(event)
        self._schedule()

    def post_now(self, event: Event) -> None:
        """Have the engine handle this event, and its commands executed and told, before this returns.

        Raises what they raise, or raised before.
        """
        self._events.append(event)
        self._attempt(self._turn)
        self._attempt(self._tell_all)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Nothing is handled any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._attempt, self._turn)

    def _attempt(self, step: Callable[[], None]) -> None:
        """Take a step, and keep its error for `run`: nobody hears of one that a callback of the event loop raises."""
        try:
            step()
        except Exception as error:
            self.stop()
            self._error = error
            self._failed.set()

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        events, self._events = self._events, []
        if self._slept() and Resumed() not in events:
            events.insert(0, Resumed())
        if Resumed() in events:
            log.info("back from suspend: everything is asked again")
        commands = self._engine.handle(events, clock())
        for command in commands:
            self._execute(command)
        self._untold += commands
        asyncio.get_running_loop().call_soon(self._attempt, self._tell_all)  # after the tasks that `execute` has begun
        self._set_timer(self._engine.wake_at)

    def _tell_all(self) -> None:
        commands, self._untold = self._untold, []
        for command in commands if not self._stopped else ():
            self._tell(command)

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, when - clock()), self._schedule)
