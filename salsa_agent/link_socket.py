"""Sockets tied to a network link, the one way to do it: for DNS (rule F1), NAT (G1) and mail relays (D11).

Two links may lead to different hosts with the same address, such as 192.168.1.1. No privilege is needed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from salsa_agent.core.model import MAX_IFINDEX, IPAddress

IP_UNICAST_IF = 50  # linux/in.h
IPV6_UNICAST_IF = 76  # linux/in6.h
SO_BINDTOIFINDEX = 62  # asm-generic/socket.h

# What connect() says while an address, a route or the link is still to come. EHOSTUNREACH is not among them: it comes
# from a route of type `unreachable`, which the administrator or a VPN put there (rules D1, F2).
NO_ROUTE_YET = frozenset((errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENODEV, errno.ENXIO))


class Endpoint(NamedTuple):
    """Where to send. `ifindex`: the index of the link to send through; 0 leaves that to the routing table."""

    address: IPAddress  # without a scope
    port: int
    ifindex: int = 0

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if self.address.version == 6 else socket.AF_INET

    @property
    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What connect() takes; only a link-local address has a scope id (ipv6(7))."""
        if self.address.version == 4:
            return str(self.address), self.port
        return str(self.address), self.port, 0, self.ifindex if self.address.is_link_local else 0


def endpoint(address: str, port: int, ifindex: int = 0) -> Endpoint:
    """The endpoint for an address, which may have a scope (RFC 4007 section 11); the scope decides about the link.

    A loopback address has no link: none leads there. Raises ValueError for what is no address, OSError (ENODEV) for a
    link that is not there or that cannot be.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        ifindex = _index_of(ip.scope_id)
        ip = IPv6Address(int(ip))
    if not 0 <= ifindex <= MAX_IFINDEX:
        raise _no_such_device()
    return Endpoint(ip, port, 0 if ip.is_loopback else ifindex)


def open_socket(to: Endpoint, kind: socket.SocketKind) -> socket.socket:
    """A new socket of this kind for this endpoint: not connected, not blocking, tied to its link. Raises OSError."""
    sock = socket.socket(to.family, kind | socket.SOCK_NONBLOCK)
    try:
        if to.ifindex:
            _tie(sock, to.ifindex)
    except BaseException:
        sock.close()
        raise
    return sock


def os_error_text(error: OSError) -> str:
    """What went wrong, in the words of strerror(3), in lower case."""
    return os.strerror(error.errno).lower() if error.errno else "network error"


def _tie(sock: socket.socket, ifindex: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_IF, struct.pack("!I", ifindex))
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, struct.pack("!I", ifindex))
    with suppress(PermissionError):  # TCP, and UDP's connect before Linux 6.2, heed this alone; free since 5.7
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, ifindex)


def _index_of(scope: str) -> int:
    """The interface index of a scope given by name or number. Raises OSError."""
    try:
        return int(scope) if scope.isascii() and scope.isdigit() else socket.if_nametoindex(scope)
    except (OSError, ValueError):  # Python 3.11 gives no errno; int() takes at most 4,300 digits
        raise _no_such_device() from None


def _no_such_device() -> OSError:
    return OSError(errno.ENODEV, os.strerror(errno.ENODEV))
