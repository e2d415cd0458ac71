"""The engine's clock, and its time as the realtime clock has it."""

from __future__ import annotations

import time


def clock() -> float:
    """The engine's time in seconds: it never steps back, and counts suspend, so no TTL survives a night's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def realtime_us(when: float) -> int:
    """Engine time as microseconds of the realtime clock."""
    return int((time.time() + when - clock()) * 1_000_000)
