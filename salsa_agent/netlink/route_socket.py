"""A socket of the kernel's routing part (rtnetlink, netlink(7)). It never blocks."""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress

from salsa_agent.netlink import messages as parse
from salsa_agent.netlink._pyroute2 import NETLINK_ADD_MEMBERSHIP, rtnl

SOL_NETLINK = 270  # linux/socket.h
NETLINK_GET_STRICT_CHK = 12  # linux/netlink.h
KERNEL = 0  # the port that the kernel sends from

MAX_DATAGRAM = 1 << 16  # octets; the kernel fills at most 32 KiB with a dump

SO_ATTACH_FILTER = 26  # asm-generic/socket.h

# linux/filter.h, linux/bpf_common.h
_LOAD_BYTE, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x30, 0x15, 0x25, 0x06
_TYPE = 4 if sys.byteorder == "little" else 5  # of struct nlmsghdr's nlmsg_type the octet that counts
_RTM_TABLE, _RTM_TYPE = 20, 23  # of struct rtmsg, behind the header
_ALL = 0xFFFFFFFF

# Each address comes with a route of the table `local`, which leads nowhere outside (`RouteHead.matters`). What the
# kernel drops takes no room in the receive buffer, and no time.
_FILTER = (
    (_LOAD_BYTE, 0, 0, _TYPE),
    (_JUMP_EQUAL, 1, 0, rtnl.RTM_NEWROUTE),
    (_JUMP_EQUAL, 0, 5, rtnl.RTM_DELROUTE),
    (_LOAD_BYTE, 0, 0, _RTM_TABLE),
    (_JUMP_EQUAL, 4, 0, parse.RT_TABLE_LOCAL),
    (_LOAD_BYTE, 0, 0, _RTM_TYPE),
    (_JUMP_GREATER, 0, 1, parse.RTN_UNICAST),
    (_JUMP_GREATER, 0, 1, parse.RTN_MULTICAST),
    (_RETURN, 0, 0, _ALL),
    (_RETURN, 0, 0, 0),
)


class RouteSocket:
    """Open from the start; raises OSError when there is none to be had. Use it with `contextlib.closing`."""

    def __init__(self, *, rcvbuf: int = 0, groups: Iterable[int] = ()) -> None:
        """`rcvbuf`: octets, 0 for the system's default. `groups`: of RTNLGRP_*, whose messages come from now on."""
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._sock.setblocking(False)
            if rcvbuf:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            if groups:
                self._attach_filter()
            with suppress(OSError):  # before Linux 4.20 the kernel dumps more than asked; the parser drops it
                self._sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            self._sock.bind((0, 0))
            for group in groups:
                self._sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except BaseException:
            self._sock.close()
            raise

    def _attach_filter(self) -> None:
        program = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER))
        with suppress(OSError):  # where a sandbox forbids it; the parser passes over what comes then
            self._sock.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), program.buffer_info()[0])
            )

    def fileno(self) -> int:
        """Readable when messages wait, or an error does."""
        return self._sock.fileno()

    @property
    def port(self) -> int:
        """Its address among netlink sockets."""
        return int(self._sock.getsockname()[0])

    def send(self, request: bytes) -> None:
        """Ask the kernel; its answer, or the beginning of a dump, is there when this returns."""
        self._sock.send(request)

    def receive(self) -> Iterator[parse.Message]:
        """What the next datagram says. Raises BlockingIOError if none waits, OSError(ENOBUFS) after overruns."""
        datagram, (sender, _) = self._sock.recvfrom(MAX_DATAGRAM)
        return parse.messages(datagram) if sender == KERNEL else iter(())

    def close(self) -> None:
        """Close it."""
        self._sock.close()
