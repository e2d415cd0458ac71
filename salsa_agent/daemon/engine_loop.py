"""Runs the engine on the event loop: events in, commands out, one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import Command, Event
from salsa_agent.system.clock import clock


class EngineLoop:
    """What is posted within one turn of the event loop is one batch for the engine; its commands go to `do`.

    `before` is called at each turn, whatever woke it, and may post more.
    """

    def __init__(self, engine: Engine, do: Callable[[Command], None], before: Callable[[], None]) -> None:
        self._engine = engine
        self._do = do
        self._before = before
        self._events: list[Event] = []
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def post(self, event: Event) -> None:
        """Have the engine see this event in the next turn."""
        self._events.append(event)
        self._wake()

    def post_now(self, event: Event) -> None:
        """Have the engine see this event, and its commands done, before this returns: a caller waits for the effect."""
        self._events.append(event)
        self._turn()

    def stop(self) -> None:
        """Nothing is handled any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        if not self._due and not self._stopped:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self._stopped:
            return
        self._before()
        events, self._events = self._events, []
        engine = self._engine
        for command in engine.step(events, clock()):
            self._do(command)
        while engine.unfinished:
            for command in engine.step((), clock()):
                self._do(command)
        self._set_timer(engine.wake_at)

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, when - clock()), self._wake)
