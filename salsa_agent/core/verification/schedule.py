"""When a relay that failed is verified again (rules D5, D6, D9), and what that means for other names (D11)."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random
from typing import NamedTuple

from salsa_agent.core.model import CheckResult, IPAddress, ServerResult

JITTER = 0.1  # D5
LAST_REPORTED_DELAY = 300.0  # D6
DOUBT = 30.0  # D9: seconds from a 4xx of a good relay to the check that decides
YOUNG = 30.0  # D11: seconds for which a verdict is left alone by `Refresh` of anyone but root
MAX_FAILURES = 512  # servers whose failure is remembered


class Delays(NamedTuple):
    """The first and the longest delay, in seconds, of one kind of failure."""

    first: float
    last: float


USUAL = Delays(30.0, 1800.0)  # D5
PERMANENT = Delays(300.0, 3600.0)  # D9: what only an administrator can mend


def next_delay(before: float, *, permanent: bool, steady: bool, longest: float | None = None) -> float:
    """The delay that follows the one `before` (0: none).

    `steady`: the relay was `ok` in between for as long as that.
    `longest`: the upper bound for doubling (D6); a delay that is longer already is kept.
    """
    kind = PERMANENT if permanent else USUAL
    if before == 0 or steady:
        return kind.first
    doubled = max(before, min(before * 2, longest or kind.last))
    return min(max(doubled, kind.first), kind.last)


def at_least(delay: float, result: CheckResult | None) -> float:
    """`delay`, or D9's first one after a failure for an administrator to mend. `result`: None for a report."""
    return max(delay, PERMANENT.first) if result is not None and result.permanent else delay


class Jitter:
    """D5: delays differ a little, so that checks are spread over time."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - nothing secret

    def __call__(self, delay: float) -> float:
        """About this delay, in seconds."""
        return delay * self._random.uniform(1 - JITTER, 1 + JITTER)


class Failure(NamedTuple):
    """A server failed: what came of it, the delay then, and when (engine time) it may be spoken to again for it."""

    result: ServerResult
    delay: float
    until: float

    @classmethod
    def at(cls, now: float, result: ServerResult, delay: float) -> Failure:
        """It failed now. `delay`: of the relay, which may have other servers, where something else happened."""
        delay = at_least(delay, result.result)
        return cls(result, delay, now + delay * (1 - JITTER))


class Failures:
    """Delays belong to servers (rule D11): a new name for a server that failed does not have it spoken to earlier.

    A key is a server together with all that tells one way of speaking to it from another.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[IPAddress, Hashable], Failure] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def record(self, ip: IPAddress, way: Hashable, failure: Failure, now: float) -> None:
        """Remember a failure, for as long again as its delay."""
        self._failures = {key: one for key, one in self._failures.items() if now < one.until + one.delay}
        self._failures.pop((ip, way), None)
        self._failures[ip, way] = failure
        if len(self._failures) > MAX_FAILURES:
            del self._failures[next(iter(self._failures))]

    def forget(self, ip: IPAddress, way: Hashable) -> None:
        """It succeeded."""
        self._failures.pop((ip, way), None)

    def get(self, ip: IPAddress, way: Hashable, now: float) -> Failure | None:
        """The failure that still stands, if any."""
        found = self._failures.get((ip, way))
        return found if found is not None and now < found.until else None

    def last_delay(self, ip: IPAddress, way: Hashable) -> float:
        """The last delay of a server that has not been `ok` since; 0: none."""
        found = self._failures.get((ip, way))
        return found.delay if found is not None else 0.0

    def clear(self) -> None:
        """The network changed: the delays start over (D5, D9)."""
        self._failures = {}
