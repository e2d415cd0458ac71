"""One try to get an answer from one server: a socket of its own, UDP first, TCP when truncated (rule F2)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import NamedTuple

from salsa_agent.core.model import MAX_IFINDEX, Server
from salsa_agent.resolver.message import ServerFailed, is_reply, is_truncated
from salsa_agent.resolver.udp_sockets import replies

IP_UNICAST_IF = 50  # linux/in.h
IPV6_UNICAST_IF = 76  # linux/in6.h
SO_BINDTOIFINDEX = 62  # asm-generic/socket.h

# what connect says while an address, a route or the link is still to come
NO_ROUTE_YET = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
)
ROUTE_PAUSE = 0.05  # seconds


class NoReply(Exception):
    """The time of the try ran out."""


Result = bytes | Exception  # NoReply, ServerFailed; any other is a defect of ours


class _Target(NamedTuple):
    """Where a server is; `link`: the index of the one it is asked through, 0 for any."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]
    link: int


class Try:
    """A query under way. It is sent at once, without a turn of the event loop.

    `done` is told the reply, which has its id and question and is not truncated, or why there is none: NoReply when
    `timeout` (seconds) ran out, ServerFailed when the server, or the way to it, is of no use. Nothing is told after
    `cancel`. The constructor raises ServerFailed.
    """

    __slots__ = ("_deadline", "_done", "_replies", "_sent", "_server", "_sock", "_waits")

    def __init__(self, server: Server, sent: bytes, timeout: float, done: Callable[[Result], None]) -> None:
        self._server, self._sent, self._done = server, sent, done
        self._deadline = monotonic() + timeout
        self._sock: socket.socket | None = None
        self._waits: asyncio.TimerHandle | asyncio.Task[None] | None = None  # for a route, or for TCP
        self._send()

    def cancel(self) -> None:
        """Give up. Twice does no harm."""
        if self._sock is not None:
            self._replies.drop(self._sock)
        if self._waits is not None:
            self._waits.cancel()

    def _send(self) -> None:
        """Send it, or wait for a route, which may come a moment after the address did. Raises ServerFailed."""
        try:
            self._replies = replies()
            self._sock = sock = _connected(self._server, self._sent)
            self._replies.wait(sock, self._deadline, self._heard, self._lost)
        except OSError as error:
            if error.errno not in NO_ROUTE_YET:
                raise ServerFailed(_said(error)) from error
            again = min(monotonic() + ROUTE_PAUSE, self._deadline)
            self._waits = asyncio.get_running_loop().call_at(again, self._send_again, _said(error))

    def _send_again(self, trouble: str) -> None:
        if monotonic() >= self._deadline:
            self._done(NoReply(trouble))
            return
        try:
            self._send()
        except Exception as error:
            self._done(error)

    def _heard(self, wire: bytes) -> None:
        """Take a datagram; all but the reply to what was sent may be anybody's and are passed over."""
        if not is_reply(wire, self._sent):
            return
        assert self._sock is not None
        self._replies.drop(self._sock)
        if is_truncated(wire):
            self._waits = asyncio.get_running_loop().create_task(self._ask_over_tcp(), name="TCP")
        else:
            self._done(wire)

    def _lost(self, error: OSError) -> None:
        self._done(_failure(error))

    async def _ask_over_tcp(self) -> None:
        result: Result
        try:
            async with asyncio.timeout_at(self._deadline):
                result = await _over_tcp(self._server, self._sent)
        except OSError as error:
            result = _failure(error)
        except Exception as error:
            result = error
        self._done(result)


def _failure(error: OSError) -> NoReply | ServerFailed:
    return NoReply("no answer in time") if isinstance(error, TimeoutError) else ServerFailed(_said(error))


def _connected(server: Server, sent: bytes) -> socket.socket:
    """A socket on which the query went out. Raises OSError, ServerFailed."""
    target = _target(server)
    sock = _socket(target, socket.SOCK_DGRAM)
    try:
        sock.connect(target.sockaddr)  # the kernel drops what others send, and tells of a closed port
        sock.send(sent)
    except BaseException:
        sock.close()
        raise
    return sock


async def _over_tcp(server: Server, sent: bytes) -> bytes:
    """RFC 7766: each message after its length."""
    loop = asyncio.get_running_loop()
    target = _target(server)
    with _socket(target, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, target.sockaddr)
        await loop.sock_sendall(sock, struct.pack("!H", len(sent)) + sent)
        while not is_reply(reply := await _message(sock), sent):
            pass
    if is_truncated(reply):
        raise ServerFailed("truncated over TCP")
    return reply


async def _message(sock: socket.socket) -> bytes:
    await asyncio.sleep(0)  # a flood is received without a pause: let the loop live and the time run out
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


def _target(server: Server) -> _Target:
    """Raises ServerFailed, OSError."""
    return _looked_up(server) if "%" in server.address else _plain(server)


@lru_cache(maxsize=64)
def _plain(server: Server) -> _Target:
    return _looked_up(server)


def _looked_up(server: Server) -> _Target:
    target = _where(server)
    if not 0 <= target.link <= MAX_IFINDEX:  # such as a resolv.conf may name
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return target


def _where(server: Server) -> _Target:
    try:
        ip = ip_address(server.address)
    except ValueError:
        raise ServerFailed("not an IP address") from None
    if not isinstance(ip, IPv6Address):
        # through a link the host's own loopback address leads nowhere
        return _Target(socket.AF_INET, (str(ip), server.port), 0 if ip.is_loopback else server.ifindex)
    zone, bare = ip.scope_id, server.address.partition("%")[0]
    link = 0 if ip.is_loopback else server.ifindex if zone is None else _index(zone)
    return _Target(socket.AF_INET6, (bare, server.port, 0, link if ip.is_link_local else 0), link)


def _index(zone: str) -> int:
    """The interface index of a scope (RFC 4007 section 11), given by name or number."""
    try:
        return int(zone) if zone.isascii() and zone.isdigit() else socket.if_nametoindex(zone)
    except (OSError, ValueError):  # Python 3.11 gives no errno; no int has more than 4,300 digits
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def _socket(target: _Target, kind: socket.SocketKind) -> socket.socket:
    """A new socket, and so a new random port, tied to the target's link (rule F1)."""
    sock = socket.socket(target.family, kind | socket.SOCK_NONBLOCK)
    try:
        if target.link:
            _tie(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def _tie(sock: socket.socket, target: _Target) -> None:
    level, option = (
        (socket.IPPROTO_IP, IP_UNICAST_IF)
        if target.family == socket.AF_INET
        else (socket.IPPROTO_IPV6, IPV6_UNICAST_IF)
    )
    sock.setsockopt(level, option, struct.pack("!I", target.link))
    with suppress(PermissionError):  # TCP, and UDP's connect before Linux 6.2, heed this alone; free since 5.7
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, target.link)


def _said(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "network error"
