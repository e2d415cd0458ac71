"""How many calls may be in progress: of one sender, of one user, and in all."""

from __future__ import annotations

from collections import Counter
from typing import Any

PER_SENDER, PER_USER, IN_ALL = 16, 32, 64
ROOT = 0


class CallsInProgress:
    """Counts them. Root's are not counted."""

    def __init__(self) -> None:
        self._senders: Counter[str] = Counter()
        self._users: Counter[int] = Counter()
        self._all = 0

    def enter(self, sender: str, uid: int) -> str:
        """Take a call in; if that would be one too many, say whose limit it is and take nothing."""
        if uid == ROOT:
            return ""
        if self._senders[sender] >= PER_SENDER:
            return f"This caller has {PER_SENDER} calls in progress."
        if self._users[uid] >= PER_USER:
            return f"This user has {PER_USER} calls in progress."
        if self._all >= IN_ALL:
            return f"There are {IN_ALL} calls in progress."
        self._senders[sender] += 1
        self._users[uid] += 1
        self._all += 1
        return ""

    def leave(self, sender: str, uid: int) -> None:
        """A call that was taken in has ended."""
        if uid == ROOT:
            return
        self._all -= 1
        _decrement(self._senders, sender)
        _decrement(self._users, uid)


def _decrement(counter: Counter[Any], key: object) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
