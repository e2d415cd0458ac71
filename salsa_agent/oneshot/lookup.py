"""What the reverse tree says for any address, asked afresh: `Lookup` on the bus and `salsactl lookup`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

from salsa_agent.bus.api import LookupResult
from salsa_agent.core.addresses import counting
from salsa_agent.core.cache import Cache, no_answer_in_time
from salsa_agent.core.model import Address, Answer, Asked, IPAddress, NetworkFacts, Question, ServerView
from salsa_agent.core.selection import Choice, SelectionInput, choose
from salsa_agent.core.servers import without_own_links
from salsa_agent.core.settings import Settings
from salsa_agent.system.clock import clock

AT_ONCE = 8  # questions of one look-up: many of them together must not use up the descriptors


class Asker(Protocol):
    """Who answers questions; `resolver.Resolver` does."""

    async def ask(self, question: Question) -> Answer:
        """The answer; never raises."""


async def lookup(
    address: IPAddress, settings: Settings, view: ServerView, resolver: Asker, *, identity: bytes = b""
) -> LookupResult:
    """Climb the tree for `address` with the rules B and C; C4 is left out, it is about this host's own addresses.

    The servers are the default ones of `view`. All levels are asked to their end, for that is what the caller wants to
    see, but exchanges are looked up as soon as their set decides. Ends within the DNS part of a round (E4).
    """
    inputs = SelectionInput(
        settings=network_alone(settings),
        addresses=(Address(address, 0, ""),),
        own=frozenset(),
        view=ServerView(view.default),
        identity=identity,
    )
    cache = Cache(identity=identity)
    places = asyncio.Semaphore(AT_ONCE)
    asking: dict[Question, asyncio.Task[None]] = {}
    since: dict[Question, float] = {}  # when each was asked

    async def ask(question: Question) -> None:
        async with places:
            since[question] = clock()
            cache.record(question, await resolver.ask(question), clock())

    try:
        async with asyncio.timeout(2 * settings.dns.timeout * settings.dns.attempts):
            while True:
                choice = choose(inputs, cache)
                for question in choice.wanted.keys() - asking.keys():
                    asking[question] = asyncio.create_task(ask(question))
                waiting = [task for task in asking.values() if not task.done()]
                if not waiting:
                    break
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        choice = _give_up(inputs, cache, since)
    finally:
        for task in asking.values():
            task.cancel()
        await asyncio.gather(*asking.values(), return_exceptions=True)
    return LookupResult(list(choice.relays), _asked(choice, cache))


def network_alone(settings: Settings) -> Settings:
    """The settings without the administrator's own relays: what is left comes from the reverse tree."""
    return replace(settings, static_relays=(), sites=(), senders=())


def view_of_first(facts: NetworkFacts, settings: Settings, view: ServerView) -> ServerView:
    """The servers of the first of the host's addresses, else the global ones (F1)."""
    eligible = counting(facts, settings.network.ignore)
    view = without_own_links(view, facts.addresses)
    return ServerView(view.of_link(eligible[0].ifindex)) if eligible else view


def _give_up(inputs: SelectionInput, cache: Cache, since: dict[Question, float]) -> Choice:
    """What is unanswered has failed; what was not even asked took no time."""
    now = clock()
    while late := cache.unanswered(choose(inputs, cache).wanted):
        for question in late:
            cache.record(question, no_answer_in_time(since.get(question, now), now), now)
    return choose(inputs, cache)


def _asked(choice: Choice, cache: Cache) -> list[Asked]:
    return [
        Asked(question, answer, level)
        for question, level in choice.wanted.items()
        if (answer := cache.last(question)) is not None
    ]
