"""What is published for a prefix, as agents at its addresses see it: asked, and its relays spoken to, for an audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any, Protocol

from salsa_agent.core.cache import Cache
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
from salsa_agent.oneshot.lookup import Asker
from salsa_agent.oneshot.zone import IPNetwork, level_of
from salsa_agent.system.clock import clock

MAX_QUESTIONS = 64  # in flight, B2
MAX_CHECKS = 4  # at once, D2
FEWEST, MOST = 16, 64  # addresses of a prefix that are asked about, where the caller does not say how many

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is to do so far."""


class Checker(Protocol):
    """Who speaks to relays; `verify.Verifier` does."""

    async def check(self, key: RelayKey, addresses: tuple[IPAddress, ...]) -> CheckResult:
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


async def audit(
    target: IPNetwork,
    settings: Settings,
    view: ServerView,
    resolver: Asker,
    checker: Checker | None,
    *,
    count: int | None = None,
    progress: Progress = lambda *_: None,
) -> Audit:
    """Ask about `count` addresses of `target` with the rules B and C, and have `checker`, if any, speak to the relays.

    The rules C4 and C7 are left out: they are about one host and its administrator. The servers are the default ones of
    `view`. One question ends within the DNS part of a round (E4), one conversation within `verify.timeout`.
    """
    levels = settings.network.ipv4_levels if target.version == 4 else settings.network.ipv6_levels
    names = 1 << max(0, level_of(target, levels) - target.prefixlen)
    asked = samples(target, count or min(max(names, FEWEST), MOST))
    inputs = SelectionInput(
        settings=replace(settings, static_relays=(), policy=Policy()),
        addresses=tuple(Address(ip, 0, "") for ip in asked),
        own=frozenset(),
        view=ServerView(view.default),
        identity=b"",
    )
    limit = 2 * settings.dns.timeout * settings.dns.attempts
    choice, answers = await _climb(inputs, resolver, limit, progress)
    checks = await _check(choice.relays, checker, progress) if checker else {}
    return Audit(target, names, asked, choice, answers, checks)


async def _climb(
    inputs: SelectionInput, resolver: Asker, limit: float, progress: Progress
) -> tuple[Choice, dict[Question, Answer]]:
    cache, answers = Cache(), dict[Question, Answer]()
    flight = asyncio.Semaphore(MAX_QUESTIONS)
    choice = choose(inputs, cache)

    async def ask(question: Question) -> None:
        async with flight:
            try:
                async with asyncio.timeout(limit):
                    answer = await resolver.ask(question)
            except TimeoutError:
                answer = Answer(Outcome.FAILED, reason="no answer in time")
        cache.record(question, answer, clock())
        answers[question] = cache.last(question) or answer
        progress("questions", len(answers), len(choice.wanted))

    while unanswered := [question for question in choice.wanted if question not in answers]:
        await _all(ask(question) for question in unanswered)
        choice = choose(inputs, cache)
    return choice, answers


async def _check(relays: Iterable[Relay], checker: Checker, progress: Progress) -> dict[RelayKey, CheckResult]:
    to_check = list(relays)
    checks: dict[RelayKey, CheckResult] = {}
    budget = asyncio.Semaphore(MAX_CHECKS)

    async def check(relay: Relay) -> None:
        async with budget:
            checks[relay.key] = await checker.check(relay.key, relay.addresses)
        progress("relays", len(checks), len(to_check))

    await _all(check(relay) for relay in to_check)
    return checks


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
