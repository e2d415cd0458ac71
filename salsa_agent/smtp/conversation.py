"""One conversation with a relay at one of its addresses: what is asked, and what came of it (rules D1, D7, D10)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from salsa_agent.core.model import CheckResult, Verdict
from salsa_agent.smtp.connect import error_text
from salsa_agent.smtp.errors import ConversationError, NegativeReply, NotOfferedError, ProtocolError
from salsa_agent.smtp.session import Extensions, Session
from salsa_agent.smtp.stream import Stream

if TYPE_CHECKING:
    import ssl

QUIT_TIMEOUT = 0.5  # seconds for the answer to QUIT, which is not judged


class Demands(NamedTuple):
    """What a relay is asked for. `host`: the name that its certificate must have where `tls` is `valid` (rule D7).

    `recipient`: an address that it must take mail for; empty: none. `context`: TLS, by whether certificates matter.
    """

    host: str
    implicit_tls: bool
    tls: str
    recipient: str
    context: Callable[[bool], ssl.SSLContext]

    @property
    def checked(self) -> bool:
        """Whether the certificate matters."""
        return self.tls == "valid"


class _Dismissed(Exception):
    """The conversation is no longer needed."""


class Conversation:
    """Over the connected socket `sock`, which `end` or `abort` closes. `literal`: of this host's address, for EHLO."""

    def __init__(self, demands: Demands, sock: socket.socket, literal: str) -> None:
        self.greeted = False
        self.step = "greeting"
        self._demands = demands
        self._sock = sock
        self._literal = literal
        self._stream = Stream(sock)
        self._session = Session(self._stream, self._at)
        self._dismissed = False
        self._finished = False  # the relay is owed no QUIT, or has had it
        self._starttls: bool | None = None  # None: not known, or (implicit TLS) of no concern
        self._tls = ""
        self._auth: bool | None = None

    @property
    def speaking(self) -> bool:
        """Whether the greeting has begun: some servers send its first line at once and the last after a test."""
        return self._stream.lines_read > 0

    async def run(self) -> CheckResult:
        """Hold it as far as it is judged. Raises nothing but CancelledError; `unverified` where it was dismissed."""
        try:
            await self._converse()
        except _Dismissed:
            return self._result(Verdict.UNVERIFIED)
        except NegativeReply as reply:
            return self._failed(reply)
        except (ConversationError, OSError, ValueError) as error:
            self._finished = isinstance(error, OSError | ProtocolError)
            return self._failed(error)
        return self._result(Verdict.OK)

    def dismiss(self) -> None:
        """It is no longer needed: `run` ends with the greeting, or with the reply that it waits for."""
        self._dismissed = True

    async def end(self) -> None:
        """Say QUIT, give the relay a moment to answer (RFC 5321 section 4.1.1.10), and close. After `run`."""
        try:
            if not self._finished:
                self._finished = True
                with suppress(OSError, ProtocolError):  # also TimeoutError
                    async with asyncio.timeout(QUIT_TIMEOUT):
                        await self._session.quit(wait=True)
        finally:
            self._sock.close()

    def abort(self) -> None:
        """Close at once; QUIT is sent first where there was a greeting. The tasks of `run` and `end` have ended."""
        if self._sock.fileno() >= 0 and self.greeted and not self._finished:
            self._session.quit_at_once()
        self._sock.close()

    def timed_out(self) -> CheckResult:
        """What came of it where the time was over before `run` was."""
        return self._result(Verdict.FAILED, f"{self.step}: timed out")

    async def _converse(self) -> None:
        demands, session = self._demands, self._session
        if demands.implicit_tls:
            self._tls = "implicit"
            await session.tls(demands.context(demands.checked), demands.host)
        await session.greeting()
        self.greeted = True
        offered = await self._hello(inside_tls=demands.implicit_tls)
        if not demands.implicit_tls:
            self._starttls = offered.starttls
            self._tls = "starttls" if offered.starttls else "none"
            if demands.tls != "off" and not offered.starttls:
                raise NotOfferedError("STARTTLS is not offered")
            if demands.checked or (demands.recipient and offered.starttls):
                self._need()
                await session.starttls(demands.context(demands.checked), demands.host)
                await self._hello(inside_tls=True)
        if demands.recipient:
            for ask in (session.mail, lambda: session.recipient(demands.recipient), session.reset):
                self._need()
                await ask()
        with suppress(OSError):  # how it ends is not judged, the answer to QUIT neither
            await session.in_turn()

    async def _hello(self, *, inside_tls: bool) -> Extensions:
        """EHLO. Rule D10: outside TLS only an offer of AUTH counts, since many relays make it inside only."""
        self._need()
        offered = await self._session.hello(self._literal)
        self._auth = offered.auth if inside_tls else offered.auth or None
        return offered

    def _need(self) -> None:
        if self._dismissed:
            raise _Dismissed

    def _at(self, step: str) -> None:
        self.step = step

    def _failed(self, error: Exception) -> CheckResult:
        text = error_text(error) if isinstance(error, OSError) else str(error)
        wants_auth = (
            isinstance(error, NegativeReply) and error.wants_auth and bool(self._auth) and self.step in ("MAIL", "RCPT")
        )
        result = self._result(Verdict.FAILED, f"{self.step}: {text}")
        if isinstance(error, ConversationError):
            result = result._replace(permanent=error.permanent, transient_reply=error.transient_reply)
        return result._replace(wants_auth=wants_auth)

    def _result(self, verdict: Verdict, reason: str = "") -> CheckResult:
        return CheckResult(verdict, reason, self._starttls, self._tls, self._auth)
