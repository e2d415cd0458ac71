"""One query to one server: a socket of its own, UDP first, TCP when truncated or wished (rule F2)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address

from salsa_agent.core.model import Server
from salsa_agent.link_socket import NO_ROUTE_YET, Endpoint, endpoint, open_socket, os_error_text
from salsa_agent.resolver.message import ServerFailed, is_reply, is_truncated

Pay = Callable[[], None]

ROUTE_PAUSE = 0.05  # seconds between two looks for a route
MAX_DATAGRAM = 4096  # a query without EDNS is answered in 512 (RFC 1035 section 4.2.1)


class NoReply(Exception):
    """The time of the try ran out. `sent`: the query went out; if not, there was no route all the time."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class QueryAttempt:
    """A query that is sent when this is made, if there is a route; if not, `waiting` is true and `reply` waits for one.

    `timeout` (seconds) is for all of it: a route may come a moment after the address did. `families`: the IP versions
    of which a route may come. `pay`: called before something goes out, and may raise ServerFailed (E2). The constructor
    raises ServerFailed. To be closed.
    """

    def __init__(
        self, server: Server, query: bytes, timeout: float, families: frozenset[int], pay: Pay = lambda: None
    ) -> None:
        self._server = server
        self._query = query
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._families = families
        self._pay = pay
        self._sock: socket.socket | None = None
        self._no_route = ""
        self._send()

    @property
    def waiting(self) -> bool:
        """Whether there is no route yet."""
        return self._sock is None

    async def reply(self) -> bytes:
        """The reply, which has the id and the question of the query and is not truncated.

        Raises NoReply, and ServerFailed when the server, or the way to it, is of no use.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                while self._sock is None:
                    await asyncio.sleep(ROUTE_PAUSE)
                    self._send()
                return await self._reply(self._sock)
        except TimeoutError:
            raise NoReply(self._no_route if self.waiting else "no answer in time", sent=not self.waiting) from None
        except OSError as error:
            raise ServerFailed(os_error_text(error), replied=False) from error

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._sock is not None:
            self._sock.close()

    def _send(self) -> None:
        """Send the query, or note that there is no route. Raises ServerFailed."""
        try:
            to = _endpoint_of(self._server)
            self._sock = _connected(to, b"" if self._server.tcp else self._query, self._pay)
        except OSError as error:
            if error.errno not in NO_ROUTE_YET or not self._route_may_come():
                raise ServerFailed(os_error_text(error), replied=False) from error
            self._no_route = os_error_text(error)

    def _route_may_come(self) -> bool:
        """A link-local address needs no route of its family, but its link."""
        ip = ip_address(self._server.address)
        return ip.is_link_local or ip.version in self._families

    async def _reply(self, sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        while not self._server.tcp:
            wire = await loop.sock_recv(sock, MAX_DATAGRAM)
            if not is_reply(wire, self._query):  # anybody's: passed over
                await asyncio.sleep(0)  # a flood is received without a pause: let the loop live and the time run out
            elif is_truncated(wire):
                break
            else:
                return wire
        self._pay()
        return await _over_tcp(self._server, self._query)


def _connected(to: Endpoint, query: bytes, pay: Pay) -> socket.socket:
    """A UDP socket on which the query went out; without one it only shows that there is a route. Raises OSError."""
    sock = open_socket(to, socket.SOCK_DGRAM)
    try:
        sock.connect(to.sockaddr)  # the kernel drops what others send, and tells of a closed port
        if query:
            pay()
            sock.send(query)
    except BaseException:
        sock.close()
        raise
    return sock


async def _over_tcp(server: Server, query: bytes) -> bytes:
    """RFC 7766: each message after its length."""
    loop = asyncio.get_running_loop()
    to = _endpoint_of(server)
    with open_socket(to, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, to.sockaddr)
        await loop.sock_sendall(sock, struct.pack("!H", len(query)) + query)
        while not is_reply(reply := await _message(sock), query):
            pass
    if is_truncated(reply):
        raise ServerFailed("truncated over TCP")
    return reply


async def _message(sock: socket.socket) -> bytes:
    await asyncio.sleep(0)  # as with UDP: a flood is received without a pause
    (length,) = struct.unpack("!H", await _exactly(sock, 2))
    return await _exactly(sock, length)


async def _exactly(sock: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < length:
        chunk = await loop.sock_recv(sock, length - len(data))
        if not chunk:
            raise ServerFailed("connection closed before the answer")
        data += chunk
    return bytes(data)


def _endpoint_of(server: Server) -> Endpoint:
    """Raises ServerFailed, OSError."""
    try:  # the link of a scope that is a name may change
        return endpoint(*server[:3]) if "%" in server.address else _known_endpoint(*server[:3])
    except ValueError:
        raise ServerFailed("not an IP address", replied=False) from None


_known_endpoint = lru_cache(maxsize=64)(endpoint)
