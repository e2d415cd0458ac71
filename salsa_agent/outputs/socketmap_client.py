"""One connection to the socketmap: queries in, answers out, and never much of either kept."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from salsa_agent.outputs.netstring import NetstringError, NetstringReader, netstring

MAX_QUERY = 10_000  # bytes; socketmap_table(5)
AT_A_TIME = 4  # queries of one connection that are answered before it is the others' turn
_READ = 16_384  # bytes that are read of a connection at once

log = logging.getLogger("salsa-agent")


def read(connection: socket.socket) -> bytes | None:
    """What has come on a new connection; it is closed, and the result None, where nothing will come any more."""
    try:
        if came := connection.recv(_READ):
            return came
    except BlockingIOError:
        return b""
    except OSError:
        pass
    connection.close()
    return None


class Client:
    """One connection. Queries may come in a row, in pieces, or never.

    A few are answered at once; for the next ones the connection waits until all others had their turn, and is not read
    meanwhile. Nor is it read while it does not read its answers. So one that floods costs the others a few queries.

    It is no transport of asyncio: that takes a task and several turns of the loop to begin and to end, in which
    connections that come and go would add up.
    """

    def __init__(
        self, connection: socket.socket, user: int, reply: Callable[[bytes], bytes], left: Callable[[Client], None]
    ) -> None:
        """`user`: whose it is. `reply`: to one query. `left` is called at the end; until `begin` nothing is done."""
        self.user = user
        self.asked = False  # whether it ever sent a query
        self._connection = connection
        self._fd = connection.fileno()  # given to the event loop, which takes longer with the socket itself
        self._reply = reply
        self._left = left
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()  # when the last query came
        self._queries = NetstringReader(MAX_QUERY)
        self._unsent = b""
        self._ended = self._at_end = self._reading = False
        self._turn: asyncio.Handle | None = None

    def begin(self, came: bytes) -> None:
        """Answer this, and go on with what comes."""
        self._queries.feed(came)
        self._answer()

    def end(self) -> None:
        """End the connection at once, whatever it still has to take. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._watch(False)
        if self._unsent:
            self._loop.remove_writer(self._fd)
        if self._turn is not None:
            self._turn.cancel()
        self._connection.close()
        self._left(self)

    def _read(self) -> None:
        try:
            came = self._connection.recv(_READ)
        except BlockingIOError:
            self._watch(True)
            return
        except OSError:
            self.end()
            return
        if came:
            self._queries.feed(came)
        else:  # it may have closed its side only, and wait for answers
            self._at_end = True
        self._answer()

    def _answer(self) -> None:
        """Answer a few queries; then go on in the next turn of the loop, or read again."""
        self._turn = None
        replies: list[bytes] = []
        broken = False
        try:
            while len(replies) < AT_A_TIME and (query := self._queries.next()) is not None:
                replies.append(netstring(self._reply(query)))
        except NetstringError as error:
            log.debug("socketmap: a client was disconnected: %s", error)
            broken = True
        if replies:
            self.asked, self.heard = True, self._loop.time()
            self._unsent = b"".join(replies)
            self._write()
        if broken:
            self.end()
        if self._ended:
            return
        if self._unsent:  # the client does not read its answers: no more queries are read until it does
            self._watch(False)
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._go_on(len(replies) == AT_A_TIME)

    def _go_on(self, more: bool) -> None:
        """`more`: there may be queries that are read but not answered."""
        if more:
            self._watch(False)
            self._turn = self._loop.call_soon(self._answer)
        elif self._at_end:
            self.end()
        else:
            self._watch(True)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
            self.end()

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._write()
        if self._ended:
            return
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._go_on(True)

    def _watch(self, on: bool) -> None:
        if on is not self._reading:
            self._reading = on
            if on:
                self._loop.add_reader(self._fd, self._read)
            else:
                self._loop.remove_reader(self._fd)
