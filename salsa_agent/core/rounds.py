"""Rule E2: which round runs, which one waits for it, and when the budget lets that one start."""

from __future__ import annotations

from dataclasses import dataclass, field

from salsa_agent.core.selection import Lookup
from salsa_agent.core.token_bucket import Bucket

ROUNDS, ROUND_EVERY = 6, 0.25  # E2
REFRESH_EVERY = 1.0  # seconds; design section 4
LONGEST_ROUND = 30.0  # seconds; E4


@dataclass(slots=True)
class Round:
    """One recomputation. `cause` is for the log."""

    cause: str
    network: bool = False  # after a network change: D8, E5, and `resolving`
    forget: bool = False  # `Refresh`
    learn: bool = True  # the external address is asked for (G1)
    tokens: list[int] = field(default_factory=list)  # the `Refresh` calls that it answers
    started: float = 0.0
    dns_deadline: float = 0.0
    dns_done: bool = False
    questions: int = 0
    exchanges: frozenset[Lookup] = frozenset()  # looked up so far (C5)

    def absorb(self, other: Round) -> None:
        """This round is run instead of the other one: what that one owed, this one owes."""
        if other.network:
            self.network, self.cause = True, other.cause
        self.forget |= other.forget
        self.learn |= other.learn
        self.tokens = other.tokens + self.tokens

    @property
    def ends_at(self) -> float:
        """When it decides whatever is known (E4)."""
        return self.started + LONGEST_ROUND

    @property
    def half_of_dns(self) -> float:
        """When the half of its DNS part is over that need not be shared with address lookups (E4)."""
        return (self.started + self.dns_deadline) / 2


class Rounds:
    """At most one round runs and at most one waits."""

    def __init__(self) -> None:
        self.running: Round | None = None
        self.waiting: Round | None = None
        self._budget = Bucket(ROUNDS, ROUND_EVERY)
        self._last_refresh: float | None = None

    @property
    def current(self) -> Round | None:
        """The one that runs, else the one that waits."""
        return self.running or self.waiting

    def request(self, wanted: Round, *, supersede: bool = False) -> None:
        """Have a round run as soon as the budget allows; `supersede`: instead of the one that runs."""
        if self.waiting is not None:
            wanted.absorb(self.waiting)
        if supersede and self.running is not None:
            wanted.absorb(self.running)
            self.running = None
        self.waiting = wanted

    def start(self, now: float, dns_part: float) -> Round | None:
        """The round that starts now, if one does. `dns_part`: how long its DNS part may take (E4)."""
        started = self.waiting
        if started is None or self.running is not None or now < self.start_at(started, now):
            return None
        self._budget.take(now)
        started.started, started.dns_deadline = now, now + min(dns_part, LONGEST_ROUND)
        if started.forget:
            self._last_refresh = now
        self.running, self.waiting = started, None
        return started

    def start_at(self, wanted: Round, now: float) -> float:
        """When this round may start; `Refresh` at most once a second, unless the network changed, too."""
        ready = self._budget.ready_at(now)
        if wanted.forget and not wanted.network and self._last_refresh is not None:
            ready = max(ready, self._last_refresh + REFRESH_EVERY)
        return ready

    def stop(self) -> list[int]:
        """None runs or waits any more; the `Refresh` calls that are still to be answered."""
        tokens = [token for one in (self.running, self.waiting) if one is not None for token in one.tokens]
        self.running = self.waiting = None
        return tokens
