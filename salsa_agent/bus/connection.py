"""A connection to a bus that lives among hostile peers.

The libraries' own take a full socket or one odd message for the end of the connection, queue without bound, read as
long as there is something to read, tell callers tracebacks, and never answer a call that outlived the bus (seen in
dbus-next 0.2.3). So messages come and go through this class; the library says what a message is, and checks it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import (
    AuthError,
    InvalidAddressError,
    Message,
    MessageFlag,
    MessageType,
    SignatureTree,
    parse_address,
)
from salsa_agent.bus.message import Header, Malformed, OutOfStep

CHUNK = 1 << 16  # octets read or written at once
TURN = 0.002  # seconds of one turn of the loop that messages may take
LOW, HIGH = 1 << 16, 1 << 20  # octets that wait to be written: below LOW all is well, above HIGH nothing more is read
MAX_HEADER = 1 << 16  # octets; all names together are below 2 KiB, but a path has no limit of its own
MAX_CALL = 1 << 16  # octets of the body of a call to us
MAX_BODY = 1 << 24  # octets of the body of anything else
_MAX_AUTH_LINE = 4096
_MAX_SERIAL = (1 << 32) - 1  # and none is 0

UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
FAILED = "org.freedesktop.DBus.Error.Failed"

log = logging.getLogger("salsa-agent.bus")


class BusGone(ConnectionError):
    """The connection to the bus has ended."""


class GuardedBus:
    """A connection to a bus. Use `connection.open_bus`.

    `serve` is given each method call: its header and its body (None: larger than MAX_CALL, and not read); answer with
    `reply` or `error`, then or later. Message handlers see signals and replies; what they raise is logged and no more.
    `hears` says which signals are read at all. `on_end` is told why the connection ended, `on_drained` that what had
    waited to be written is.
    """

    def __init__(self, address: str) -> None:
        """Not connected yet. Raises InvalidAddressError."""
        self._addresses = parse_address(address)
        self._loop = asyncio.get_running_loop()
        self._sock: Any = None
        self._fd = -1
        self.unique_name = ""
        self._serial = 0
        self._handlers: list[Callable[[Message], None]] = []
        self._waiting: dict[int, asyncio.Future[Message]] = {}  # calls of ours, by serial
        self.serve: Callable[[Header, bytes | None], None] = self._nothing_here
        self.hears: Callable[[Header], bool] = lambda _: True
        self.on_end: Callable[[str], None] = lambda _: None
        self.on_drained: Callable[[], None] = lambda: None
        self.policed = False  # the bus's policy says who may call (dbus/org.salsa.Agent1.conf): the system bus
        self.end = ""
        self._disconnected = self._leaving = False
        self._in = bytearray()
        self._out = bytearray()
        self._head: Header | None = None  # of the message whose body is still to come
        self._skipping = 0  # octets still to come that nobody wants
        self._corked = False
        self._reading = self._writing = False
        self._held = False  # nothing is read until what waits is written

    # --- connecting

    async def connect(self) -> GuardedBus:
        """Connect and say Hello. Raises OSError, AuthError, InvalidAddressError, BusGone; leaves nothing open then."""
        try:
            await self._open()
            await self._authenticate()
            self._read(True)
            reply = await self.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="Hello",
                )
            )
            if reply is None or reply.message_type is not MessageType.METHOD_RETURN or reply.signature != "s":
                raise AuthError("the bus did not answer Hello")
            if self._disconnected:  # by what came in one piece with the answer
                raise BusGone(self.end)
            self.unique_name = reply.body[0]
        except BaseException:
            self.disconnect()
            raise
        return self

    async def _open(self) -> None:
        """Connect to the first address of the list that answers."""
        failure: Exception = InvalidAddressError("no address is known")
        for transport, options in self._addresses:
            try:
                self._sock = await _connected(self._loop, transport, options)
            except (OSError, InvalidAddressError) as error:
                failure = error
            else:
                self._fd = self._sock.fileno()
                return
        raise failure

    async def _authenticate(self) -> None:
        send = self._loop.sock_sendall
        await send(self._sock, f"\0AUTH EXTERNAL {str(os.getuid()).encode().hex()}\r\n".encode())
        answer = bytearray()
        while not answer.endswith(b"\r\n"):
            got = await self._loop.sock_recv(self._sock, CHUNK)
            answer += got
            if not got or len(answer) > _MAX_AUTH_LINE:
                raise AuthError("the bus did not authenticate us")
        if not answer.startswith(b"OK "):
            raise AuthError("the bus does not let us in")
        await send(self._sock, b"BEGIN\r\n")

    # --- reading

    def _read(self, on: bool) -> None:
        if on is not self._reading:
            self._reading = on
            if on:
                self._loop.add_reader(self._fd, self._message_reader)
            else:
                self._loop.remove_reader(self._fd)

    def _message_reader(self) -> None:
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finalize(error)
            return
        if not data:
            self._finalize(EOFError("the bus closed it"))
            return
        self._in += data
        self._work()

    def _work(self) -> None:
        """Take in what came, for one turn of the loop; the rest has to wait for the next."""
        if self._disconnected:
            return
        until = self._loop.time() + TURN
        self._corked = True
        try:
            while (more := self._take_one()) and self._loop.time() < until and len(self._out) <= HIGH:
                pass
        except OutOfStep as error:
            self._finalize(error)
            return
        finally:
            self._corked = False
        self._write()
        if self._disconnected:
            return
        self._held = len(self._out) > HIGH
        self._read(not more and not self._held)
        if more and not self._held:
            self._loop.call_soon(self._work)

    def _take_one(self) -> bool:
        """Take in one message, or what is there of one that is skipped; False if more has to come for that."""
        if self._skipping:
            gone = min(self._skipping, len(self._in))
            del self._in[:gone]
            self._skipping -= gone
            return not self._skipping and bool(self._in)
        if len(self._in) < wire.FIXED:
            return False
        header, body = wire.sizes(self._in)
        if header > MAX_HEADER:
            self._skipping = header + body
            return True
        if len(self._in) < header:
            return False
        if self._head is None:
            try:
                self._head = wire.parse(bytes(self._in[:header]))
            except Malformed as error:
                log.debug("a message that was left out: %s", error)
                self._skipping = header + body
                return True
        head = self._head
        if body > self._room(head):
            self._head = None
            self._skipping = header + body
            self._receive(head, None)
            return True
        if len(self._in) < header + body:
            return False
        octets = bytes(self._in[header : header + body])
        del self._in[: header + body]
        self._head = None
        self._receive(head, octets)
        return True

    def _room(self, head: Header) -> int:
        """How large a body this message may have."""
        if head.kind == wire.CALL:
            return MAX_CALL
        if head.kind == wire.SIGNAL:
            return MAX_BODY if self.hears(head) else 0
        return MAX_BODY if head.kind in (wire.RETURN, wire.ERROR) else 0

    def _receive(self, head: Header, body: bytes | None) -> None:
        """One message. Whatever goes wrong with it is the end of it alone."""
        try:
            if head.kind == wire.CALL:
                self.serve(head, body)
            elif body is not None and (head.kind != wire.SIGNAL or self.hears(head)):
                self._process_message(_message(head, body))
        except Malformed as error:
            log.debug("a message that was left out: %s", error)
        except Exception as error:
            log.error("a message was not dealt with: %s", told(error))

    def _process_message(self, message: Message) -> None:
        for handler in list(self._handlers):
            try:
                handler(message)
            except Exception as error:
                log.error("a message handler failed: %s", told(error))
        if message.message_type is not MessageType.SIGNAL:
            waiting = self._waiting.pop(message.reply_serial, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    def add_message_handler(self, handler: Callable[[Message], None]) -> None:
        """Have signals and replies told to `handler`, until the end of the connection."""
        self._handlers.append(handler)

    def _nothing_here(self, head: Header, _body: bytes | None) -> None:
        self.error(head, UNKNOWN_OBJECT, "There is no object here.")

    # --- writing

    @property
    def congested(self) -> bool:
        """Whether the bus is slow to take what it is sent; `on_drained` is called when it no longer is."""
        return len(self._out) > LOW

    def next_serial(self) -> int:
        """For a message that is about to be sent."""
        self._serial = self._serial % _MAX_SERIAL + 1
        return self._serial

    def reply(self, call: Header, signature: str = "", body: bytes = b"") -> None:
        """Answer a call, if it wants to be answered."""
        if not call.flags & wire.NO_REPLY_EXPECTED:
            self._put(
                wire.frame(
                    wire.RETURN,
                    self.next_serial(),
                    flags=wire.NO_REPLY_EXPECTED,
                    reply_serial=call.serial,
                    destination=call.sender,
                    signature=signature,
                    body=body,
                )
            )

    def error(self, call: Header, name: str, text: str) -> None:
        """Answer a call with an error, if it wants to be answered."""
        if not call.flags & wire.NO_REPLY_EXPECTED:
            self._put(
                wire.frame(
                    wire.ERROR,
                    self.next_serial(),
                    flags=wire.NO_REPLY_EXPECTED,
                    error_name=name,
                    reply_serial=call.serial,
                    destination=call.sender,
                    signature="s",
                    body=wire.encode("s", [text]),
                )
            )

    def emit(self, path: str, interface: str, member: str, signature: str, body: bytes) -> None:
        """Send a signal to whoever follows."""
        self._put(
            wire.frame(
                wire.SIGNAL,
                self.next_serial(),
                flags=wire.NO_REPLY_EXPECTED,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )

    def send(self, message: Message) -> asyncio.Future[None]:
        """Send a message. Waiting for the future is not needed: it is done; with BusGone after the end."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._disconnected:
            future.set_exception(BusGone(self.end))
            future.exception()  # seen: nobody has to await it
            return future
        if not message.serial:
            message.serial = self.next_serial()
        self._put(_octets(message))
        future.set_result(None)
        return future

    async def call(self, message: Message) -> Message | None:
        """Call a method; its reply, which may be an error, or None if none is expected. Raises BusGone."""
        if self._disconnected:
            raise BusGone(self.end)
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self.send(message)
            return None
        if not message.serial:
            message.serial = self.next_serial()
        self._waiting[message.serial] = future = self._loop.create_future()
        try:
            self.send(message)
            return await future
        finally:
            self._waiting.pop(message.serial, None)

    def _put(self, octets: bytes) -> None:
        if not self._disconnected:
            self._out += octets
            if not self._corked and not self._writing:
                self._write()

    def _write(self) -> None:
        """Write what waits, as far as the socket takes it. A full socket is no error: it is waited for."""
        was_congested = self.congested
        while self._out and not self._disconnected:
            try:
                del self._out[: self._sock.send(self._out[:CHUNK])]
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._finalize(error)
                return
        if self._disconnected:
            return
        waits = bool(self._out)
        if waits is not self._writing:
            self._writing = waits
            if waits:
                self._loop.add_writer(self._fd, self._write)
            else:
                self._loop.remove_writer(self._fd)
        if was_congested and not self.congested:
            self.on_drained()
            if self._held:
                self._held = False
                self._loop.call_soon(self._work)

    # --- the end

    def disconnect(self) -> None:
        """Write what the socket takes, and close it. Twice does no harm."""
        self._leaving = True
        if self._sock is not None:
            self._write()
        self._finalize()

    def _finalize(self, error: Exception | None = None) -> None:
        if self._disconnected:
            return
        self._disconnected = True
        self.end = "disconnected" if error is None else (str(error) or type(error).__name__)
        if self._sock is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._sock.close()
        self._in.clear()
        self._out.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(BusGone(self.end))
        self._waiting.clear()
        self._handlers.clear()
        if not self._leaving:
            self.on_end(self.end)


