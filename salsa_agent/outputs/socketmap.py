"""Answers Postfix: the best relay as a socketmap (socketmap_table(5)), for `sender_dependent_relayhost_maps`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from salsa_agent.core.model import Best
from salsa_agent.core.settings import Endpoint, InetEndpoint, UnixEndpoint
from salsa_agent.outputs.netstring import NetstringError, NetstringReader, netstring

MAP = b"relay"
MAX_QUERY = 10_000  # bytes; socketmap_table(5)
MAX_CLIENTS = 64  # connections; one more ends the one that has been silent longest
IDLE = 120.0  # seconds without a query until a connection is ended; Postfix ends its own after 10, or 100
ACCEPT_AGAIN = 1.0  # seconds, when there are no descriptors for one more connection

PENDING = netstring(b"TEMP the network has not answered yet")
NONE = netstring(b"NOTFOUND ")
_UNKNOWN = netstring(b"PERM there is no such map")

log = logging.getLogger("salsa-agent")


class Socketmap:
    """Serves the map `relay` at the endpoints of `postfix.listen`; every key has the same answer."""

    def __init__(self) -> None:
        self.answer = PENDING
        self.clients: set[_Client] = set()
        self._listeners: dict[Endpoint, _Listener] = {}
        self._deserted = asyncio.Event()

    def publish(self, best: Best) -> None:
        """This is the answer from now on; until the first one it is TEMP."""
        # An address literal has the form of relayhost (postconf(5)), [address]:port, for both families
        self.answer = netstring(f"OK [{best.host}]:{best.port}".encode()) if best.host else NONE

    def listen(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen at these endpoints and at no others. One that cannot be had is logged; the next call tries it again.

        To be called in the loop.
        """
        wanted = dict.fromkeys(endpoints)
        for endpoint in self._listeners.keys() - wanted:
            self._listeners.pop(endpoint).close()
        for endpoint in wanted:
            if endpoint not in self._listeners:
                try:
                    self._listeners[endpoint] = _Listener(endpoint, self)
                except OSError as error:
                    reason = os.strerror(error.errno) if error.errno else error.strerror
                    log.error("postfix.listen: %s: %s", endpoint, reason)
                else:
                    log.info("answering Postfix at %s", endpoint)

    async def close(self) -> None:
        """Listen no more and end all connections, Postfix's too: it holds them open while it is idle."""
        self.listen(())
        while self.clients:
            self._deserted.clear()
            await self._deserted.wait()

    def joined(self, client: _Client) -> None:
        """One more client; the most silent one has to go if there are too many."""
        self.clients.add(client)
        if len(self.clients) > MAX_CLIENTS:
            min(self.clients, key=lambda client: client.heard).end()

    def left(self, client: _Client) -> None:
        """A client is gone."""
        self.clients.discard(client)
        if not self.clients:
            self._deserted.set()


class _Listener:
    """One endpoint. Raises OSError if it cannot be had.

    It accepts by itself: what asyncio's Server has accepted when it is closed is lost, neither served nor ended.
    """

    def __init__(self, endpoint: Endpoint, socketmap: Socketmap) -> None:
        self._socketmap = socketmap
        self._path = Path(endpoint.path) if isinstance(endpoint, UnixEndpoint) else None
        self._socket = _inet_socket(endpoint) if isinstance(endpoint, InetEndpoint) else _unix_socket(endpoint)
        self._file = _identity(self._path) if self._path else None
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Listen no more; end the connections; remove the socket file."""
        self._loop.remove_reader(self._socket)
        if self._again is not None:
            self._again.cancel()
        self._socket.close()
        for client in self._socketmap.clients:
            if client.listener is self:
                client.end()
        if self._path is not None:
            with suppress(OSError):
                if _identity(self._path) == self._file:  # this file, and no other that has taken its place
                    self._path.unlink()

    def _watch(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptors left: the client waits in the backlog
            log.warning("socketmap: no connection can be accepted now: %s", error.strerror)
            self._loop.remove_reader(self._socket)
            self._again = self._loop.call_later(ACCEPT_AGAIN, self._watch)
            return
        connection.setblocking(False)
        client = _Client(self, self._socketmap)
        client.arrival = self._loop.create_task(client.arrive(connection))
        self._socketmap.joined(client)


class _Client(asyncio.Protocol):
    """One connection. Queries may come in a row, in pieces, or never; answers are given as fast as they are read."""

    def __init__(self, listener: _Listener, socketmap: Socketmap) -> None:
        self.listener = listener
        self.arrival: asyncio.Task[None]
        self._socketmap = socketmap
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()  # when the last query came
        self._queries = NetstringReader(MAX_QUERY)
        self._full = False
        self._ended = False
        self._transport: asyncio.Transport | None = None
        self._idle = self._loop.call_later(IDLE, self._check_idle)

    async def arrive(self, connection: socket.socket) -> None:
        """Take up what was accepted."""
        try:
            await self._loop.connect_accepted_socket(lambda: self, connection)
        except OSError:  # the kernel's limits
            connection.close()
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._ended:
            transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._idle.cancel()
        self._socketmap.left(self)

    def data_received(self, data: bytes) -> None:
        self._queries.feed(data)
        self._answer()

    def pause_writing(self) -> None:
        """The client does not read its answers: no more queries are read until it does."""
        self._full = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._transport is not None:
            self._transport.resume_reading()
        self._answer()

    def end(self) -> None:
        """End the connection, whatever it still has to take; at once, or as soon as it has arrived."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        assert self._transport is not None
        try:
            while not self._full and (query := self._queries.next()) is not None:
                self.heard = self._loop.time()
                self._transport.write(self._socketmap.answer if query.partition(b" ")[0] == MAP else _UNKNOWN)
        except NetstringError as error:
            log.debug("socketmap: a client was sent away: %s", error)
            self.end()

    def _check_idle(self) -> None:
        left = self.heard + IDLE - self._loop.time()
        if left <= 0:
            self.end()
        else:
            self._idle = self._loop.call_later(left, self._check_idle)


def _inet_socket(endpoint: InetEndpoint) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    listening = socket.create_server((endpoint.address, endpoint.port), family=family)
    listening.setblocking(False)
    return listening


def _unix_socket(endpoint: UnixEndpoint) -> socket.socket:
    """A listening socket for all users to connect to; a dead one in its place is replaced. Raises OSError."""
    path = Path(endpoint.path)
    _remove_dead(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o111)  # 0666 from the first moment on; fchmod(2) on a bound socket does not reach its file
    try:
        listening.bind(str(path))
        listening.listen()
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(mask)
    return listening


def _identity(path: Path) -> tuple[int, int]:
    there = path.lstat()
    return there.st_dev, there.st_ino


def _remove_dead(path: Path) -> None:
    """Remove the socket at `path` if nobody listens on it. Raises OSError if there is anything else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(None, "a file that is no socket is in its place")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # somebody listens, and is busy
            pass
    raise FileExistsError(None, "another program listens there")
