"""What is done for a round and after it: its lists are made, what they lack is asked, their relays are verified.

Rules B2, D2 and E4.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from salsa_agent.core.events import Command
from salsa_agent.core.model import Answer, Asked, Best, IPAddress, Outcome, Question
from salsa_agent.core.parts import Parts
from salsa_agent.core.relay_lists import ActiveList, active_lists
from salsa_agent.core.rounds import Round
from salsa_agent.core.selection import choose, joined
from salsa_agent.core.verification import Reach, Subject, subject_of

Bests = tuple[Best | None, ...]  # the best relay of each list, that of C6 first; None while it is not known

_PENDING = Answer(Outcome.PENDING)


class Verified(NamedTuple):
    """The checks that start, and the best relays as far as they are known."""

    commands: list[Command]
    bests: Bests


class RoundWork:
    """Works on the round it is given, with what all rounds know."""

    def __init__(self, parts: Parts) -> None:
        self._network = parts.network
        self._cache = parts.cache
        self._questions = parts.questions
        self._checks = parts.checks

    def choose(self, current: Round, *, prefetching: bool = False) -> None:
        """Make its lists of relays anew from the answers so far. `prefetching`: as in `selection.choose`."""
        begun = current.choice.exchanges
        current.choice = choose(current.inputs, self._cache, prefetching=prefetching, begun=begun)

    def show(self, current: Round) -> None:
        """What is asked again on an unchanged network stands in what is published until it is answered (H1, H2)."""
        current.shown = current.choice
        if not current.finished and self._cache.asks_again:
            current.shown = choose(current.inputs, self._cache, begun=current.choice.exchanges, standing=True)

    def select(self, current: Round, now: float) -> list[Command]:
        """Make the lists from the answers so far, and ask what they lack (B2)."""
        commands: list[Command] = []
        if not current.finished:
            # the second half of the DNS part is for address lookups (E4): they do not wait for the slowest level then
            self.choose(current, prefetching=now >= current.half_of_dns)
        late = now >= current.dns_deadline
        if late:
            commands += self._give_up(current, now)
        if not current.finished:
            current.lists = active_lists(current.choice, self._network.before_external, late=late)
        asks = self._questions.ask(current.wanted, now)
        current.questions += len(asks)
        return commands + asks

    def verify(self, current: Round, now: float) -> Verified:
        """Start the checks that are due; the best relay of each list, once it is known (D2-D4)."""
        lists, verify = current.lists, current.inputs.settings.verify
        commands = self._checks.set_relays([one.relays for one in lists], complete=current.finished)
        if verify.enabled:
            reach = Reach(self._addresses(current), self._network.links, self._network.ip_versions)
            commands += self._checks.start_checks([one.firm for one in lists], reach, verify, now)
        else:
            self._checks.expire_reports(now)
        return Verified(commands, tuple(self._best(one, enabled=verify.enabled) for one in lists))

    def explanation(self, current: Round | None) -> tuple[Asked, ...]:
        """What its list is made from (`Explain`)."""
        questions = current.all_questions.items() if current else ()
        return tuple(Asked(asked, self._cache.last(asked) or _PENDING, level) for asked, level in questions)

    def _give_up(self, current: Round, now: float) -> list[Command]:
        """E4: the DNS part is over."""

        def wanted() -> Iterable[Question]:
            if not current.complete:
                self.choose(current)
            return current.all_questions

        return self._questions.give_up(wanted, now)

    def _best(self, one: ActiveList, *, enabled: bool) -> Best | None:
        """Of a list that is not settled its front is looked at: nothing that comes later goes before that (E4)."""
        best = self._checks.best(one.firm, one.last_resort if one.settled else None, enabled=enabled)
        return best if one.settled or (best and best.host) else None

    def _addresses(self, current: Round) -> dict[Subject, tuple[IPAddress, ...] | None]:
        """Where each relay of the list is spoken to; None while that is being looked up."""
        where: dict[Subject, tuple[IPAddress, ...] | None] = {}
        for relay in chain.from_iterable(one.relays for one in current.lists):
            where.setdefault(subject_of(relay), relay.addresses)
        for key, questions in current.lookups.items():
            if where.get(Subject(key)) == ():
                cached = [self._cache.get(question) for question in questions]
                known = [one.answer for one in cached if one is not None]
                where[Subject(key)] = joined(known) if len(known) == len(cached) else None
        return where
