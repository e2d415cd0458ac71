"""The client's side of an SMTP session as far as verifying a relay needs it (RFC 5321; D1, D7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salsa_agent.smtp.stream import Channel, Violation

if TYPE_CHECKING:
    import ssl

_REPLY = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)  # RFC 5321 4.2; a bare code is one, too


class Refusal(Exception):
    """The relay answered, and not with 2xx. The text is what it said."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, with the text of its lines."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([str(self.code), *filter(None, self.lines)])


class Dialogue:
    """Commands and their replies, strictly in turn.

    `on_step` is told what is being done next, for a person to read. Every method raises Refusal, Violation and OSError;
    after a Refusal the session stands, and is owed a `quit`.
    """

    def __init__(self, channel: Channel, on_step: Callable[[str], None]) -> None:
        self._channel = channel
        self._on_step = on_step

    async def greeting(self) -> None:
        """Wait for the relay's greeting."""
        self._on_step("greeting")
        _positive(await self._reply())

    async def hello(self, literal: str) -> bool:
        """Say who we are (RFC 5321 4.1.1.1); whether STARTTLS is offered. HELO where EHLO gets a 5xx."""
        reply = await self._command("EHLO", literal)
        if reply.code // 100 == 5:
            _positive(await self._command("HELO", literal))
            return False
        _positive(reply)
        return any(line.split(maxsplit=1)[:1] == ["STARTTLS"] for line in map(str.upper, reply.lines[1:]))

    async def starttls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on inside TLS. What was learned before is void (RFC 3207 4.2): say `hello` again. Raises ValueError."""
        _positive(await self._command("STARTTLS"))
        await self.tls(context, host)

    async def tls(self, context: ssl.SSLContext, host: str) -> None:
        """The TLS handshake alone. Raises ValueError."""
        self._on_step("TLS")
        await self._channel.start_tls(context, host)

    async def offer(self, recipient: str) -> None:
        """Whether mail for `recipient` would be taken: the envelope, withdrawn before there is a message (D7).

        Raises ValueError for a `recipient` that is not printable ASCII.
        """
        _positive(await self._command("MAIL", "FROM:<>"))
        _positive(await self._command("RCPT", f"TO:<{recipient}>"))
        _positive(await self._command("RSET"))

    async def quit(self, *, wait: bool) -> None:
        """Take leave (RFC 5321 4.1.1.10); `wait` for the answer, whatever it is."""
        await self._channel.send(b"QUIT")
        if wait:
            await self._channel.line()

    async def _command(self, verb: str, argument: str = "") -> Reply:
        self._on_step(verb)
        if self._channel.pending:
            raise Violation("spoke out of turn")
        line = f"{verb} {argument}".rstrip()
        if not (line.isascii() and line.isprintable()):
            raise ValueError("not printable ASCII")
        await self._channel.send(line.encode("ascii"))
        return await self._reply()

    async def _reply(self) -> Reply:
        lines: list[str] = []
        codes: set[bytes] = set()
        more = True
        while more:
            line = await self._channel.line()
            match = _REPLY.fullmatch(line)
            if match is None:
                raise Violation(f"no SMTP reply: {line.decode(errors='replace')}")
            codes.add(match[1])
            if len(codes) > 1:
                raise Violation("one reply with two codes")
            lines.append((match[3] or b"").decode(errors="replace"))
            more = match[2] == b"-"
        return Reply(int(codes.pop()), tuple(lines))


def _positive(reply: Reply) -> None:
    if reply.code // 100 != 2:
        raise Refusal(str(reply))
