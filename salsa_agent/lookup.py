"""What the reverse tree says for any address, asked afresh: `Lookup` on the bus and `salsactl lookup`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

from salsa_agent.clock import clock
from salsa_agent.core.choose import Choice, World, choose, normalize
from salsa_agent.core.memory import Memory
from salsa_agent.core.model import Address, Answer, Asked, IPAddress, Outcome, Question, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.requests import Looked

_LATE = Answer(Outcome.FAILED, reason="no answer in time")


class Asker(Protocol):
    """Who answers questions; `resolver.Resolver` does."""

    async def ask(self, question: Question) -> Answer:
        """The answer; never raises."""


async def lookup(
    address: IPAddress, settings: Settings, view: ServerView, resolver: Asker, *, identity: bytes = b""
) -> Looked:
    """Climb the tree for `address` with the rules B and C; C4 is left out, it is about this host's own addresses.

    The servers are the default ones of `view`. Ends within the DNS part of a round (E4).
    """
    world = World(
        settings=replace(settings, static_relays=()),
        addresses=(Address(address, 0, ""),),
        own=frozenset(),
        view=ServerView(settings.dns.servers or view.default),
        identity=identity,
    )
    memory = Memory()
    deadline = asyncio.get_running_loop().time() + 2 * settings.dns.timeout * settings.dns.attempts
    choice = choose(world, memory)
    while unanswered := [question for question in choice.wanted if memory.look(question) is None]:
        answers = await asyncio.gather(*(_ask(resolver, question, deadline) for question in unanswered))
        for question, answer in zip(unanswered, answers, strict=True):
            memory.record(question, normalize(question, answer), clock())
        choice = choose(world, memory)
    return Looked(choice.relays, _asked(choice, memory))


async def _ask(resolver: Asker, question: Question, deadline: float) -> Answer:
    try:
        async with asyncio.timeout_at(deadline):
            return await resolver.ask(question)
    except TimeoutError:
        return _LATE


def _asked(choice: Choice, memory: Memory) -> list[Asked]:
    return [
        Asked(question, answer, level)
        for question, level in choice.wanted.items()
        if (answer := memory.last(question)) is not None
    ]
