"""Answers Postfix: the relays to use, as the maps of a socketmap server (socketmap_table(5))."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from salsa_agent.core.model import Publication
from salsa_agent.core.settings import Endpoint, InetEndpoint, Settings, UnixEndpoint
from salsa_agent.outputs.answers import Answers
from salsa_agent.outputs.netstring import NetstringError, NetstringReader, netstring

MAX_QUERY = 10_000  # bytes; socketmap_table(5)
MAX_CLIENTS = 64  # connections
IDLE = 120.0  # seconds without a query until a connection is ended; Postfix ends its own after 10, or 100
ACCEPT_AGAIN = 1.0  # seconds, when there are no descriptors for one more connection
ACCEPT_AT_ONCE = 128  # connections, in one turn of the event loop
BACKLOG = socket.SOMAXCONN  # connections that wait; the kernel cuts it to net.core.somaxconn
AT_A_TIME = 4  # queries of one connection that are answered before it is the others' turn
_READ = 16_384  # bytes that are read of a connection at once

log = logging.getLogger("salsa-agent")


class Socketmap:
    """Serves the maps of `Answers` at the endpoints of `postfix.listen`.

    No connection, and at a `unix:` endpoint no user, can keep another from its answers (see `_Client`, `joined`).
    """

    def __init__(self) -> None:
        self.answers = Answers()
        self.clients: set[_Client] = set()
        self._publication: Publication | None = None
        self._verified = Settings().verify.enabled
        self._listeners: dict[Endpoint, _Listener] = {}
        self._deserted = asyncio.Event()

    def configure(self, settings: Settings) -> None:
        """Use these settings from now on; endpoints as `listen` has it. To be called in the loop."""
        self._verified = settings.verify.enabled
        self.answers = Answers(self._publication, verified=self._verified)
        self.listen(settings.postfix_listen)

    def publish(self, publication: Publication) -> None:
        """Answer by this from now on. Until the first one every answer is TEMP."""
        self._publication = publication
        self.answers = Answers(publication, verified=self._verified)

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
        """One more client. If there are too many, the most silent one of the user that holds most has to go."""
        self.clients.add(client)
        if len(self.clients) > MAX_CLIENTS:
            held = Counter(one.user for one in self.clients)
            most = max(held.values())
            min((one for one in self.clients if held[one.user] == most), key=lambda one: one.heard).end()

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
        """Take up who waits. Whoever fills the queue with connections that he has closed again keeps nobody out."""
        for _ in range(ACCEPT_AT_ONCE):
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
            if _is_closed(connection):
                connection.close()
                continue
            client = _Client(self, self._socketmap, _user(connection))
            client.arrival = self._loop.create_task(client.arrive(connection))
            self._socketmap.joined(client)


class _Client(asyncio.BufferedProtocol):
    """One connection. Queries may come in a row, in pieces, or never.

    A few are answered at once; for the next ones the connection waits until all others had their turn, and is not read
    meanwhile. Nor is it read while it does not read its answers. So one that floods costs the others a few queries.
    """

    def __init__(self, listener: _Listener, socketmap: Socketmap, user: int) -> None:
        self.listener = listener
        self.user = user
        self.arrival: asyncio.Task[None]
        self._socketmap = socketmap
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()  # when the last query came
        self._buffer = bytearray(_READ)
        self._queries = NetstringReader(MAX_QUERY)
        self._full = False
        self._ended = False
        self._turn: asyncio.Handle | None = None
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
        if self._turn is not None:
            self._turn.cancel()
        self._socketmap.left(self)

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._queries.feed(bytes(self._buffer[:nbytes]))
        self._answer()

    def pause_writing(self) -> None:
        """The client does not read its answers: no more queries are read until it does."""
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._turn is None:
            self._turn = self._loop.call_soon(self._answer)

    def end(self) -> None:
        """End the connection, whatever it still has to take; at once, or as soon as it has arrived."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        """Answer a few queries; then go on in the next turn of the loop, or read again."""
        assert self._transport is not None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._ended:
            return
        replies: list[bytes] = []
        error: NetstringError | None = None
        try:
            while not self._full and len(replies) < AT_A_TIME and (query := self._queries.next()) is not None:
                replies.append(netstring(self._socketmap.answers.reply(query)))
        except NetstringError as wrong:
            error = wrong
        if replies:
            self.heard = self._loop.time()
            self._transport.write(b"".join(replies))
        if error is not None:
            log.debug("socketmap: a client was disconnected: %s", error)
            self.end()
        elif self._full:
            self._transport.pause_reading()
        elif len(replies) == AT_A_TIME:  # there may be more
            self._transport.pause_reading()
            self._turn = self._loop.call_soon(self._answer)
        else:
            self._transport.resume_reading()

    def _check_idle(self) -> None:
        left = self.heard + IDLE - self._loop.time()
        if left <= 0:
            self.end()
        else:
            self._idle = self._loop.call_later(left, self._check_idle)


def _user(connection: socket.socket) -> int:
    """The user id at the other end, where the kernel tells it (SO_PEERCRED, unix(7)); -1: all others."""
    if connection.family != socket.AF_UNIX:
        return -1
    form = struct.Struct("3i")  # struct ucred: pid, uid, gid
    return int(form.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))[1])


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other end has hung up and left nothing to read."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _inet_socket(endpoint: InetEndpoint) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    listening = socket.create_server((endpoint.address, endpoint.port), family=family, backlog=BACKLOG)
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
        listening.listen(BACKLOG)
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
