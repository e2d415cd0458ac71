"""The engine's clock, and its time as the realtime clock has it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STARTTIME = 22 - 3  # its place among the fields after the name of the program


def clock() -> float:
    """The engine's time in seconds: it never steps back, and counts suspend, so no TTL survives a night's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def realtime_us(when: float) -> int:
    """Engine time as microseconds of the realtime clock."""
    return int((time.time() + when - clock()) * 1_000_000)


def since_process_start() -> float:
    """Seconds since this process was started, in steps of a clock tick (proc_pid_stat(5)); 0 where /proc is missing."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return max(0.0, clock() - int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0
