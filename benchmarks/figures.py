"""Numbers, how they are summed up, and the tables that they end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

TEN, AGAIN = "ten addresses", "one, again and again"


@dataclass(frozen=True)
class Counts:
    """How much is measured. `rounds`: of everything that is interleaved."""

    noise: int  # samples of it, after each part
    rounds: int
    events: int  # addresses of one peer in one round
    slow_events: int  # of those that take or need long
    cases: tuple[str, ...]  # more than one address, for the agent and the floor
    delays: tuple[float, ...]  # of the DNS, seconds; some things are measured with the first only, and long ones once
    starts: int
    idle: float  # seconds
    rest: float  # seconds until the agent's budgets are full
    storms: tuple[tuple[int, int], ...]  # addresses that come and go, and how many times with the agent
    reads: float  # seconds
    lookups: int
    sizes: tuple[int, ...]  # addresses on the host
    links: tuple[int, ...]
    relays: tuple[int, ...]


FULL = Counts(
    noise=2000, rounds=3, events=10, slow_events=3, cases=(TEN, AGAIN), delays=(0.0, 0.02, 0.1), starts=7, idle=20.0,
    rest=2.0, storms=((1000, 50), (5000, 3)), reads=1.5, lookups=5000, sizes=(1, 10, 100, 1000, 10000),
    links=(1, 10, 100), relays=(1, 8, 32, 64),
)  # fmt: skip
QUICK = Counts(
    noise=100, rounds=1, events=1, slow_events=1, cases=(TEN,), delays=(0.02,), starts=1, idle=0.2,
    rest=0.2, storms=((50, 1),), reads=0.2, lookups=50, sizes=(1, 5),
    links=(2,), relays=(40,),
)  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """What the libraries may cost, and what was measured of it."""

    what: str
    limit: str
    measured: str
    reached: bool


def at_most(what: str, limit: float, measured: float, *, digits: int = 2) -> Bound:
    """A bound that is reached up to this number, as it is shown."""
    return Bound(what, f"at most {limit:g}", f"{measured:.{digits}f}", round(measured, digits) <= limit)


@dataclass
class Table:
    """One table of the results. `note` stands below it; `bounds` are those on what is in it."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""
    bounds: list[Bound] = field(default_factory=list)


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
