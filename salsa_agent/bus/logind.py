"""Noticing that the machine was asleep: from logind, or from what the clocks say when the agent wakes anyway."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from salsa_agent.bus.system_bus import SystemBus

LOGIND = "org.freedesktop.login1"
LEAST = 1.0  # seconds asleep that count


class Resume:
    """Calls `on_resume` when logind says that the machine woke (PrepareForSleep(false), org.freedesktop.login1(5))."""

    def __init__(self, on_resume: Callable[[], None], bus: SystemBus) -> None:
        """Before the bus runs."""
        self._on_resume = on_resume
        bus.follow(LOGIND, f"{LOGIND}.Manager", "PrepareForSleep", self._on_signal)

    def _on_signal(self, body: list[Any]) -> None:
        if body == [False]:
            self._on_resume()


class SleepClock:
    """Tells suspends by CLOCK_BOOTTIME, which counts them, and CLOCK_MONOTONIC, which does not (clock_gettime(2)).

    Neither is ever set, so a step of the wall clock or a pause of the process is no suspend.
    """

    def __init__(
        self,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        monotonic: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_MONOTONIC),
    ) -> None:
        self._boottime, self._monotonic = boottime, monotonic
        self._asleep = self._measure()

    def slept(self) -> bool:
        """Whether the machine slept since this was last asked."""
        asleep = self._measure()
        if asleep - self._asleep < LEAST:
            return False
        self._asleep = asleep
        return True

    def _measure(self) -> float:
        """Seconds asleep since boot. A delay between the two clocks can be anything: the least of three tries."""
        ahead = []
        for _ in range(3):
            before = self._monotonic()
            ahead.append(self._boottime() - before)
        return min(ahead)
