"""When a snapshot of the kernel's state is due, and what has to be dumped for it. No clock, no input and output.

event                 | what follows
----------------------|--------------------------------------------------------------------------------
something changed     | a snapshot at once; in a storm when the budget allows, ten a second
something is stale    | the same, after a dump of it
a dump was interrupted| dumped again after a second, or with the next change if that comes before
a snapshot is taken   | it has all that came before its dumps ended: that asks for no other
"""

from __future__ import annotations

from collections.abc import Iterable

from salsa_agent.core.token_bucket import Bucket
from salsa_agent.netlink.state import Kind

SNAPSHOTS, SNAPSHOT_INTERVAL = 10, 0.1  # a roam never waits, a storm costs ten a second
DUMP_AGAIN = 1.0  # seconds until a dump is tried again that was interrupted each time


class SnapshotSchedule:
    """Times are seconds on any clock that never steps back."""

    def __init__(self) -> None:
        self._changed = False  # something, since the last snapshot
        self._stale: set[Kind] = set()  # to be dumped before the next one
        self._interrupted: set[Kind] = set()  # to be dumped again, at the latest at `_retry_at`
        self._retry_at = 0.0
        self._budget = Bucket(SNAPSHOTS, SNAPSHOT_INTERVAL)

    @property
    def changed(self) -> bool:
        """Whether a snapshot is due for a change: nothing that comes meanwhile makes it due earlier."""
        return self._changed

    def note(self, stale: Iterable[Kind] = ()) -> None:
        """Something changed; `stale` has to be dumped for it."""
        self._changed = True
        self._stale.update(stale)

    def interrupted(self, kind: Kind, now: float) -> None:
        """A dump was interrupted as often as it was tried: what it gave may lack something."""
        self._interrupted.add(kind)
        self._retry_at = now + DUMP_AGAIN

    def due_at(self, now: float) -> float | None:
        """When the next snapshot is due, from `now` on; None: not before something changes."""
        if self._changed:
            return self._budget.ready_at(now)
        if self._interrupted:
            return max(self._retry_at, self._budget.ready_at(now))
        return None

    def begin(self, now: float) -> list[Kind]:
        """A snapshot begins: what has to be dumped for it, in order."""
        self._budget.take(now)
        wanted = self._stale | self._interrupted
        self._changed, self._stale, self._interrupted = False, set(), set()
        return [kind for kind in Kind if kind in wanted]

    def taken(self) -> None:
        """The dumps have ended: what changed up to now is in this snapshot, but for what has to be dumped for it."""
        self._changed = bool(self._stale)
