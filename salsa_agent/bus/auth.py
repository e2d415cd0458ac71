"""Reaching a bus and being let in (D-Bus Specification, "Server Addresses" and "Authentication Protocol")."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from salsa_agent.bus._dbus_next import AuthError, InvalidAddressError

Address = tuple[str, dict[str, str]]  # the transport and its options, as the library's `parse_address` gives them

_MAX_LINE = 4096  # octets


async def connect_socket(addresses: list[Address]) -> socket.socket:
    """A socket to the first address of the list that answers. Raises OSError, InvalidAddressError."""
    failure: Exception = InvalidAddressError("no address is known")
    for transport, options in addresses:
        try:
            return await _connect(transport, options)
        except (OSError, InvalidAddressError) as error:
            failure = error
    raise failure


async def _connect(transport: str, options: dict[str, str]) -> socket.socket:
    where: Any
    if transport == "unix" and "path" in options:
        family, where = socket.AF_UNIX, options["path"]
    elif transport == "unix" and "abstract" in options:
        family, where = socket.AF_UNIX, f"\0{options['abstract']}"
    elif transport == "tcp" and options.get("port", "").isdecimal():
        family, where = socket.AF_INET, (options.get("host", ""), int(options["port"]))
    else:
        raise InvalidAddressError(f"an address of {transport} that is not supported")
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException as error:
        sock.close()
        if isinstance(error, (ValueError, OverflowError)):  # an address that the socket module does not take
            raise InvalidAddressError(str(error)) from error
        raise
    return sock


async def authenticate(sock: socket.socket) -> None:
    """Authenticate as the user of this process (mechanism EXTERNAL). Raises AuthError, OSError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, f"\0AUTH EXTERNAL {str(os.getuid()).encode().hex()}\r\n".encode())
    answer = bytearray()
    while not answer.endswith(b"\r\n"):
        got = await loop.sock_recv(sock, _MAX_LINE)
        answer += got
        if not got or len(answer) > _MAX_LINE:
            raise AuthError("the bus did not authenticate us")
    if not answer.startswith(b"OK "):
        raise AuthError("the bus does not let us in")
    await loop.sock_sendall(sock, b"BEGIN\r\n")
