"""Rules E2 and E4: which round runs and until when, which one waits for it, and when the budget lets that one start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from salsa_agent.core.model import Question, RelayKey
from salsa_agent.core.relay_lists import ActiveList
from salsa_agent.core.selection import Choice, SelectionInput
from salsa_agent.core.token_bucket import Bucket

ROUNDS, ROUND_EVERY = 6, 0.25  # E2: the budget, and seconds until it has one more
SUPERSEDED_FOR = 3.0  # seconds; E2: since the oldest undecided change
REFRESH_EVERY = 1.0  # seconds; at most one `Refresh` in this time is run
LONGEST_ROUND = 30.0  # seconds; E4
OVERDUE = 3 * LONGEST_ROUND  # seconds; a change is decided within two rounds, the one that goes on and its own


@dataclass(slots=True)
class Request:
    """Somebody wants a round.

    `cause`: for the log. `changed_at`: when the network changed, for the oldest change that it is to decide (rules D8,
    E5, H2); None: it did not. `leaves`: what is known from the old network is still to be forgotten. `forget`: answers
    and verdicts are made anew (`Refresh`). `relearn`: answers alone (E5). `discover`: the external address is asked for
    (G1). `routine`: it is due to an expiry, a retry or E5. `tokens`: the `Refresh` calls that its decision answers;
    `by_root`: one of them is root's.
    """

    cause: str
    changed_at: float | None = None
    leaves: bool = False
    forget: bool = False
    relearn: bool = False
    discover: bool = True
    routine: bool = False
    tokens: list[int] = field(default_factory=list)
    by_root: bool = False

    @property
    def network(self) -> bool:
        """Whether it follows a network change."""
        return self.changed_at is not None

    def absorb(self, other: Request) -> None:
        """This one is granted instead of the other one: merge `other` into this request, which replaces it."""
        if other.changed_at is not None:
            self.cause = other.cause
            self.changed_at = other.changed_at if self.changed_at is None else min(self.changed_at, other.changed_at)
        self.leaves |= other.leaves
        self.forget |= other.forget
        self.relearn |= other.relearn
        self.discover |= other.discover
        self.routine &= other.routine
        self.by_root |= other.by_root
        self.tokens = other.tokens + self.tokens


@dataclass(slots=True)
class Round:
    """A round that runs, or the last one, whose list stands.

    `inputs`: what its lists are made from. `choice`: the lists, as far as the answers go. `shown`: the same as they are
    published, once it has decided. `lists`: what of them can be verified, that of C6 first. `questions`: how many were
    asked.
    """

    request: Request
    inputs: SelectionInput
    started: float
    dns_deadline: float
    choice: Choice = field(default_factory=Choice)
    shown: Choice = field(default_factory=Choice)
    lists: tuple[ActiveList, ...] = (ActiveList(),)
    questions: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing that is awaited changes the list of C6 any more."""
        return self.lists[0].settled

    @property
    def finished(self) -> bool:
        """The same of all lists."""
        return all(one.settled for one in self.lists)

    @property
    def ends_at(self) -> float:
        """When it decides whatever is known (E4)."""
        return self.started + LONGEST_ROUND

    @property
    def half_of_dns(self) -> float:
        """When the first half of the DNS part is over; the second is for the addresses of exchanges (E4)."""
        return (self.started + self.dns_deadline) / 2

    @property
    def lookups(self) -> dict[RelayKey, tuple[Question, ...]]:
        """The questions for the addresses of the administrator's relays, which only their verification needs (C8)."""
        return self.choice.lookups if self.inputs.settings.verify.enabled else {}

    @property
    def wanted(self) -> Iterable[Question]:
        """The questions that are asked while they are unanswered."""
        lookups = chain.from_iterable(self.lookups.values())
        return lookups if self.finished else chain(self.choice.wanted, lookups)

    @property
    def all_questions(self) -> dict[Question, int | None]:
        """Every question of the round, in the order of their weight, with the level of those for MX."""
        return self.choice.wanted | dict.fromkeys(chain.from_iterable(self.lookups.values()))

    @property
    def depends_on(self) -> dict[Question, None]:
        """The questions whose expiry or failure calls for another round (E1, B5)."""
        return self.choice.depends_on | dict.fromkeys(chain.from_iterable(self.lookups.values()))


class Rounds:
    """At most one round runs and at most one waits."""

    def __init__(self) -> None:
        self.running: Round | None = None
        self.current: Round | None = None  # the one that runs, else the last one, whose list stands
        self.waiting: Request | None = None
        self._budget = Bucket(ROUNDS, ROUND_EVERY)
        self._last_refresh: float | None = None

    @property
    def network(self) -> bool:
        """Whether one runs or waits that follows a network change."""
        return bool((self.running and self.running.request.network) or (self.waiting and self.waiting.network))

    @property
    def takes_inputs(self) -> bool:
        """Whether the running round takes in what changes; its list is still being made."""
        if self.running is None or self.running.complete:
            return False
        return self.waiting is None or not self.waiting.network

    @property
    def undecided_since(self) -> float | None:
        """Since when a network change, or any round, has not been decided."""
        times = [self.running.started] if self.running else []
        requests = [self.running.request if self.running else None, self.waiting]
        times += [request.changed_at for request in requests if request and request.changed_at is not None]
        return min(times, default=None)

    def request(self, wanted: Request) -> None:
        """Have a round run when none runs, as soon as the budget allows."""
        if self.waiting is not None:
            wanted.absorb(self.waiting)
        self.waiting = wanted

    def supersede(self, wanted: Request) -> None:
        """Have a round run instead of the one that runs, as soon as the budget allows."""
        if self.running is not None:
            wanted.absorb(self.running.request)
            self.running = None
        self.request(wanted)

    def goes_on(self, now: float) -> bool:
        """Whether a round runs that a network change does not supersede any more (E2)."""
        if self.running is None or self.running.request.changed_at is None:
            return False
        return now >= self.running.request.changed_at + SUPERSEDED_FOR

    def start(self, inputs: SelectionInput, now: float) -> Round | None:
        """The round that starts now, if one does."""
        request = self.waiting
        if request is None or self.running is not None or now < self.start_at(request, now):
            return None
        self._budget.take(now)
        if request.forget:
            self._last_refresh = now
        dns = inputs.settings.dns
        deadline = now + min(2 * dns.timeout * dns.attempts, LONGEST_ROUND)  # E4
        self.running, self.waiting = Round(request, inputs, now, deadline), None
        return self.running

    def start_at(self, request: Request, now: float) -> float:
        """When this one may start; `Refresh` at most once a second, unless the network changed, too."""
        ready = self._budget.ready_at(now)
        if request.forget and not request.network and self._last_refresh is not None:
            ready = max(ready, self._last_refresh + REFRESH_EVERY)
        return ready

    def stop(self) -> list[int]:
        """None runs or waits any more; the `Refresh` calls that are still to be answered."""
        requests = [self.running.request if self.running else None, self.waiting]
        self.running = self.waiting = None
        return [token for request in requests if request for token in request.tokens]
