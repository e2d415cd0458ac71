"""How many reports of one user are believed (D6): a local user cannot hold a relay down."""

from __future__ import annotations

REPORTS = 6
WITHIN = 3600.0  # seconds
ROOT = 0


class ReportQuota:
    """The reports of the last hour, by user id."""

    def __init__(self) -> None:
        self._times: dict[int, list[float]] = {}

    def __len__(self) -> int:
        return len(self._times)

    def take(self, uid: int, now: float) -> bool:
        """Whether this report is believed; counts it if so. `now` in seconds on a steady clock."""
        if uid == ROOT:
            return True
        recent = {user: [when for when in times if now - when < WITHIN] for user, times in self._times.items()}
        self._times = {user: times for user, times in recent.items() if times}
        mine = self._times.setdefault(uid, [])
        if len(mine) >= REPORTS:
            return False
        mine.append(now)
        return True
