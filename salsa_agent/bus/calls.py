"""Calls for which it matters whose they are, from their arrival to their reply.

What is known of a call while it waits is small: its arguments are checked, and so bounded, before.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from salsa_agent.bus.api import AccessDenied, LimitsExceeded, RequestError
from salsa_agent.bus.connection import BusConnection
from salsa_agent.bus.credentials import GONE, Credentials, ask_bus
from salsa_agent.bus.interface import METHODS
from salsa_agent.bus.limits import ROOT, CallsInProgress
from salsa_agent.bus.message import NO_REPLY_EXPECTED, Header
from salsa_agent.bus.router import describe_exception
from salsa_agent.text import clean

ROOT_ONLY = frozenset(("SetLinkRelays", "RevertLink"))
_UNPRIVILEGED = frozenset(("Refresh", "ReportFailure"))  # of those whose caller need not wait for a reply
_AT_ONCE = frozenset(("ReportFailure", *ROOT_ONLY))  # the others take their time
_ENDING = "The agent is about to end."

# A call done: its reply's body, at once or later. `uid`: of the caller.
Perform = Callable[[str, list[Any], int], bytes | Coroutine[Any, Any, bytes]]

log = logging.getLogger("salsa-agent.bus")


class Calls:
    """The calls that came on one connection and are not answered yet."""

    def __init__(self, bus: BusConnection, perform: Perform) -> None:
        self._bus = bus
        self._perform = perform
        self._limits = CallsInProgress()
        self._callers = Credentials(partial(ask_bus, bus), bus.resume)
        self._links = Credentials(partial(ask_bus, bus), bus.resume)  # callers of ROOT_ONLY: no others in their way
        bus.paused = lambda: self._callers.full or self._links.full
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks) + len(self._callers) + len(self._links)

    def start(self, call: Header, given: list[Any]) -> None:
        """Do what a call asks for once it is known whose it is. Raises LimitsExceeded.

        Where the bus has a policy for ROOT_ONLY, that has judged the caller: nothing is asked, no limit is shared.
        """
        if call.member in ROOT_ONLY and self._bus.policed:
            self._admit(call, given, ROOT)
            return
        callers = self._links if call.member in ROOT_ONLY else self._callers
        if not callers.learn(call.sender, partial(self._admit, call, given)):
            raise LimitsExceeded("Too many calls wait to be taken up.")

    def _admit(self, call: Header, given: list[Any], uid: int | None) -> None:
        """Do it. Never raises."""
        if uid == GONE:
            call.flags |= NO_REPLY_EXPECTED  # nobody is there to have one, and to write it takes most of the time
        try:
            if self._closing:
                raise RequestError(_ENDING)
            self._run(call, given, _allowed(call.member, uid))
        except Exception as error:
            self._refuse(call, error)

    def _run(self, call: Header, given: list[Any], uid: int) -> None:
        if call.member in _AT_ONCE:  # it is never in progress, and needs no place that others may have taken
            result = self._perform(call.member, given, uid)
            assert isinstance(result, bytes)
            self._bus.reply(call, METHODS[call.member].result, result)
            return
        if full := self._limits.enter(call.sender, uid):
            raise LimitsExceeded(full)
        try:
            result = self._perform(call.member, given, uid)
        except BaseException:
            self._limits.leave(call.sender, uid)
            raise
        assert not isinstance(result, bytes)
        task = asyncio.ensure_future(self._finish(call, uid, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, call: Header, uid: int, result: Coroutine[Any, Any, bytes]) -> None:
        """See a call through to its reply. Never raises."""
        try:
            body = await result
        except asyncio.CancelledError:
            self._refuse(call, RequestError(_ENDING))
        except Exception as error:
            self._refuse(call, error)
        else:
            self._bus.reply(call, METHODS[call.member].result, body)
        finally:
            self._limits.leave(call.sender, uid)

    def _refuse(self, call: Header, error: Exception) -> None:
        refuse(self._bus, call, error)

    async def close(self) -> None:
        """End the calls in progress, each with an error to its caller."""
        self._closing = True
        await asyncio.sleep(0)  # a task that never began could not answer
        await self._callers.close()
        await self._links.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def refuse(bus: BusConnection, call: Header, error: Exception) -> None:
    """Answer a call with an error; of a bug in the agent the caller is told no more than that there is one."""
    if isinstance(error, RequestError):
        bus.error(call, error.name, clean(str(error)))
    else:
        log.error("a call was not answered: %s", describe_exception(error))
        bus.error(call, RequestError.name, "The agent failed to answer.")


def _allowed(member: str, uid: int | None) -> int:
    """The user who may make this call. Raises AccessDenied."""
    if uid is None or uid == GONE:  # who waits for no reply, as NetworkManager's script, is often gone by now
        if member not in _UNPRIVILEGED:
            raise AccessDenied("The bus does not say whose call this is.")
        return GONE  # all of them share one user's limits
    if member in ROOT_ONLY and uid not in (ROOT, os.getuid()):  # where no policy of the bus has judged
        raise AccessDenied("Only root may set what a link says.")
    return uid
