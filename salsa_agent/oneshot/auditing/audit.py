"""What is published for a prefix, as agents at its addresses see it: asked, and its relays spoken to, for an audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any, Protocol

from salsa_agent.core.cache import Cache, no_answer_in_time
from salsa_agent.core.model import (
    Address,
    Answer,
    CheckResult,
    IPAddress,
    Outcome,
    Question,
    Relay,
    RelayKey,
    ServerView,
)
from salsa_agent.core.selection import Choice, SelectionInput, choose
from salsa_agent.core.settings import Policy, Settings
from salsa_agent.oneshot.lookup import Asker, network_alone
from salsa_agent.oneshot.zone import IPNetwork, level_of
from salsa_agent.system.clock import clock

MAX_QUESTIONS = 64  # in flight, B2
MAX_CHECKS = 4  # at once, D2
FEWEST, MOST = 16, 64  # addresses of a prefix that are asked about, where the caller does not say how many

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is to do so far."""


class Checker(Protocol):
    """Who speaks to relays; `verify.Verifier` does."""

    async def check(self, key: RelayKey, addresses: tuple[IPAddress, ...], srv: str = "") -> CheckResult:
        """The verdict; never raises."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. `names`: at how many names the whole of `target` would be published.

    `choice` and `answers` are what an agent with all addresses of `asked` would know; `checks` are the verdicts on its
    relays, none where they were not spoken to.
    """

    target: IPNetwork
    names: int
    asked: tuple[IPAddress, ...]
    choice: Choice
    answers: Mapping[Question, Answer]
    checks: Mapping[RelayKey, CheckResult] = field(default_factory=dict)


def samples(target: IPNetwork, count: int) -> tuple[IPAddress, ...]:
    """Addresses of hosts, spread evenly over the prefix, the first and the last among them; all, if they are no more.

    With as many as the prefix has names at a level, there is one below each of these names.
    """
    first, last = int(target.network_address), int(target.broadcast_address)
    if target.num_addresses > 2:
        first += 1  # the network's own address; the anycast address of the routers (RFC 4291 section 2.6.1)
        last -= isinstance(target, IPv4Network)
    number = max(1, min(count, last - first + 1))
    kind = type(target.network_address)
    return tuple(kind(first + index * (last - first) // max(1, number - 1)) for index in range(number))


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to audit, and how. `count`: how many addresses to ask about; None: as many as its names suggest.

    The servers are the default ones of `view`.
    """

    target: IPNetwork
    settings: Settings
    view: ServerView
    count: int | None = None


async def audit(
    request: AuditRequest, resolver: Asker, checker: Checker | None, progress: Progress = lambda *_: None
) -> Audit:
    """Ask about addresses of the prefix with the rules B and C, and have `checker`, if any, speak to the relays.

    The rules C4 and C7 are left out: they are about one host and its administrator. One question ends within the DNS
    part of a round (E4), one conversation within `verify.timeout`; where no server answers at all, most questions are
    not asked.
    """
    target, settings = request.target, request.settings
    levels = settings.network.ipv4_levels if target.version == 4 else settings.network.ipv6_levels
    names = 1 << max(0, level_of(target, levels) - target.prefixlen)
    asked = samples(target, request.count or min(max(names, FEWEST), MOST))
    inputs = SelectionInput(
        settings=replace(network_alone(settings), policy=Policy()),
        addresses=tuple(Address(ip, 0, "") for ip in asked),
        own=frozenset(),
        view=ServerView(request.view.default),
        identity=b"",
    )
    climb = _Climb(resolver, 2 * settings.dns.timeout * settings.dns.attempts, progress)
    choice = await climb.run(inputs)
    checks = await _check(choice.relays, checker, progress) if checker else {}
    return Audit(target, names, asked, choice, climb.answers, checks)


class _Climb:
    """The questions of an audit, MAX_QUESTIONS at a time, each within `limit` seconds."""

    def __init__(self, resolver: Asker, limit: float, progress: Progress) -> None:
        self.answers: dict[Question, Answer] = {}
        self._resolver = resolver
        self._limit = limit
        self._progress = progress
        self._cache = Cache()
        self._in_flight = asyncio.Semaphore(MAX_QUESTIONS)
        self._unanswered = 0  # in a row

    async def run(self, inputs: SelectionInput) -> Choice:
        """Ask until nothing that the rules want is left to be asked."""
        choice = choose(inputs, self._cache)
        while unanswered := [question for question in choice.wanted if question not in self.answers]:
            await _all(self._ask(question, len(choice.wanted)) for question in unanswered)
            choice = choose(inputs, self._cache)
        return choice

    async def _ask(self, question: Question, total: int) -> None:
        async with self._in_flight:
            asked_at = clock()
            if self._unanswered >= MAX_QUESTIONS:
                answer = Answer(Outcome.FAILED, reason=f"not asked: {MAX_QUESTIONS} questions before it had no answer")
            else:
                try:
                    async with asyncio.timeout(self._limit):
                        answer = await self._resolver.ask(question)
                except TimeoutError:
                    answer = no_answer_in_time(asked_at, clock())
                self._unanswered = 0 if answer.rcode else self._unanswered + 1
        self._cache.record(question, answer, clock())
        self.answers[question] = self._cache.last(question) or answer
        self._progress("questions", len(self.answers), total)


async def _check(relays: Iterable[Relay], checker: Checker, progress: Progress) -> dict[RelayKey, CheckResult]:
    to_check = list(relays)
    checks: dict[RelayKey, CheckResult] = {}
    budget = asyncio.Semaphore(MAX_CHECKS)

    async def check(relay: Relay) -> None:
        async with budget:
            checks[relay.key] = await checker.check(relay.key, relay.addresses, relay.srv)
        progress("relays", len(checks), len(to_check))

    await _all(check(relay) for relay in to_check)
    return checks


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
