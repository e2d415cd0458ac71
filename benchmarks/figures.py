"""Numbers, how they are summed up, and the tables that they end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol


@dataclass(frozen=True)
class Counts:
    """How much is measured. `rounds`: of everything that is interleaved."""

    rounds: int
    events: int  # addresses of one peer in one round
    slow_events: int  # of the shell loop
    starts: int
    idle: float  # seconds
    storms: tuple[int, ...]  # addresses that come and go
    storm_runs: int  # of the first size with the agent
    reads: float  # seconds
    lookups: int
    sizes: tuple[int, ...]  # addresses on the host
    links: tuple[int, ...]


FULL = Counts(3, 10, 3, 7, 20.0, (1000, 5000), 50, 1.5, 5000, (1, 10, 100, 1000, 10000), (1, 10, 100))
QUICK = Counts(1, 1, 1, 1, 0.5, (20,), 1, 0.2, 50, (1, 5), (2,))


@dataclass
class Table:
    """One table of the results. `note` stands below it."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""


class Progress(Protocol):
    """Tells the person at the terminal what is being measured."""

    def __call__(self, what: str) -> None:
        """Say it."""


Measure = Callable[[], list[float]]


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; of fewer than 100 values the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def both(values: Sequence[float], digits: int = 2) -> str:
    """`median / p99`."""
    return f"{median(values):.{digits}f} / {p99(values):.{digits}f}" if values else "none came"


def times(values: Sequence[float], floor: Sequence[float]) -> str:
    """How many times the median of the floor in the same run."""
    return f"{median(values) / median(floor):.1f}" if values and floor else ""
