"""The questions and conversations that the engine wants, dropped when it wants them no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from salsa_agent.core.events import Answered, Check, Checked, Event
from salsa_agent.core.model import Answer, CheckResult, Question, Verdict
from salsa_agent.core.verification import AT_ONCE
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
        self._leaving: dict[Check, asyncio.Task[None]] = {}  # their verdict is in

    def ask(self, question: Question) -> None:
        """Ask this question, whose query is sent before this returns; an Answered comes."""
        self._askings[question] = Asking(self._resolver, question, partial(self._answered, question))

    def drop(self, question: Question) -> None:
        """The answer is no longer wanted: none comes."""
        asking = self._askings.pop(question, None)
        if asking is not None:
            asking.cancel()

    def check(self, check: Check) -> None:
        """Speak to this relay; a Checked comes. Where D2's places are taken by those who take leave, one hangs up."""
        while self._leaving and len(self._checks) + len(self._leaving) >= AT_ONCE:
            self._leaving.pop(next(iter(self._leaving))).cancel()
        self._checks[check] = asyncio.create_task(self._check(check), name="check")

    def abandon(self, check: Check) -> None:
        """The verdict is no longer wanted: none comes."""
        task = self._checks.pop(check, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Drop everything, and wait until the conversations are over."""
        for question in list(self._askings):
            self.drop(question)
        tasks = [*self._checks.values(), *self._leaving.values()]
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
            await self._verifier.check(check.key, check.addresses, partial(self._checked, check))
        except Exception:  # a defect of ours that the network found must not end the agent
            log.exception("relay %s: the check failed", host_port(check.key.host, check.key.port))
            self._checked(check, CheckResult(Verdict.FAILED, "internal error"))
        finally:
            self._checks.pop(check, None)
            self._leaving.pop(check, None)

    def _checked(self, check: Check, result: CheckResult) -> None:
        """The verdict is in; the conversation may still take leave."""
        task = self._checks.pop(check, None)
        if task is None:
            return
        self._leaving[check] = task
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", tell.check_line(check, result))
        self._post(Checked(check, result))
