"""Lines to and from a relay over a connected socket, in the clear or inside TLS, and no more of them than D1 allows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from salsa_agent.smtp.errors import ProtocolError

if TYPE_CHECKING:
    import ssl

    from salsa_agent.smtp.tls import Tls

MAX_LINES = 100  # of one conversation (D1)
MAX_OCTETS = 32 * 1024
MAX_WIRE = 256 * 1024  # of one conversation inside TLS: certificates and records come on top
READ = 4096

T = TypeVar("T")


class Stream:
    """The lines of one conversation. The socket (non-blocking) belongs to the caller, who closes it.

    Nothing is read ahead of need: what a relay sends unasked waits in the kernel, so a flood costs no memory.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._tls: Tls | None = None
        self._handshaking = False
        self._buffer = bytearray()
        self._lines = 0
        self._octets = 0
        self._wire = 0

    async def send(self, line: bytes) -> None:
        """Send one line, given without its end. Raises OSError."""
        data = line + b"\r\n"
        await self._loop.sock_sendall(self._sock, self._tls.sealed(data) if self._tls else data)

    async def line(self) -> bytes:
        """The next line without its end; a bare LF ends one, too. Raises ProtocolError (also at the end), OSError."""
        while (end := self._buffer.find(b"\n")) < 0:
            data = await self._read()
            if not data:
                raise ProtocolError("connection closed")
            self._take(data)
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._lines += 1
        if self._lines > MAX_LINES:
            raise ProtocolError("more than 100 lines")
        return line

    def send_at_once(self, line: bytes) -> None:
        """Send one line if the kernel takes it now; nothing is raised or waited for."""
        if self._handshaking:
            return
        with suppress(OSError, ProtocolError):
            data = line + b"\r\n"
            self._sock.send(self._tls.sealed(data) if self._tls else data)

    @property
    def lines_read(self) -> int:
        """How many whole lines the relay has sent."""
        return self._lines

    def unasked(self) -> bytes:
        """What has come beyond the lines that were asked for, at most some READ octets of it; nothing is waited for.

        Raises ProtocolError, OSError.
        """
        if not self._buffer:
            with suppress(BlockingIOError):
                self._take(self._glance())
        return bytes(self._buffer)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on inside TLS (RFC 3207 section 4; at once on port 465, RFC 8314 section 3.3).

        `host`: the name or address that the certificate must have, where that is checked. Raises ProtocolError when
        something is left from the time before (it may have been injected), or when the handshake or the certificate
        fails; OSError; ValueError for a name that TLS cannot carry.
        """
        from salsa_agent.smtp.tls import Tls  # only where TLS is used: it is not free

        if self._buffer:
            raise ProtocolError("plaintext after the reply to STARTTLS")
        self._handshaking = True
        tls = Tls(context, host)
        await self._run(tls, tls.handshake)
        self._tls, self._handshaking = tls, False

    def _take(self, data: bytes) -> None:
        self._octets += len(data)
        if self._octets > MAX_OCTETS:
            raise ProtocolError("more than 32 KiB")
        self._buffer += data

    def _came(self, records: bytes) -> bytes:
        """Records of TLS that came; they are bounded, too."""
        self._wire += len(records)
        if self._wire > MAX_WIRE:
            raise ProtocolError("more than 256 KiB of TLS")
        return records

    async def _read(self) -> bytes:
        if self._tls is None:
            return await self._loop.sock_recv(self._sock, READ)
        return await self._run(self._tls, partial(self._tls.opened, READ))

    def _glance(self) -> bytes:
        """What `_read` would read now. Raises BlockingIOError where it would wait."""
        if self._tls is None:
            return self._sock.recv(READ)
        while (data := self._tls.opened(READ)) is None:
            self._tls.incoming(self._came(self._sock.recv(READ)))
        return data

    async def _run(self, tls: Tls, step: Callable[[], T | None]) -> T:
        """Repeat a step of TLS, moving its records, until it has something to show for it."""
        while True:
            try:
                result = step()
            finally:  # what it has to send may be the alert that says why it failed
                if records := tls.outgoing():
                    await self._loop.sock_sendall(self._sock, records)
            if result is not None:
                return result
            tls.incoming(self._came(await self._loop.sock_recv(self._sock, READ)))
