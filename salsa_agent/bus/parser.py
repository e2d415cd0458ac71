"""Octets in, messages out: what a bus sends is cut into messages, without any input or output of its own.

A header is read before its body has come, so a message that is too large is left out without being kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from salsa_agent.bus import message as wire
from salsa_agent.bus.message import Header, Malformed

MAX_HEADER = 1 << 16  # octets; all names together are below 2 KiB, but a path has no limit of its own

log = logging.getLogger("salsa-agent.bus")


class Received(NamedTuple):
    """One message. `header` None: it was damaged or had too large a header. `body` None: too large, and not kept."""

    header: Header | None
    body: bytes | None = None


class Parser:
    """Feed it octets with `feed`; take messages with `next`, one at a time, until it returns None."""

    def __init__(self, limit: Callable[[Header], int]) -> None:
        """`limit`: how many octets the body of a message with this header may have."""
        self._limit = limit
        self._buffer = bytearray()
        self._header: Header | None = None  # of the message whose body is still to come
        self._to_skip = 0  # octets still to come that nobody wants

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """Octets as they came from the socket."""
        self._buffer += octets

    def clear(self) -> None:
        """Forget what has come: nothing more will."""
        self._buffer.clear()

    def next(self) -> Received | None:
        """The next message; None: more octets have to come. Raises FramingError where no message can be found."""
        if self._to_skip:
            skipped = min(self._to_skip, len(self._buffer))
            del self._buffer[:skipped]
            self._to_skip -= skipped
        if self._to_skip or len(self._buffer) < wire.FIXED:
            return None
        header_size, body_size = wire.sizes(self._buffer)
        if header_size > MAX_HEADER:
            self._to_skip = header_size + body_size
            return Received(None)
        if len(self._buffer) < header_size:
            return None
        if self._header is None:
            try:
                self._header = wire.parse(bytes(self._buffer[:header_size]))
            except Malformed as error:
                log.debug("a message was ignored: %s", error)
                self._to_skip = header_size + body_size
                return Received(None)
        header = self._header
        if body_size > self._limit(header):
            self._header = None
            self._to_skip = header_size + body_size
            return Received(header)
        if len(self._buffer) < header_size + body_size:
            return None
        body = bytes(self._buffer[header_size : header_size + body_size])
        del self._buffer[: header_size + body_size]
        self._header = None
        return Received(header, body)
