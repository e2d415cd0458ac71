"""How many calls may be in progress: of one sender, of one user, and in all."""

from __future__ import annotations

from collections import Counter

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
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._places)

    def of_users(self) -> Counter[int]:
        """How many each user has."""
        return Counter(place.uid for place in self._places)

    def enter(self, place: Place) -> Place | None:
        """Take a call in. Raises LimitsExceeded, and takes nothing, if it would be one too many.

        Where it would be so only in all, it is the newest call of the user with most that is one too many, if that user
        still has more than the caller then: the place that is returned has been taken from it. So a few users with all
        the places cannot have others refused; and nobody loses his only call, however many users somebody can be.
        """
        if place.uid == ROOT:
            return None
        if sum(one.sender == place.sender for one in self._places) >= PER_SENDER:
            raise LimitsExceeded(f"This caller has {PER_SENDER} calls in progress.")
        held = self.of_users()
        if held[place.uid] >= PER_USER:
            raise LimitsExceeded(f"This user has {PER_USER} calls in progress.")
        gives_way = None
        if len(self._places) >= IN_ALL:
            gives_way = max(reversed(self._places), key=lambda one: held[one.uid])
            if held[gives_way.uid] - 1 <= held[place.uid]:
                raise LimitsExceeded(in_all())
            self._places.remove(gives_way)
        self._places.append(place)
        return gives_way

    def leave(self, place: Place) -> None:
        """This call has ended. Idempotent; nothing happens if it never had a place, or had to give way."""
        if place in self._places:
            self._places.remove(place)


def in_all() -> str:
    """What a caller is told whose call is one too many of all."""
    return f"There are {IN_ALL} calls in progress."
