"""The questions and conversations that the engine wants, dropped when it wants them no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from salsa_agent.core.events import Answered, Check, Checked, ConversationsEnded, Event
from salsa_agent.core.model import CheckResult, Question, Verdict
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.text import host_port
from salsa_agent.wiring import log_messages as tell

log = logging.getLogger("salsa-agent")


class Work:
    """Asks and checks; what comes of it goes to `post`."""

    def __init__(self, resolver: Resolver, verifier: Verifier, post: Callable[[Event], None]) -> None:
        self._resolver = resolver
        self._verifier = verifier
        self._post = post
        self._questions: dict[Question, asyncio.Task[None]] = {}
        self._checks: dict[Check, asyncio.Task[None]] = {}

    def ask(self, question: Question) -> None:
        """Ask this question; an Answered comes."""
        self._questions[question] = asyncio.create_task(self._ask(question), name="question")

    def drop(self, question: Question) -> None:
        """The answer is no longer wanted: none comes."""
        task = self._questions.pop(question, None)
        if task is not None:
            task.cancel()

    def check(self, check: Check) -> None:
        """Speak to this relay; a Checked comes, and a ConversationsEnded if that left conversations to be ended."""
        self._checks[check] = asyncio.create_task(self._check(check), name="check")

    def abandon(self, check: Check) -> None:
        """The conversations are no longer wanted: they are ended at once, and nothing more comes of them."""
        task = self._checks.pop(check, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Drop everything, and wait until the conversations are over."""
        tasks = [*self._questions.values(), *self._checks.values()]
        self._questions.clear()
        self._checks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, question: Question) -> None:
        answer = await self._resolver.ask(question)
        if self._questions.get(question) is not asyncio.current_task():  # dropped in the turn in which it ended
            return
        del self._questions[question]
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", tell.question_line(question, answer))
        self._post(Answered(question, answer))

    async def _check(self, check: Check) -> None:
        try:
            async with self._verifier.conversations(check) as speaking:
                self._checked(Checked(check, speaking.result, speaking.lingering))
                lingering = bool(speaking.lingering)
            if lingering:
                self._post(ConversationsEnded(check))
        except Exception:  # a bug in the agent that the network found must not end it
            log.exception("relay %s: the check failed", host_port(check.key.host, check.key.port))
            self._checked(Checked(check, CheckResult(Verdict.FAILED, "internal error")))
            self._post(ConversationsEnded(check))
        finally:
            self._checks.pop(check, None)

    def _checked(self, checked: Checked) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", tell.check_line(checked.check, checked.result))
        self._post(checked)
