"""How many calls of a kind are accepted within a time: of one user, of one relay, of all users together.

Callers can obtain many connections and user ids, so each limit of a user has a limit of all users beside it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable

from salsa_agent.core.model import RelayKey

ROOT = 0
REPORTS, REPORTS_WITHIN = 6, 3600.0  # rule D6: of one user, and of one relay; seconds
REPORTS_IN_ALL = 512  # in that time; so many relays are never listed, and what is kept of reports stays small
LOOKUPS, LOOKUPS_IN_ALL, LOOKUPS_WITHIN = 10, 30, 60.0  # `Lookup`: of one user, of all; seconds


class SlidingWindow:
    """What happened within the last `within` seconds, counted by key. A call costs what has become too old since."""

    def __init__(self, within: float) -> None:
        self._within = within
        self._happened: deque[tuple[float, tuple[Hashable, ...]]] = deque()
        self._counts: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._happened)

    def forget_old(self, now: float) -> None:
        """Before anything is counted. `now` in seconds on a steady clock."""
        while self._happened and now - self._happened[0][0] >= self._within:
            for key in self._happened.popleft()[1]:
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]

    def count(self, key: Hashable) -> int:
        """How often it happened under this key."""
        return self._counts[key]

    def add(self, now: float, *keys: Hashable) -> None:
        """It happened, under these keys at once."""
        self._happened.append((now, keys))
        self._counts.update(keys)


class ReportQuota:
    """The reports of the last hour (rule D6), so that users cannot hold a relay down. Root's are not counted."""

    def __init__(self) -> None:
        self._reports = SlidingWindow(REPORTS_WITHIN)

    def __len__(self) -> int:
        return len(self._reports)

    def refusal(self, uid: int, relay: RelayKey, now: float) -> str:
        """Why this report is not accepted, as a sentence; empty: it is, and it is counted."""
        if uid == ROOT:
            return ""
        self._reports.forget_old(now)
        if self._reports.count(uid) >= REPORTS:
            return f"This user has made {REPORTS} reports within an hour."
        if self._reports.count(relay) >= REPORTS:
            return f"There were {REPORTS} reports on this relay within an hour."
        if len(self._reports) >= REPORTS_IN_ALL:
            return f"There were {REPORTS_IN_ALL} reports within an hour."
        self._reports.add(now, uid, relay)
        return ""


class LookupQuota:
    """The lookups of the last minute; a local user cannot have the agent flood a name server. Root's do not count."""

    def __init__(self) -> None:
        self._lookups = SlidingWindow(LOOKUPS_WITHIN)

    def refusal(self, uid: int, now: float) -> str:
        """Why this lookup is not accepted, as a sentence; empty: it is, and it is counted."""
        if uid == ROOT:
            return ""
        self._lookups.forget_old(now)
        if self._lookups.count(uid) >= LOOKUPS:
            return f"This user has made {LOOKUPS} lookups within a minute."
        if len(self._lookups) >= LOOKUPS_IN_ALL:
            return f"There were {LOOKUPS_IN_ALL} lookups within a minute."
        self._lookups.add(now, uid)
        return ""
