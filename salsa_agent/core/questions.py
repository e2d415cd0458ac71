"""The questions that are under way: rules B2 (at most 64 at once), E2 (budgets), E4 (given up), E6 (say nothing)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from salsa_agent.core.cache import Cache, no_answer_in_time
from salsa_agent.core.events import Ask, Command, Drop
from salsa_agent.core.model import Answer, Outcome, Question
from salsa_agent.core.question_budgets import QuestionBudgets

IN_FLIGHT = 64  # B2
HELD_FOR = 2.0  # seconds after a network change; E6
ASKED_AGAIN = 0.25  # seconds; E6


class Questions:
    """Asks, and records the answers in the cache.

    After a network change the servers often come a moment later than the address. A failure is then *held* for as long
    as nobody outside this host has answered anything: its question counts as unanswered and is asked again (E6).
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._budgets = QuestionBudgets()
        self._blocked_until: float | None = None  # when a budget allows a question that is due
        self._in_flight: dict[Question, float] = {}  # when each was asked
        self._held: dict[Question, Answer] = {}
        self._held_until = 0.0
        self._again_at: float | None = None  # when the held ones are asked again

    @property
    def pending(self) -> bool:
        """Whether a question is under way."""
        return bool(self._in_flight)

    @property
    def wake_at(self) -> float | None:
        """When a budget allows a question; when a held failure is asked again, or is a failure after all."""
        times = [self._blocked_until]
        if self._held:
            times += [self._held_until, self._again_at]
        return min((time for time in times if time is not None), default=None)

    def ask(self, questions: Iterable[Question], now: float, *, again: bool = False) -> list[Command]:
        """Ask those that are neither known nor under way, the first ones where there is not room for all (B2).

        What the budgets do not allow yet waits (E2). `again`: they were held (E6).
        """
        asked: list[Command] = []
        self._blocked_until = None
        for question in questions:
            if len(self._in_flight) >= IN_FLIGHT:
                break
            if question in self._in_flight or question in self._held or self._cache.get(question) is not None:
                continue
            ready = self._budgets.ready_at(question, now)
            if ready > now:
                self._blocked_until = min(ready, self._blocked_until or ready)
                continue
            self._budgets.take(question, now, again=again)
            self._in_flight[question] = now
            asked.append(Ask(question))
        return asked

    def hold_failures(self, now: float) -> None:
        """The network changed now."""
        self._held_until = now + HELD_FOR
        self._held.clear()
        self._again_at = None
        self._budgets.tidy(now)

    def record(self, question: Question, answer: Answer, now: float, *, from_outside: bool) -> bool:
        """Take an answer in; False if it is not waited for. `from_outside`: not only this host has a part in it."""
        if self._in_flight.pop(question, None) is None:
            return False
        if answer.outcome is not Outcome.FAILED:
            self._budgets.answered(question)
        if from_outside:
            self._held_until = now
            self._held.clear()  # to be asked again at once
        elif answer.outcome is Outcome.FAILED and now < self._held_until:
            self._held[question] = answer
            if self._again_at is None:
                self._again_at = now + ASKED_AGAIN
            return True
        self._cache.record(question, answer, now)
        return True

    def look_at_held(self, now: float) -> list[Command]:
        """Ask the held ones again, or take them as failures, when it is time."""
        if not self._held:
            return []
        if now >= self._held_until:
            for question, answer in self._held.items():
                self._cache.record(question, answer, now)
            self._held.clear()
            self._again_at = None
        elif self._again_at is not None and now >= self._again_at:
            again = list(self._held)
            self._held.clear()
            self._again_at = None
            return self.ask(again, now, again=True)
        return []

    def give_up(self, wanted: Callable[[], Iterable[Question]], now: float) -> list[Command]:
        """E4: what is unanswered has failed; what was not even asked took no time. `wanted` may grow by what failed."""
        asked_at = dict(self._in_flight)
        commands = self.cancel()
        while unanswered := self._cache.unanswered(wanted()):
            for question in unanswered:
                answer = self._held.pop(question, None) or no_answer_in_time(asked_at.get(question, now), now)
                self._cache.record(question, answer, now)
        return commands

    def cancel(self) -> list[Command]:
        """Ask nothing any more."""
        dropped, self._in_flight = self._in_flight, {}
        self._held.clear()
        self._again_at = self._blocked_until = None
        return [Drop(question) for question in dropped]
