"""The relay to use now, found once in this process by the rules of the agent: `salsactl find`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from salsa_agent.core.events import Check, Checked, Command, Event, FactsRead, LinkInfoRead, ServersRead
from salsa_agent.core.model import Asked, CheckResult, NetworkFacts, Publication, RelayKey, ServerView, State
from salsa_agent.core.senders import entry_for
from salsa_agent.core.settings import Settings
from salsa_agent.system.clock import clock
from salsa_agent.system.supervision import running
from salsa_agent.wiring.driven_engine import DrivenEngine

_WATCH = logging.getLogger("salsa-agent.watch")


def _of_later(_: logging.LogRecord) -> bool:
    """Drops a warning that changes of a file will be noticed late: here nothing is followed."""
    return False


async def find(settings: Settings, seconds: float, *, sender: str = "", everything: bool = False) -> Publication | None:
    """What the agent would publish as its first decision; None: it is not decided within `seconds`.

    `sender`: the envelope sender whose list and best relay are wanted (rule C11); without an entry of its own it has
    the list of C6, as the null sender has. `everything`: the relays of all senders are wanted too, as far as they are
    decided in time.
    """
    own = entry_for(sender, settings.senders)
    if not everything:  # nobody asks for the relays of other senders
        settings = replace(settings, senders=() if own is None else (own,))
    place = None if own is None else settings.senders.index(own)
    async with Search(settings) as search:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await search.until(lambda said: is_decided(said, place))
                if everything:
                    await search.until(lambda said: all(one.decided for one in said.senders))
    said = search.publication
    if not search.informed or not is_decided(said, place):
        return None
    if place is None:
        return said
    chosen = said.senders[place]
    return replace(said, best=chosen.best, relays=chosen.relays)


def is_decided(said: Publication, place: int | None) -> bool:
    """Whether the best relay is known: that of the list of C6, or that of the sender at this place.

    While the state is `resolving`, what is published of either may be from before a change.
    """
    if place is None:
        return said.state not in (State.STARTING, State.RESOLVING)
    return said.state is not State.RESOLVING and len(said.senders) > place and said.senders[place].decided


class Search:
    """One run of the engine, up to a decision, for the time of a block.

    What is read late would be a network change to the agent, and corrected; here the first decision is the last. So
    the links are known before name servers are looked for, and what sites ask of links before a decision counts.
    """

    def __init__(self, settings: Settings) -> None:
        self._news = asyncio.Event()  # something was published, or read
        self.facts = NetworkFacts()  # what the kernel said last
        self.view = ServerView()  # the servers that are to be asked
        self.checks: list[tuple[RelayKey, CheckResult, float]] = []  # relays that were spoken to, and the seconds taken
        self._begun: dict[Check, float] = {}
        self._linked = asyncio.Event()  # the kernel said which links there are
        self.informed = not any(site.domain or site.connection for site in settings.sites)
        self._driven = DrivenEngine(settings, on_event=self._on_event, on_command=self._on_command)
        self._running = running({**self._driven.of_the_host(), "links": self._follow_links})

    @property
    def publication(self) -> Publication:
        """What was published last."""
        return self._driven.engine.publication

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of the last round that decided, with their answers."""
        return self._driven.engine.asked

    async def until(self, ready: Callable[[Publication], bool]) -> None:
        """Wait until what is published is ready."""
        while not (self.informed and ready(self.publication)):
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(0)  # the engine takes what was just read in this turn of the event loop

    async def __aenter__(self) -> Self:
        _WATCH.addFilter(_of_later)
        await self._running.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """Nothing is asked, spoken to or followed any more. Raises PartEnded where a driver has ended: a defect."""
        self._driven.loop.stop()
        try:
            await self._running.__aexit__(*raised)
        finally:
            await self._driven.close()
            _WATCH.removeFilter(_of_later)

    def _on_event(self, event: Event) -> None:
        match event:
            case FactsRead(facts):
                self.facts = facts
                self._linked.set()
            case ServersRead(view):
                self.view = view
            case Checked(check, result):
                self.checks.append((check.key, result, clock() - self._begun.pop(check, clock())))
            case LinkInfoRead():
                self.informed = True
                self._news.set()

    def _on_command(self, command: Command) -> None:
        if isinstance(command, Check):
            self._begun[command] = clock()
        self._news.set()

    async def _follow_links(self) -> None:
        await self._linked.wait()
        async with running(self._driven.of_the_links()):
            await asyncio.Event().wait()  # for as long as the search
