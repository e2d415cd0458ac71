"""pyroute2's asynchronous rtnetlink sockets (netlink(7)), with the guards that they lack in version 0.9.

`enqueue` is where pyroute2 takes in what a socket received, before it parses anything. All guards sit there.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import sys
from array import array
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from socket import SOL_SOCKET
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import (
    NETLINK_GET_STRICT_CHK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLM_F_REQUEST,
    NLMSG_DONE,
    SOL_NETLINK,
    rtnl,
)
from pyroute2.netlink.exceptions import NetlinkError

from salsa_agent.netlink.messages import MESSAGE_CLASSES, RT_TABLE_LOCAL, RTN_MULTICAST, RTN_UNICAST, UNREADABLE

KERNEL = 0  # the port that the kernel sends from
MAX_WAITING = 8192  # datagrams that came and are not applied yet; more are an overrun
MAX_AT_ONCE = 200  # datagrams that are read before the event loop gets a turn; asyncio itself reads one
MAX_DATAGRAM = 1 << 16  # octets; the kernel fills at most 32 KiB

MAX_ERRNO = 4095  # linux/err.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h

# the traceback that pyroute2 logs for an attribute that it cannot decode; `messages` says what becomes of it
logging.getLogger("pyroute2").setLevel(logging.ERROR)

_NLMSGHDR = struct.Struct("=IHHII")  # linux/netlink.h
_DST_LEN = _NLMSGHDR.size + 1  # of struct rtmsg, behind the header
_ERRNO = struct.Struct("=i")  # the payload of NLMSG_DONE

# linux/filter.h, linux/bpf_common.h
_LOAD_BYTE, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x30, 0x15, 0x25, 0x06
_TYPE = 4 if sys.byteorder == "little" else 5  # of struct nlmsghdr's nlmsg_type the octet that counts
_RTM_TABLE, _RTM_TYPE = 20, 23  # of struct rtmsg, counted from the header's begin
_ALL = 0xFFFFFFFF

# Each address comes with a route of the table `local`, which leads nowhere outside. What the kernel drops takes no room
# in the receive buffer, and no time: a storm of addresses costs half.
_FILTER = (
    (_LOAD_BYTE, 0, 0, _TYPE),
    (_JUMP_EQUAL, 1, 0, rtnl.RTM_NEWROUTE),
    (_JUMP_EQUAL, 0, 5, rtnl.RTM_DELROUTE),
    (_LOAD_BYTE, 0, 0, _RTM_TABLE),
    (_JUMP_EQUAL, 4, 0, RT_TABLE_LOCAL),
    (_LOAD_BYTE, 0, 0, _RTM_TYPE),
    (_JUMP_GREATER, 0, 1, RTN_UNICAST),
    (_JUMP_GREATER, 0, 1, RTN_MULTICAST),
    (_RETURN, 0, 0, _ALL),
    (_RETURN, 0, 0, 0),
)


class _KernelSocket(AsyncIPRoute):  # type: ignore[misc]  # untyped base
    """An asynchronous context manager. Its first use opens the socket, and may raise OSError."""

    def __init__(self, rcvbuf: int) -> None:
        super().__init__(rcvbuf=rcvbuf)
        self.register_policy(MESSAGE_CLASSES)

    def enqueue(self, data: bytes, addr: tuple[int, int] | None) -> None:
        """Take a datagram in. Root may send to any netlink port: only the kernel is heard.

        pyroute2 calls this without an address for an error of the socket.
        """
        if addr is None:
            super().enqueue(data, addr)
        elif addr[0] == KERNEL and len(data) >= _NLMSGHDR.size:
            self._receive(data, addr)

    def _receive(self, data: bytes, addr: tuple[int, int]) -> None:
        super().enqueue(data, addr)


class EventSocket(_KernelSocket):
    """Hears the kernel's events; asks nothing.

    Events carry the sequence number of the request that caused them, and pyroute2 sorts by that number.
    """

    def __init__(self, rcvbuf: int) -> None:
        """`rcvbuf`: octets of the receive buffer."""
        super().__init__(rcvbuf)
        self.received = 0  # datagrams
        self._applied = 0
        self._failed = False  # by an error of the socket, or an overrun

    async def listen(self) -> None:
        """Open the socket; it hears nothing before `join`. Raises OSError."""
        try:
            await self.bind(groups=0)
        except KeyError:  # pyroute2 tried 180 port numbers
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        program = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER))
        with suppress(OSError):  # where a sandbox forbids it; `state` passes over what comes then
            self.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), program.buffer_info()[0]))

    def join(self, group: int) -> None:
        """Hear this group (RTNLGRP_*) from now on. Raises OSError where the kernel has none or forbids it."""
        self.add_membership(group)

    @property
    def waiting(self) -> int:
        """Datagrams that came and whose messages were not all taken."""
        return self.received - self._applied

    async def messages(self) -> AsyncGenerator[Any, None]:
        """The messages of the next datagram.

        Raises OSError; ENOBUFS: more came than could be held, EBADMSG: it could not be read. pyroute2's sockets are of
        no use after an error.
        """
        try:
            async with aclosing(_readable(self.get())) as messages:
                async for message in messages:
                    yield message
        finally:
            self._applied += 1

    def enqueue(self, data: bytes, addr: tuple[int, int] | None) -> None:
        """Take in what came, and what waits behind it. (asyncio read `data` into a buffer of 256 KiB: it is copied.)"""
        super().enqueue(bytes(memoryview(data)), addr)
        self._failed = self._failed or addr is None
        try:
            for _ in range(MAX_AT_ONCE):
                if self._failed:  # pyroute2 gives no access to its socket any more
                    return
                super().enqueue(*self.recvfrom(MAX_DATAGRAM))
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)

    def _receive(self, data: bytes, addr: tuple[int, int]) -> None:
        self.received += 1
        if self._failed:
            return
        if self.waiting > MAX_WAITING:
            self._fail(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
            return
        super()._receive(data, addr)

    def _fail(self, error: OSError) -> None:
        """What comes from now on is lost, and `messages` raises the error in its turn."""
        self._failed = True
        self.protocol.error_received(error)


class RequestSocket(_KernelSocket):
    """Asks the kernel; hears no events."""

    def __init__(self) -> None:
        super().__init__(rcvbuf=1 << 20)
        self.dump_consistent = True  # nothing changed while the kernel made the last dump (E3)
        self._ended = False  # the last dump
        self._error = 0  # at its end

    async def open(self) -> None:
        """Open the socket. Raises OSError."""
        await self.setup_endpoint()
        with suppress(OSError):  # before Linux 4.20 the kernel dumps more than asked; `messages` passes over it
            self.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    async def lookup(self, request: Any, kind: int) -> AsyncGenerator[Any, None]:
        """Send a request that has one answer; the answer comes from what this returns.

        Not by pyroute2's own methods: they ask for an acknowledgement as well, which stays in a queue for ever.
        """
        return _readable(await self.nlm_request(request, kind, NLM_F_REQUEST))

    async def dump(self, request: Any, kind: int) -> AsyncGenerator[Any, None]:
        """The messages of a dump, but for routes with a destination; `dump_consistent` is about it when it has ended.

        Raises NetlinkError where the kernel refuses it, OSError.
        """
        self.dump_consistent, self._ended, self._error = True, False, 0
        async with aclosing(_readable(await self.nlm_request(request, kind, NLM_F_REQUEST | NLM_F_DUMP))) as response:
            async for message in response:
                yield message
        if not self._ended or not 0 <= self._error <= MAX_ERRNO:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        if self._error:
            raise NetlinkError(self._error, os.strerror(self._error))

    def _receive(self, data: bytes, addr: tuple[int, int]) -> None:
        """Look at the headers: pyroute2 sees neither an interruption of a dump nor an error at its end.

        A host may have a million routes, and default routes alone are looked for: the others are not parsed.
        """
        kept = []
        for start, end, kind, flags in _headers(data):
            self.dump_consistent = self.dump_consistent and not flags & NLM_F_DUMP_INTR
            if kind == NLMSG_DONE:
                self._ended = True
                if end - start >= _NLMSGHDR.size + _ERRNO.size:
                    self._error = -_ERRNO.unpack_from(data, start + _NLMSGHDR.size)[0]
            specific = (
                kind == rtnl.RTM_NEWROUTE and flags & NLM_F_MULTI and data[start + _DST_LEN : start + _DST_LEN + 1]
            )
            if not specific or specific == b"\0":
                kept.append(data[start:end])
        if kept:
            super()._receive(b"".join(kept), addr)


async def _readable(messages: Any) -> AsyncGenerator[Any, None]:
    """The same messages; OSError(EBADMSG) where pyroute2 stumbles over one that is malformed."""
    try:
        async with aclosing(messages):
            async for message in messages:
                yield message
    except UNREADABLE as error:
        raise OSError(errno.EBADMSG, repr(error)) from error


def _headers(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Begin, end, type and flags of each message of a datagram, as far as they are whole."""
    start = 0
    while start + _NLMSGHDR.size <= len(data):
        length, kind, flags, _, _ = _NLMSGHDR.unpack_from(data, start)
        end = start + ((length + 3) & ~3)  # NLMSG_ALIGN
        if length < _NLMSGHDR.size or start + length > len(data):
            return
        yield start, min(end, len(data)), kind, flags
        start = end
