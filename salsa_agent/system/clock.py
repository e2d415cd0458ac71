"""The engine's clock, and its time as the realtime clock has it, which may be set at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_STARTTIME = 22 - 3  # its place among the fields after the name of the program


def clock() -> float:
    """The engine's time in seconds: it never steps back, and counts suspend, so no TTL survives a night's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Realtime:
    """What the realtime clock showed, or will show, at moments of the engine.

    A moment stays where it is while that clock only wavers, and moves with it once it is set: a machine without a
    battery for its clock begins in 1970.
    """

    STEP = 1.0  # seconds: less is not taken for a clock that was set, but followed once it has come to that

    def __init__(self, realtime: Callable[[], float] = time.time, engine: Callable[[], float] = clock) -> None:
        self._realtime, self._engine = realtime, engine
        self._ahead = self._measure()

    def us(self, when: float) -> int:
        """Engine time in microseconds since 1970; 0 for what lies before it."""
        ahead = self._measure()
        if abs(ahead - self._ahead) >= self.STEP:
            self._ahead = ahead
        return max(0, round((self._ahead + when) * 1_000_000))

    def _measure(self) -> float:
        return self._realtime() - self._engine()


def since_process_start() -> float:
    """Seconds since this process was started, in steps of a clock tick (proc_pid_stat(5)); 0 where /proc is missing."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return max(0.0, clock() - int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0