async def _connected(loop: asyncio.AbstractEventLoop, transport: str, options: dict[str, str]) -> socket.socket:
    """A socket for one address (D-Bus Specification, "Server Addresses")."""
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
        await loop.sock_connect(sock, where)
    except BaseException as error:
        sock.close()
        if isinstance(error, (ValueError, OverflowError)):  # an address that the socket module does not take
            raise InvalidAddressError(str(error)) from error
        raise
    return sock


def _message(head: Header, body: bytes) -> Message:
    """A signal or a reply as the library has it. Raises Malformed."""
    values = wire.decode(head.signature, body, little=head.little) if head.signature else []
    try:
        return Message(
            destination=head.destination or None,
            path=head.path or None,
            interface=head.interface or None,
            member=head.member or None,
            message_type=MessageType(head.kind),
            flags=MessageFlag(head.flags & 7),
            error_name=head.error_name or None,
            reply_serial=head.reply_serial or None,
            sender=head.sender or None,
            signature=_tree(head.signature),
            body=values,
            serial=head.serial,
        )
    except Exception as error:  # its checks raise errors of no common base
        raise Malformed(str(error)) from error


# dbus-next keeps every signature that it is told as a text
_tree = lru_cache(maxsize=128)(SignatureTree)


def _octets(message: Message) -> bytes:
    """A message to be sent."""
    return wire.frame(
        message.message_type.value,
        message.serial,
        flags=message.flags.value,
        path=message.path or "",
        interface=message.interface or "",
        member=message.member or "",
        error_name=message.error_name or "",
        reply_serial=message.reply_serial or 0,
        destination=message.destination or "",
        signature=message.signature,
        body=wire.encode(message.signature, message.body),
    )


def told(error: BaseException) -> str:
    """A defect as one line: what it is and where it came from; never what it says, which may be anybody's text."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    line = "" if where is None else f" at {where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
    return f"{type(error).__name__}{line}"
