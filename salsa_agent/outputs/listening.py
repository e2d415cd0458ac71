"""Sockets to listen on: the endpoints of `postfix.listen`."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

from salsa_agent.core.settings import Endpoint, InetEndpoint, UnixEndpoint

BACKLOG = 2**31 - 1  # connections that wait: as many as the kernel allows (net.core.somaxconn)
NOBODY_KNOWN = -1  # stands for the users of all connections whose user the kernel does not tell


def listening_socket(endpoint: Endpoint) -> socket.socket:
    """A socket that listens there, and does not block. Raises OSError."""
    return _inet_socket(endpoint) if isinstance(endpoint, InetEndpoint) else _unix_socket(endpoint)


def user_of(connection: socket.socket) -> int:
    """The user id at the other end, where the kernel tells it (SO_PEERCRED, unix(7)); else NOBODY_KNOWN."""
    if connection.family != socket.AF_UNIX:
        return NOBODY_KNOWN
    form = struct.Struct("3i")  # struct ucred: pid, uid, gid
    return int(form.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))[1])


def identity(path: Path) -> tuple[int, int]:
    """What tells a file from another one that took its place. Raises OSError."""
    there = path.lstat()
    return there.st_dev, there.st_ino


def _inet_socket(endpoint: InetEndpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    listening = socket.create_server((endpoint.address, endpoint.port), family=family, backlog=BACKLOG)
    listening.setblocking(False)
    return listening


def _unix_socket(endpoint: UnixEndpoint) -> socket.socket:
    """For all users to connect to; a dead one in its place is replaced."""
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
