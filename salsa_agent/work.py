"""The questions and conversations that the engine wants: one task each, dropped when it wants them no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from salsa_agent import tell
from salsa_agent.core.events import Answered, Check, Checked, Event
from salsa_agent.core.model import Answer, CheckResult, Outcome, Question, Verdict
from salsa_agent.resolver import Resolver
from salsa_agent.verify import Verifier

log = logging.getLogger("salsa-agent")


class Work:
    """Asks and checks; what comes of it goes to `post`."""

    def __init__(self, resolver: Resolver, verifier: Verifier, post: Callable[[Event], None]) -> None:
        self._resolver = resolver
        self._verifier = verifier
        self._post = post
        self._tasks: dict[Question | Check, asyncio.Task[None]] = {}

    def ask(self, question: Question) -> None:
        """Ask this question; an Answered comes."""
        self._start(question, self._ask(question))

    def check(self, check: Check) -> None:
        """Speak to this relay; a Checked comes."""
        self._start(check, self._check(check))

    def cancel(self, key: Question | Check) -> None:
        """The result is no longer wanted: none comes."""
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Drop everything, and wait until it is gone."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Question | Check, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[key] = asyncio.create_task(work, name=type(key).__name__)

    def _finished(self, key: Question | Check, event: Event) -> None:
        """A task's result counts only while it is the one that is waited for."""
        if self._tasks.get(key) is asyncio.current_task():
            del self._tasks[key]
            self._post(event)

    async def _ask(self, question: Question) -> None:
        try:
            answer = await self._resolver.ask(question)
        except Exception:  # a defect of ours that the network found must not end the agent
            log.exception("%s %s: the resolver failed", question.rtype, question.name)
            answer = Answer(Outcome.FAILED, reason="internal error")
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", tell.question_line(question, answer))
        self._finished(question, Answered(question, answer))

    async def _check(self, check: Check) -> None:
        try:
            result = await self._verifier.check(check.key, check.addresses)
        except Exception:  # as above
            log.exception("relay %s: the check failed", tell.host_port(check.key.host, check.key.port))
            result = CheckResult(Verdict.FAILED, "internal error")
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", tell.check_line(check, result))
        self._finished(check, Checked(check, result))
