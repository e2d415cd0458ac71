"""How many calls may be in progress: of one sender, of one user, and in all."""

from __future__ import annotations

from collections import Counter
from typing import Any

from salsa_agent.bus.api import LimitsExceeded

PER_SENDER, PER_USER, IN_ALL = 16, 32, 64
ROOT = 0


class Place:
    """That of one call among those in progress."""

    def __init__(self, sender: str, uid: int) -> None:
        """`sender`: its unique name. `uid`: of its user."""
        self.sender = sender
        self.uid = uid


class CallsInProgress:
    """The places that are taken, in the order in which they were. Root's calls need none."""

    def __init__(self) -> None:
        self._places: dict[Place, None] = {}
        self._of_senders: Counter[str] = Counter()
        self.of_users: Counter[int] = Counter()
        """How many each user has."""

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, place: Place) -> Place | None:
        """Take a call in. Raises LimitsExceeded, and takes nothing, if it would be one too many.

        Where it would be so only in all, it is the newest call of the user with most that is one too many, if that user
        still has more than the caller then: the place that is returned has been taken from it. So a few users with all
        the places cannot have others refused; and nobody loses his only call, however many users somebody can be.
        """
        if place.uid == ROOT:
            return None
        if self._of_senders[place.sender] >= PER_SENDER:
            raise LimitsExceeded(f"This caller has {PER_SENDER} calls in progress.")
        mine = self.of_users[place.uid]
        if mine >= PER_USER:
            raise LimitsExceeded(f"This user has {PER_USER} calls in progress.")
        gives_way = None
        if len(self._places) >= IN_ALL:
            gives_way = max(reversed(self._places), key=lambda one: self.of_users[one.uid])
            if self.of_users[gives_way.uid] - 1 <= mine:
                raise LimitsExceeded(in_all())
            self.leave(gives_way)
        self._places[place] = None
        self._of_senders[place.sender] += 1
        self.of_users[place.uid] += 1
        return gives_way

    def leave(self, place: Place) -> None:
        """This call has ended. Idempotent; nothing happens if it never had a place, or had to give way."""
        if place in self._places:
            del self._places[place]
            _decrement(self._of_senders, place.sender)
            _decrement(self.of_users, place.uid)


def _decrement(counter: Counter[Any], key: object) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def in_all() -> str:
    """What a caller is told whose call is one too many of all."""
    return f"There are {IN_ALL} calls in progress."
