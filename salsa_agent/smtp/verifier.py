"""Whether a relay answers as one should: the verdict of one conversation with it (rules D1, D7)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from salsa_agent.core.model import CheckResult, IPAddress, RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.smtp.happy_eyeballs import race
from salsa_agent.smtp.session import Dialogue, Refusal
from salsa_agent.smtp.stream import Channel, Violation
from salsa_agent.text import sanitize

if TYPE_CHECKING:
    import ssl

MAX_ADDRESSES = 4  # D1
SUBMISSIONS = 465  # implicit TLS (RFC 8314 7.3)
FAREWELL = 0.5  # seconds for the answer to QUIT, which is not judged
ROUTE_PAUSE = 0.1  # seconds between two looks for a route

# What connect(2) says at once when there is no route, or no own address to send from, yet.
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})


class Verifier:
    """Speaks to relays. `settings` may be replaced at any time; a conversation keeps those it began with."""

    def __init__(self, settings: Verify) -> None:
        self.settings = settings
        self._made: tuple[Verify, ssl.SSLContext] | None = None

    async def check(
        self,
        key: RelayKey,
        addresses: tuple[IPAddress, ...],
        on_verdict: Callable[[CheckResult], None] = lambda _: None,
    ) -> CheckResult:
        """The verdict on the relay `key`, spoken to at the first four of `addresses` (best first).

        `on_verdict` is told it once, as soon as it is known: before leave is taken of a relay that is `ok`.
        Ends within `settings.timeout`. Raises nothing but CancelledError; nothing of it is left when it ends.
        """
        settings = self.settings
        known: list[CheckResult] = []

        def tell(result: CheckResult) -> None:
            if not known:  # two may win at once
                known.append(result)
                on_verdict(result)

        attempts = [Conversation(self, settings, key, ip, tell) for ip in addresses[:MAX_ADDRESSES]]
        with suppress(TimeoutError):  # what each was at then is in its reason
            async with asyncio.timeout(settings.timeout):
                await race(attempts, settings.timeout)
        tell(_failed(attempts))
        return known[0]

    def context(self, settings: Verify) -> ssl.SSLContext:
        """The TLS context that these settings ask for. The CA store is read again with each configuration."""
        from salsa_agent.smtp import tls as smtp_tls  # only where TLS is used: it is not free

        if self._made is None or self._made[0] is not settings:
            self._made = settings, smtp_tls.checked() if settings.tls == "valid" else smtp_tls.unchecked()
        return self._made[1]


class Conversation:
    """One conversation with a relay at one of its addresses; an Attempt of the race."""

    def __init__(
        self, verifier: Verifier, settings: Verify, key: RelayKey, ip: IPAddress, tell: Callable[[CheckResult], None]
    ) -> None:
        self._verifier = verifier
        self._settings = settings
        self._key = key
        self._ip = ip
        self._tell = tell
        self._step = "connect"
        self._failure = "timed out"
        self.starttls: bool | None = None  # None: not known, or (port 465) of no concern
        self.connected = self.gives_way = self.won = self.over = False

    @property
    def reason(self) -> str:
        """At which address and step it failed, and how."""
        return f"{self._ip}: {self._step}: {self._failure}"

    async def run(self, news: asyncio.Event) -> None:
        """Hold the conversation; what came of it is in the attributes. Raises nothing but CancelledError."""
        try:
            with closing(await self._connect(news)) as sock:
                self.connected = True
                news.set()
                await self._talk(Dialogue(Channel(sock), self._at), _literal(sock), news)
        except OSError as error:
            self._failure = _said(error)
        finally:
            self.over = self.gives_way = True
            news.set()

    async def _connect(self, news: asyncio.Event) -> socket.socket:
        """A connection, non-blocking. No route yet is waited for, for as long as the time allows (D1)."""
        while True:
            try:
                return await _connected(self._ip, self._key.port)
            except NoRouteError as error:
                self._failure = _said(error)
            self.gives_way = True
            news.set()
            await asyncio.sleep(ROUTE_PAUSE)

    async def _talk(self, dialogue: Dialogue, literal: str, news: asyncio.Event) -> None:
        try:
            await self._converse(dialogue, literal)
        except Violation as violation:
            self._failure = str(violation)
        except (Refusal, ValueError) as failure:
            self._failure = str(failure)
            with suppress(OSError, Violation):
                await dialogue.quit(wait=False)
        else:
            self.won = True
            news.set()
            self._tell(CheckResult(Verdict.OK, "", self.starttls))
            await _leave(dialogue)

    async def _converse(self, dialogue: Dialogue, literal: str) -> None:
        """All that is judged (D1, D7)."""
        implicit = self._key.port == SUBMISSIONS
        if implicit:
            await dialogue.tls(self._context(), self._key.host)
        await dialogue.greeting()
        offered = await dialogue.hello(literal)
        if not implicit:
            self.starttls = offered
            if self._settings.tls != "off" and not offered:
                raise Refusal("STARTTLS is not offered")
            if self._settings.tls == "valid":
                await dialogue.starttls(self._context(), self._key.host)
                await dialogue.hello(literal)
        if self._settings.recipient:
            await dialogue.offer(self._settings.recipient)

    def _at(self, step: str) -> None:
        self._step, self._failure = step, "timed out"

    def _context(self) -> ssl.SSLContext:
        return self._verifier.context(self._settings)


def _failed(attempts: list[Conversation]) -> CheckResult:
    starttls = next((attempt.starttls for attempt in attempts if attempt.starttls is not None), None)
    reasons = "; ".join(attempt.reason for attempt in attempts) or "no address known"
    return CheckResult(Verdict.FAILED, sanitize(reasons), starttls)


class NoRouteError(OSError):
    """The kernel knows no way to the address, or no own address to go there from."""


async def _connected(ip: IPAddress, port: int) -> socket.socket:
    """A non-blocking socket connected to `ip`. Raises NoRouteError, OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        str(ip), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if not _begin(sock, address):
            # While all own addresses are tentative the kernel sends from ::1, which nobody answers.
            if _own(sock).is_loopback and not (ip.is_loopback or ip.is_unspecified):
                raise NoRouteError(errno.EADDRNOTAVAIL, "no own address yet")
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _begin(sock: socket.socket, address: Any) -> bool:
    """Begin to connect; True: it is connected already. Raises NoRouteError, OSError."""
    try:
        sock.connect(address)
    except BlockingIOError:
        return False
    except OSError as error:  # at once: so the kernel says it, not the network
        if error.errno in _NO_ROUTE:
            raise NoRouteError(error.errno, "no route") from error
        raise
    return True


def _own(sock: socket.socket) -> IPAddress:
    return ip_address(sock.getsockname()[0])


def _literal(sock: socket.socket) -> str:
    """The address literal of the socket's own end (RFC 5321 4.1.3)."""
    own = _own(sock)
    return f"[IPv6:{own}]" if own.version == 6 else f"[{own}]"


async def _leave(dialogue: Dialogue) -> None:
    """Say QUIT and give the relay a moment to answer (RFC 5321 4.1.1.10), whatever comes of it."""
    with suppress(OSError, Violation):  # also TimeoutError
        async with asyncio.timeout(FAREWELL):
            await dialogue.quit(wait=True)


def _said(error: OSError) -> str:
    """The error in the system's words; asyncio puts its own in."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
