"""Sockets that wait for a reply each, in one place of the event loop.

Each question has a socket of its own (rule F2); a reader and a timer of the loop for each would take as long as the
rest of the question does.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from time import monotonic
from weakref import WeakKeyDictionary, ref

AT_ONCE = 4  # datagrams of one socket in a turn of the event loop
MAX_DATAGRAM = 4096  # a query without EDNS is answered in 512 (RFC 1035 section 4.2.1)

Heard = Callable[[bytes], None]
Failed = Callable[[OSError], None]


class Replies:
    """What the sockets of one event loop wait for."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, tuple[socket.socket, Heard, Failed, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)

    def wait(self, sock: socket.socket, deadline: float, heard: Heard, failed: Failed) -> None:
        """Give each datagram to `heard` until it drops the socket; `failed` is told why none comes, the socket dropped.

        `deadline`: of the monotonic clock, the loop's; then `failed` is told TimeoutError.
        Raises OSError where the system has no room for one more, the socket closed.
        """
        fd = sock.fileno()
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError:
            sock.close()
            raise
        self._waiting[fd] = sock, heard, failed, deadline
        if self._timer is None or deadline < self._timer.when():
            self._set_timer(deadline)

    def drop(self, sock: socket.socket) -> None:
        """Close this socket, whatever it waits for. Twice does no harm."""
        if self._waiting.pop(sock.fileno(), None) is not None:
            sock.close()  # which takes it out of the epoll set, too
            if not self._waiting:
                self._set_timer(None)

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else asyncio.get_running_loop().call_at(when, self._time_out)

    def _ready(self) -> None:
        """Read what is there and what comes meanwhile: the answers of one round come together, and are one batch.

        But at most AT_ONCE of each socket, so that a flood does not stop the loop.
        """
        for _ in range(AT_ONCE):
            ready = self._epoll.poll(0)
            if not ready:
                break
            for fd, _events in ready:
                if fd in self._waiting:
                    self._read(fd)

    def _read(self, fd: int) -> None:
        sock, heard, failed, _ = self._waiting[fd]
        try:
            wire = sock.recv(MAX_DATAGRAM)
        except BlockingIOError:  # the checksum was wrong, select(2)
            return
        except OSError as error:
            self.drop(sock)
            failed(error)
        else:
            heard(wire)

    def _time_out(self) -> None:
        now = monotonic()
        late = [(sock, failed) for sock, _, failed, deadline in self._waiting.values() if deadline <= now]
        try:
            for sock, failed in late:
                if sock.fileno() >= 0:  # what is told may drop others
                    self.drop(sock)
                    failed(TimeoutError())
        finally:
            self._set_timer(min((entry[3] for entry in self._waiting.values()), default=None))


# Weak both ways: the loop, whose reader they are, keeps them, and what they wait for knows the loop.
_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Replies]] = WeakKeyDictionary()


def replies() -> Replies:
    """Those of the running event loop."""
    loop = asyncio.get_running_loop()
    known = _OF_LOOP.get(loop)
    found = known() if known is not None else None
    if found is None:
        found = Replies()
        _OF_LOOP[loop] = ref(found)
    return found
