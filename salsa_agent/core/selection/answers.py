"""The cache as one selection reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain, zip_longest
from typing import NamedTuple

from salsa_agent.core.cache import CachedAnswer
from salsa_agent.core.model import Answer, IPAddress, Outcome, Question, RelayKey, RRType, Server

MAX_ADDRESSES = 16  # of an exchange, C5


class HostLookup(NamedTuple):
    """What both address lookups of a host gave. `addresses`: at most 16 (C5); `all`: without that bound (C4)."""

    addresses: tuple[IPAddress, ...]
    all: frozenset[IPAddress]
    authenticated: bool
    expires: float | None  # None: there are no addresses
    failed: bool


class Lookup(NamedTuple):
    """The addresses of an exchange are looked up, at these servers, since a set of this link names it (C5)."""

    host: str
    servers: tuple[Server, ...]
    ifindex: int


class Answers:
    """Reads the cache, and keeps in mind which questions were read and which of their answers were used.

    `wanted`: the questions, with the level of those for MX. `depends_on`: those whose answer was used. `failing`: one
    of these was asked in vain the last time. `lookups`: the questions for the addresses of relays that are used as
    configured (C8), which only their verification needs.
    """

    def __init__(self, read: Callable[[Question], CachedAnswer | None]) -> None:
        """`read`: what is known of a question, if anything."""
        self._read = read
        self.wanted: dict[Question, int | None] = {}
        self.depends_on: dict[Question, None] = {}
        self.failing = False
        self.lookups: dict[RelayKey, tuple[Question, ...]] = {}

    def known(self, question: Question) -> CachedAnswer | None:
        """What is known; nothing is kept in mind."""
        return self._read(question)

    def want(self, questions: Iterable[tuple[Question, int | None]]) -> None:
        """The result needs the answers to these questions. With each, the level of one for MX."""
        for question, level in questions:
            self.wanted.setdefault(question, level)

    def get(self, question: Question) -> CachedAnswer | None:
        """What is known; None: the question has to be asked."""
        self.wanted.setdefault(question, None)
        return self._read(question)

    def use(self, question: Question, cached: CachedAnswer) -> None:
        """The result depends on this answer."""
        self.depends_on[question] = None
        self.failing |= cached.failing

    def wanted_after(self, others: dict[Question, int | None]) -> dict[Question, int | None]:
        """The wanted questions of both, these behind the others."""
        return others | {question: level for question, level in self.wanted.items() if question not in others}

    def look_up(self, host: str, servers: tuple[Server, ...]) -> HostLookup | None:
        """The addresses of a host (C3); None while one of the two families is unanswered."""
        questions = address_questions(host, servers)
        known = [self.get(question) for question in questions]
        answered = [cached for cached in known if cached is not None]
        if len(answered) < len(questions):
            return None
        for question, cached in zip(questions, answered, strict=True):
            self.use(question, cached)
        useful = [cached for cached in answered if cached.answer.addresses]
        return HostLookup(
            addresses=joined(cached.answer for cached in useful),
            all=frozenset(chain.from_iterable(cached.answer.addresses for cached in useful)),
            authenticated=all(cached.answer.authenticated for cached in useful),
            expires=min((cached.expires for cached in useful), default=None),
            failed=any(cached.answer.outcome is Outcome.FAILED for cached in answered),
        )


@lru_cache(maxsize=256)
def address_questions(host: str, servers: tuple[Server, ...], *, hosts: bool = False) -> tuple[Question, Question]:
    """The questions for both families of addresses. `hosts`: the hosts file is looked at first (C8)."""
    return Question(host, RRType.AAAA, servers, hosts), Question(host, RRType.A, servers, hosts)


def joined(answers: Iterable[Answer]) -> tuple[IPAddress, ...]:
    """The addresses of one host from its answers: families in turn (RFC 8305 section 4), at most 16 (C5), sorted."""
    by_family = [sorted(set(answer.addresses), key=int) for answer in answers]
    mixed = [ip for ip in chain.from_iterable(zip_longest(*by_family)) if ip is not None]
    return tuple(mixed[:MAX_ADDRESSES])
