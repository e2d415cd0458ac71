"""The client's side of an SMTP session, as far as verifying a relay needs it (RFC 5321; rules D1, D7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from salsa_agent.smtp.errors import NegativeReply, ProtocolError
from salsa_agent.smtp.stream import Stream

if TYPE_CHECKING:
    import ssl

_REPLY = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)  # RFC 5321 section 4.2; a bare code is one, too


class Reply(NamedTuple):
    """A reply, with the text of its lines."""

    code: int
    lines: tuple[str, ...]


class Extensions(NamedTuple):
    """What the answer to EHLO offers (RFC 5321 section 4.1.1.1)."""

    starttls: bool = False
    auth: bool = False


class Session:
    """Commands and their replies, strictly in turn.

    `on_step` is called with what is done next, for a person to read. Every method raises NegativeReply for a reply
    whose code is not the one that rule D1 expects, ProtocolError and OSError.
    """

    def __init__(self, stream: Stream, on_step: Callable[[str], None] = lambda _: None) -> None:
        self._stream = stream
        self._on_step = on_step

    async def greeting(self) -> None:
        """Wait for the relay's greeting."""
        self._on_step("greeting")
        _expect(await self._reply(), 220)

    async def hello(self, literal: str) -> Extensions:
        """Introduce this host by an address literal. HELO, which offers nothing, where EHLO gets a 5xx."""
        reply = await self._command("EHLO", literal)
        if reply.code // 100 == 5:
            _expect(await self._command("HELO", literal), 250)
            return Extensions()
        _expect(reply, 250)
        # AUTH= is the form that some servers give for clients older than RFC 4954
        keywords = {re.split(r"[ \t=]", line.upper(), maxsplit=1)[0] for line in reply.lines[1:]}
        return Extensions("STARTTLS" in keywords, "AUTH" in keywords)

    async def starttls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on inside TLS. What was learned before is void (RFC 3207 section 4.2): say `hello` again.

        Raises ValueError for a `host` that TLS cannot carry.
        """
        _expect(await self._command("STARTTLS"), 220)
        await self.tls(context, host)

    async def tls(self, context: ssl.SSLContext, host: str) -> None:
        """The TLS handshake alone. Raises ValueError for a `host` that TLS cannot carry."""
        self._on_step("TLS")
        await self._stream.start_tls(context, host)

    async def mail(self) -> None:
        """MAIL with the null sender."""
        _expect(await self._command("MAIL", "FROM:<>"), 250)

    async def recipient(self, address: str) -> None:
        """RCPT. Raises ValueError for an `address` that is not printable ASCII."""
        _expect(await self._command("RCPT", f"TO:<{address}>"), 250, 251)

    async def reset(self) -> None:
        """RSET: withdraw the envelope before there is a message."""
        _expect(await self._command("RSET"), 250)

    async def in_turn(self) -> None:
        """See that the relay has sent no more than the replies that were asked for (rule D1).

        Of one that has, it is not known which reply belongs to which command. Raises ProtocolError; NegativeReply for
        the 421 of a server that goes down, which may say it at any time (RFC 5321 section 3.8).
        """
        unasked = self._stream.unasked()
        if unasked.startswith(b"421"):
            _expect(await self._reply())
        elif unasked:
            raise ProtocolError("spoke out of turn")

    async def quit(self, *, wait: bool) -> None:
        """End the session (RFC 5321 section 4.1.1.10); `wait` for the answer, whatever it is."""
        await self._stream.send(b"QUIT")
        if wait:
            await self._stream.line()

    def quit_at_once(self) -> None:
        """Send QUIT if that is possible without waiting."""
        self._stream.send_at_once(b"QUIT")

    async def _command(self, verb: str, argument: str = "") -> Reply:
        self._on_step(verb)
        await self.in_turn()
        line = f"{verb} {argument}".rstrip()
        if not (line.isascii() and line.isprintable()):
            raise ValueError("not printable ASCII")
        await self._stream.send(line.encode("ascii"))
        return await self._reply()

    async def _reply(self) -> Reply:
        lines: list[str] = []
        codes: set[bytes] = set()
        more = True
        while more:
            line = await self._stream.line()
            match = _REPLY.fullmatch(line)
            if match is None:
                raise ProtocolError(f"no SMTP reply: {line.decode(errors='replace')}")
            codes.add(match[1])
            if len(codes) > 1:
                raise ProtocolError("one reply with two codes")
            lines.append((match[3] or b"").decode(errors="replace"))
            more = match[2] == b"-"
        return Reply(int(codes.pop()), tuple(lines))


def _expect(reply: Reply, *codes: int) -> None:
    if reply.code not in codes:
        raise NegativeReply(reply.code, reply.lines)
