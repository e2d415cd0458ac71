"""The questions and conversations that the engine wants, dropped when it wants them no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from salsa_agent.core.events import Answered, Check, Checked, ConversationsEnded, Event
from salsa_agent.core.model import Answer, CheckResult, Question, Verdict
from salsa_agent.daemon import log_messages as tell
from salsa_agent.resolver.resolver import Asking, Resolver
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.text import host_port

log = logging.getLogger("salsa-agent")


class Work:
    """Asks and checks; what comes of it goes to `post`."""

    def __init__(self, resolver: Resolver, verifier: Verifier, post: Callable[[Event], None]) -> None:
        self._resolver = resolver
        self._verifier = verifier
        self._post = post
        self._askings: dict[Question, Asking] = {}
        self._checks: dict[Check, asyncio.Task[None]] = {}

    def ask(self, question: Question) -> None:
        """Ask this question, whose query is sent before this returns; an Answered comes."""
        self._askings[question] = Asking(self._resolver, question, partial(self._answered, question))

    def drop(self, question: Question) -> None:
        """The answer is no longer wanted: none comes."""
        asking = self._askings.pop(question, None)
        if asking is not None:
            asking.cancel()

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
        for question in list(self._askings):
            self.drop(question)
        tasks = list(self._checks.values())
        self._checks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _answered(self, question: Question, answer: Answer) -> None:
        del self._askings[question]
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
