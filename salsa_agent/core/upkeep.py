"""What is done again though nothing is known to have changed: rules E3 (reading the host) and E5 (asking again)."""

from __future__ import annotations

from random import Random

REREAD_EVERY = 600.0  # seconds; E3
FIRST_DELAY, LAST_DELAY, JITTER = 30.0, 1800.0, 0.1  # E5, as in D5
ONCE_MORE = 1.0  # seconds after the first relay that is `ok`; E5


class Upkeep:
    """Says when: `reread_at` and `relearn_at`, None for never. Times are those passed as `now`."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - spreads questions over time, nothing secret
        self.reread_at: float | None = None
        self.relearn_at: float | None = None
        self._delay = 0.0

    def follow(self, now: float, *, none_ok: bool) -> None:
        """Something is published. `none_ok`: a list has no relay that is `ok`, or none at all.

        Soon after the first one that is `ok` everything is asked again once more: what was learned before it may be a
        captive portal's, and nothing else would ask again before its TTL.
        """
        if self.reread_at is None:
            self.reread_at = now + REREAD_EVERY
        if not none_ok:
            if self._delay:
                self.relearn_at, self._delay = now + ONCE_MORE, 0.0
        elif self.relearn_at is None:
            self._delay = min(2 * self._delay, LAST_DELAY) or FIRST_DELAY
            self.relearn_at = now + self._delay * self._random.uniform(1 - JITTER, 1 + JITTER)

    def start_over(self) -> None:
        """The network changed: the delays start over."""
        self.relearn_at, self._delay = None, 0.0

    def reread_due(self, now: float) -> bool:
        """Whether the kernel and the resolver configuration are to be read again now (E3)."""
        due = self.reread_at is not None and self.reread_at <= now
        if due:
            self.reread_at = None
        return due

    def relearn_due(self, now: float) -> bool:
        """Whether everything is to be asked again now, since what was learned leads to no relay (E5)."""
        due = self.relearn_at is not None and self.relearn_at <= now
        if due:
            self.relearn_at = None
        return due
