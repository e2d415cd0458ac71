"""One try to get an answer from one server: a socket of its own, UDP first, TCP when truncated (rule F2)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from salsa_agent.core.model import Server
from salsa_agent.resolver_wire import ServerFailed, is_reply, is_truncated

IP_UNICAST_IF = 50  # linux/in.h
IPV6_UNICAST_IF = 76  # linux/in6.h
SO_BINDTOIFINDEX = 62  # asm-generic/socket.h

# what connect says while an address, a route or the link is still to come
NO_ROUTE_YET = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
)
ROUTE_PAUSE = 0.05  # seconds

MAX_DATAGRAM = 4096  # a query without EDNS is answered in 512 (RFC 1035 section 4.2.1)


class NoReply(Exception):
    """The time of the try ran out."""


class _Target(NamedTuple):
    """Where a server is; `link`: the index of the one it is asked through, 0 for any."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]
    link: int


async def exchange(server: Server, sent: bytes, timeout: float) -> bytes:
    """Send a query, return the reply, which has its id and question and is not truncated. `timeout` in seconds.

    Raises NoReply when the time ran out, ServerFailed when the server, or the way to it, is of no use.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        with await _sent(server, sent, deadline) as sock:
            reply = await _datagram(sock, sent, deadline)
        if is_truncated(reply):
            async with asyncio.timeout_at(deadline):
                reply = await _over_tcp(server, sent)
    except TimeoutError:
        raise NoReply("no answer in time") from None
    except OSError as error:
        raise ServerFailed(_said(error)) from error
    return reply


async def _sent(server: Server, sent: bytes, deadline: float) -> socket.socket:
    """A socket on which the query went out; waits for a route, which may come a moment after the address did."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return _send(server, sent)
        except OSError as error:
            if error.errno not in NO_ROUTE_YET:
                raise
            left = deadline - loop.time()
            if left <= 0:
                raise NoReply(_said(error)) from None
            await asyncio.sleep(min(left, ROUTE_PAUSE))


def _send(server: Server, sent: bytes) -> socket.socket:
    target = _target(server)
    sock = _socket(target, socket.SOCK_DGRAM)
    try:
        sock.connect(target.sockaddr)  # the kernel drops what others send, and tells of a closed port
        sock.send(sent)
    except BaseException:
        sock.close()
        raise
    return sock


async def _datagram(sock: socket.socket, sent: bytes, deadline: float) -> bytes:
    """The reply to what was sent; all other messages may be anybody's and are passed over."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(sock.fileno(), _on_datagram, sock, sent, reply)  # a number: selectors print what they do not know
    timer = loop.call_at(deadline, _end, reply, TimeoutError())
    try:
        return await reply
    finally:
        timer.cancel()
        loop.remove_reader(sock.fileno())


def _on_datagram(sock: socket.socket, sent: bytes, reply: asyncio.Future[bytes]) -> None:
    """One a turn of the loop, so that a flood does not stop it."""
    try:
        wire = sock.recv(MAX_DATAGRAM)
    except BlockingIOError:  # the checksum was wrong, select(2)
        return
    except OSError as error:
        _end(reply, error)
        return
    if is_reply(wire, sent) and not reply.done():
        reply.set_result(wire)


def _end(reply: asyncio.Future[bytes], error: OSError) -> None:
    if not reply.done():
        reply.set_exception(error)


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
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):  # Python 3.11 gives no errno
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
