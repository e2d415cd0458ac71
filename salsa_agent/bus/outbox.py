"""What waits to be written to a bus, and how much of it: a full socket is no error, it is waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

CHUNK = 1 << 16  # octets written at once
LOW, HIGH = 1 << 16, 1 << 20  # octets that wait: above LOW the bus is slow, above HIGH nothing more is read from it


class Outbox:
    """Octets for one socket, in order.

    `on_error` is called when writing fails, `on_drained` when no longer more than LOW octets wait.
    """

    def __init__(self, on_error: Callable[[OSError], None], on_drained: Callable[[], None]) -> None:
        self._on_error = on_error
        self._on_drained = on_drained
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._writing = False  # the loop tells when the socket takes more
        self._corked = False

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def congested(self) -> bool:
        """Whether the bus is slow to take what it is sent."""
        return len(self._buffer) > LOW

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing should be read that may need an answer."""
        return len(self._buffer) > HIGH

    def open(self, sock: socket.socket) -> None:
        """Write to this socket from now on."""
        self._sock = sock

    def put(self, octets: bytes) -> None:
        """Send these after what waits."""
        if self._sock is not None:
            self._buffer += octets
            if not self._corked and not self._writing:
                self.flush()

    def cork(self) -> None:
        """Write nothing until `flush`: several messages then go out at once."""
        self._corked = True

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it."""
        self._corked = False
        was_congested = self.congested
        while self._buffer and self._sock is not None:
            try:
                del self._buffer[: self._sock.send(self._buffer[:CHUNK])]
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._on_error(error)
                return
        if self._sock is None:
            return
        self._watch(bool(self._buffer))
        if was_congested and not self.congested:
            self._on_drained()

    def _watch(self, on: bool) -> None:
        if on is self._writing or self._sock is None:
            return
        self._writing = on
        loop = asyncio.get_running_loop()
        if on:
            loop.add_writer(self._sock.fileno(), self.flush)
        else:
            loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Forget what waits: nothing more can be sent."""
        self._watch(False)
        self._sock = None
        self._buffer.clear()
