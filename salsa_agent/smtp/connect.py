"""A TCP connection to one address of a relay (rule D1)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from ipaddress import ip_address
from typing import Any

from salsa_agent.core.model import IPAddress
from salsa_agent.link_socket import NO_ROUTE_YET, endpoint, open_socket


class NoRouteError(OSError):
    """The kernel knows no way to the address yet, or no own address to go there from.

    A route of type `unreachable` is not that: somebody put it there (EHOSTUNREACH).
    """


class Connector:
    """One attempt to connect to `ip`, on the link `ifindex` only where that is not 0."""

    def __init__(self, ip: IPAddress, port: int, ifindex: int = 0) -> None:
        self.ip = ip
        self.started = False  # a packet may have gone out
        self._port = port
        self._ifindex = ifindex
        self._sock: socket.socket | None = None

    @property
    def established(self) -> bool:
        """Whether the kernel has the connection, even where `connect` has not noticed yet."""
        try:
            return self._sock is not None and bool(self._sock.getpeername())
        except OSError:
            return False

    async def connect(self) -> socket.socket:
        """A non-blocking socket that is connected; the caller closes it. Raises NoRouteError, OSError."""
        to = endpoint(str(self.ip), self._port, self._ifindex)
        sock = open_socket(to, socket.SOCK_STREAM)
        try:
            connected = _begin(sock, to.sockaddr)
            if not connected:
                # While all own addresses are tentative the kernel sends from ::1, which nobody answers.
                if own_address(sock).is_loopback and not (self.ip.is_loopback or self.ip.is_unspecified):
                    raise NoRouteError(errno.EADDRNOTAVAIL, "no own address yet")
                self._sock = sock
            self.started = True
            if not connected:
                await asyncio.get_running_loop().sock_connect(sock, to.sockaddr)
        except BaseException:
            sock.close()
            raise
        return sock


def own_address(sock: socket.socket) -> IPAddress:
    """The address of the socket's own end."""
    return ip_address(sock.getsockname()[0])


def address_literal(sock: socket.socket) -> str:
    """The address literal of the socket's own end, as EHLO takes it (RFC 5321 section 4.1.3)."""
    own = own_address(sock)
    return f"[IPv6:{own}]" if own.version == 6 else f"[{own}]"


def error_text(error: OSError) -> str:
    """The error in the system's words; asyncio puts its own in."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _begin(sock: socket.socket, address: Any) -> bool:
    """Begin to connect; True: it is connected already. Raises NoRouteError, OSError."""
    try:
        sock.connect(address)
    except BlockingIOError:
        return False
    except OSError as error:  # at once: so the kernel says it, not the network
        if error.errno in NO_ROUTE_YET:
            raise NoRouteError(error.errno, "no route") from error
        raise
    return True
