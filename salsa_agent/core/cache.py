"""What is known from the DNS and for how long: rules E1 (TTL), B5 (retries), E5 (what was found stands)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from salsa_agent.core.large_sets import bounded
from salsa_agent.core.model import Answer, Mx, Outcome, Question, RRType

MIN_TTL = 60
MAX_TTL = 24 * 3600
MAX_NEGATIVE_TTL = 3 * 3600
MAX_TTL_WITHOUT_SOA = 15 * 60
EARLIER = 0.1  # of its TTL: so much earlier, at most, a set is asked again (D11)
STALE_FOR = 24 * 3600  # RFC 8767, rule E5: from when the answer was received
RETRY_AFTER = (2, 8, 30, 300)  # B5; the last one again and again


class CachedAnswer(NamedTuple):
    """What a question is worth now. `failing`: its last asking failed (`answer` is then an older one, or `failed`)."""

    answer: Answer
    expires: float
    failing: bool = False


@dataclass(slots=True)
class _Entry:
    last: Answer  # as it came, also where an older one stands (E5)
    current: CachedAnswer | None = None
    before: CachedAnswer | None = None  # the one before, while there is no current one
    ask_at: float = 0.0  # when it is asked again, though nothing failed
    ttl_without_soa: int = MIN_TTL  # of the next empty answer that brings none (E1)
    found: Answer | None = None  # the last answer with records, for E5
    found_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0

    def let_go(self) -> None:
        """It has to be asked again."""
        self.before, self.current = self.current or self.before, None


class Cache:
    """The answers on the present network. Times are those passed as `now`."""

    def __init__(self, seed: int = 0, identity: bytes = b"") -> None:
        """`seed`: of the moments at which sets are asked again, which are spread over a fleet (D11).

        `identity`: of the machine, as in a `SelectionInput`.
        """
        self._identity = identity
        self._random = Random(seed)  # noqa: S311 - nothing secret
        self._entries: dict[Question, _Entry] = {}
        self._carried: dict[tuple[str, RRType], tuple[Answer, float]] = {}  # found on earlier networks, and when

    def get(self, question: Question) -> CachedAnswer | None:
        """What is known; None: it has to be asked."""
        entry = self._entries.get(question)
        return entry.current if entry else None

    def standing(self, question: Question) -> CachedAnswer | None:
        """The same, but what is asked again on this network reads as before until its answer is there."""
        entry = self._entries.get(question)
        return (entry.current or entry.before) if entry else None

    @property
    def asks_again(self) -> bool:
        """Whether `standing` differs from `get` for any question."""
        return any(entry.current is None and entry.before is not None for entry in self._entries.values())

    def last(self, question: Question) -> Answer | None:
        """The last answer as it came; `get` says what it is worth."""
        entry = self._entries.get(question)
        return entry.last if entry else None

    def unanswered(self, questions: Iterable[Question]) -> list[Question]:
        """Those of the questions that have to be asked."""
        return [question for question in questions if self.get(question) is None]

    def record(self, question: Question, answer: Answer, now: float) -> None:
        """Take an answer in, as the resolver gave it; a null MX becomes the outcome `refused` (B7).

        Of an enormous set the best is kept, before any other work is done for it (C5).
        """
        answer = bounded(null_mx_refuses(question, answer), self._identity)
        entry = self._entries.setdefault(question, _Entry(answer))
        before, entry.last = entry.last, answer
        if answer.outcome is Outcome.FAILED:
            entry.retry_at = now + RETRY_AFTER[min(entry.failures, len(RETRY_AFTER) - 1)]
            entry.failures += 1
            if entry.found is None and (carried := self._carried.get((question.name, question.rtype))) is not None:
                entry.found, entry.found_at = carried
            if entry.found is not None and now < entry.found_at + STALE_FOR:
                entry.current = CachedAnswer(entry.found, entry.found_at + STALE_FOR, failing=True)
            else:
                entry.found = None
                entry.current = CachedAnswer(answer, float("inf"), failing=True)
            return
        entry.failures = 0
        self._carried.pop((question.name, question.rtype), None)
        if answer.outcome is Outcome.NONE:
            entry.found = None
            ttl = _negative_ttl(entry, before, answer)
            entry.ask_at = now + ttl
        else:
            entry.found, entry.found_at = answer, now
            entry.ttl_without_soa = MIN_TTL
            ttl = min(max(answer.ttl or 0, MIN_TTL), MAX_TTL)
            entry.ask_at = now + ttl * (1 - EARLIER * self._random.random())
        entry.current = CachedAnswer(answer, now + ttl)

    def expire(self, now: float) -> None:
        """At the start of a round: what ran out, or is due for another try, has to be asked again."""
        for entry in self._entries.values():
            if entry.current and _due(entry, entry.current) <= now:
                entry.let_go()

    def ask_again(self, now: float) -> None:
        """What was learned has to be asked again, whatever its TTL (E5); what failed, when it is due for that (B5)."""
        self.expire(now)
        for entry in self._entries.values():
            if entry.current and not entry.current.failing:
                entry.let_go()

    def forget(self) -> None:
        """Everything has to be asked again, with the delays of a first answer (`Refresh`); what was found stands by."""
        for entry in self._entries.values():
            entry.let_go()
            entry.failures = 0
            entry.ttl_without_soa = MIN_TTL

    def clear(self) -> None:
        """The network changed: forget everything but SRV sets, which stand in if their lookup fails (E5)."""
        for question, entry in self._entries.items():
            if not question.of_network and entry.found is not None:
                self._carried[question.name, question.rtype] = entry.found, entry.found_at
        self._entries.clear()

    def keep(self, questions: Iterable[Question]) -> None:
        """Let go of everything that is no longer asked."""
        wanted = frozenset(questions)
        names = {(question.name, question.rtype) for question in wanted}
        self._carried = {key: found for key, found in self._carried.items() if key in names}
        self._entries = {q: entry for q, entry in self._entries.items() if q in wanted}

    def due(self, bearing: Iterable[Question]) -> float | None:
        """When the first of these questions has to be asked again: its TTL ran out, or a retry (B5)."""
        times: list[float] = []
        for question in bearing:
            entry = self._entries.get(question)
            if entry and entry.current:
                times.append(_due(entry, entry.current))
        return min(times, default=None)

    def retry_due(self, questions: Iterable[Question], now: float) -> bool:
        """Whether one of these questions failed and is due for another try (B5)."""
        entries = (self._entries.get(question) for question in questions)
        return any(entry and entry.current and entry.current.failing and entry.retry_at <= now for entry in entries)


def _due(entry: _Entry, cached: CachedAnswer) -> float:
    """When this answer has to be asked for again."""
    return min(entry.retry_at, cached.expires) if cached.failing else entry.ask_at


def _negative_ttl(entry: _Entry, before: Answer, answer: Answer) -> int:
    """E1: from the SOA; without one from 60 s, doubling with each same answer, to 15 min."""
    if answer.ttl is not None:
        entry.ttl_without_soa = MIN_TTL
        return min(max(answer.ttl, MIN_TTL), MAX_NEGATIVE_TTL)
    same = (before.outcome, before.ttl, before.rcode) == (answer.outcome, answer.ttl, answer.rcode)
    ttl = entry.ttl_without_soa if same else MIN_TTL
    entry.ttl_without_soa = min(2 * ttl, MAX_TTL_WITHOUT_SOA)
    return ttl


def no_answer_in_time(asked_at: float, now: float) -> Answer:
    """The answer to a question that is given up (E4). `asked_at`: `now` for one that was never sent."""
    return Answer(Outcome.FAILED, elapsed=now - asked_at, reason="no answer in time")


def null_mx_refuses(question: Question, answer: Answer) -> Answer:
    """A null MX (RFC 7505: one record, preference 0, exchange `.`) is the outcome `refused` (B7)."""
    if question.rtype is RRType.MX and answer.outcome is Outcome.FOUND and answer.mx == (Mx(0, "."),):
        return answer._replace(outcome=Outcome.REFUSED, mx=(), reason="", alias_of="")
    return answer
