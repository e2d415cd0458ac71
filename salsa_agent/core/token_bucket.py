"""A budget that refills with time: rounds (E2), conversations with one mail server (D1)."""

from __future__ import annotations


class Bucket:
    """Holds at most `capacity` tokens, one more every `interval` seconds; full at first."""

    __slots__ = ("_capacity", "_interval", "_tokens", "_when")

    def __init__(self, capacity: int, interval: float) -> None:
        self._capacity = capacity
        self._interval = interval
        self._tokens = float(capacity)
        self._when: float | None = None

    def ready_at(self, now: float, keep: int = 0) -> float:
        """When a token can be had that leaves `keep` of them: `now` if there is one."""
        self._refill(now)
        return now if self._tokens >= 1 + keep else now + (1 + keep - self._tokens) * self._interval

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def put_back(self) -> None:
        """A token that was taken was not needed."""
        self._tokens = min(self._capacity, self._tokens + 1)

    def full(self, now: float) -> bool:
        """Whether this bucket is as good as a new one."""
        self._refill(now)
        return self._tokens >= self._capacity

    def _refill(self, now: float) -> None:
        if self._when is not None and now > self._when:
            # rounded, so that waiting until `ready_at` always yields the token
            self._tokens = min(self._capacity, round(self._tokens + (now - self._when) / self._interval, 6))
        self._when = now if self._when is None else max(now, self._when)
