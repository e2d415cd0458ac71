"""One request over UDP, sent again until it is answered: what NAT-PMP and STUN have in common."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from salsa_agent.core.model import IPAddress
from salsa_agent.link_socket import Endpoint, open_socket, os_error_text
from salsa_agent.nat.answer import MappedAddress

# what a connected socket makes of the ICMP errors that are hard by RFC 1122 4.2.3.9: port, protocol unreachable
_HARD = frozenset((errno.ECONNREFUSED, errno.ENOPROTOOPT))
_MOST = 2048  # bytes; no answer to these requests is longer


class NoAnswer(Exception):
    """No answer came; the text says why."""


def connected(address: IPAddress, port: int, ifindex: int) -> socket.socket:
    """A UDP socket with a fresh port that sends to, and hears, only `address` and `port`, through a link.

    A loopback address has no link. Raises NoAnswer when there is no way.
    """
    try:
        return _connect(address, port, ifindex)
    except OSError as error:
        raise NoAnswer(os_error_text(error)) from error


def _connect(address: IPAddress, port: int, ifindex: int) -> socket.socket:
    to = Endpoint(address, port, 0 if address.is_loopback else ifindex)
    sock = open_socket(to, socket.SOCK_DGRAM)
    try:
        sock.connect(to.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


async def exchange(
    sock: socket.socket, request: bytes, waits: Sequence[float], parse: Callable[[bytes], MappedAddress | None]
) -> MappedAddress:
    """Send `request`, and again after each of the `waits` (seconds) but the last, until `parse` reads an answer.

    Raises NoAnswer at the end of the last wait, or at once on a hard ICMP error. Other errors, such as having no route
    just now, leave the next try its chance.
    """
    for wait in waits:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                with _unless_hard():
                    sock.send(request)
                return await _answer(sock, parse)
    raise NoAnswer("no answer")


async def _answer(sock: socket.socket, parse: Callable[[bytes], MappedAddress | None]) -> MappedAddress:
    loop = asyncio.get_running_loop()
    while True:
        with _unless_hard():
            answer = parse(await loop.sock_recv(sock, _MOST))
            if answer is not None:
                return answer
        await asyncio.sleep(0)  # sock_recv does not when something is there: a flood must not hold the loop


@contextmanager
def _unless_hard() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _HARD:
            raise NoAnswer(os_error_text(error)) from error
