"""A connection to a bus that lives among hostile peers.

The library's own takes a full socket or one odd message for the end of the connection, queues without bound, reads as
long as there is something to read, sends tracebacks to callers, and never answers a call that outlived the bus (seen
in dbus-next 0.2.3). So messages come and go through this class; the library says what a message is, and checks it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import AuthError, Message, MessageFlag, MessageType, parse_address
from salsa_agent.bus.auth import authenticate, connect_socket
from salsa_agent.bus.message import FramingError, Header
from salsa_agent.bus.outbox import Outbox
from salsa_agent.bus.parser import Parser
from salsa_agent.bus.router import Router

CHUNK = 1 << 16  # octets read at once
TURN = 0.002  # seconds of one turn of the loop that messages may take
_MAX_SERIAL = (1 << 32) - 1  # and none is 0

UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"


class BusGone(ConnectionError):
    """The connection to the bus has ended."""


class BusConnection:
    """A connection to a bus. Use `name_owner.open_bus`.

    `router` hands on what comes; answer a method call with `reply` or `error`, then or later. `on_end` is given the
    reason when the connection ends; `on_drained` is called when what had waited to be written is written. `policed`:
    the policy of the bus says who may call (dbus/org.salsa.Agent1.conf), as on the system bus. While `paused` says so
    nothing is handed on or read; whoever says so calls `resume`. `beside`: another connection to the same bus, where
    answers do not come behind the calls of others; it ends with this one.
    """

    def __init__(self, address: str) -> None:
        """Not connected yet. Raises InvalidAddressError."""
        self._addresses = parse_address(address)
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self.unique_name = ""
        self.router = Router(self._nothing_here)
        self.on_end: Callable[[str], None] = lambda _: None
        self.on_drained: Callable[[], None] = lambda: None
        self.policed = False
        self.paused: Callable[[], bool] = lambda: False
        self.beside: BusConnection | None = None
        self.end = ""  # why it ended
        self._serial = 0
        self._parser = Parser(self.router.body_limit)
        self._outbox = Outbox(self._finalize, self._drained)
        self._reading = False
        self._held = False  # nothing is read until `resume`

    # --- connecting

    async def connect(self) -> BusConnection:
        """Connect and say Hello. Raises OSError, AuthError, InvalidAddressError, BusGone; leaves nothing open then."""
        try:
            self._sock = await connect_socket(self._addresses)
            await authenticate(self._sock)
            self._outbox.open(self._sock)
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
            if self.end:  # by what came in one piece with the answer
                raise BusGone(self.end)
            self.unique_name = reply.body[0]
        except BaseException:
            self.disconnect()
            raise
        return self

    # --- reading

    def _read(self, on: bool) -> None:
        if on is not self._reading and self._sock is not None:
            self._reading = on
            if on:
                self._loop.add_reader(self._sock.fileno(), self._on_readable)
            else:
                self._loop.remove_reader(self._sock.fileno())

    def _on_readable(self) -> None:
        assert self._sock is not None
        try:
            octets = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finalize(error)
            return
        if not octets:
            self._finalize(EOFError("the bus closed it"))
            return
        self._parser.feed(octets)
        self._process()

    def _process(self) -> None:
        """Hand on what came, for one turn of the loop; the rest has to wait for the next."""
        if self.end:
            return
        until = self._loop.time() + TURN
        more = True
        self._outbox.cork()
        try:
            while not self._is_held() and (more := self._process_one()) and self._loop.time() < until:
                pass
        except FramingError as error:
            self._finalize(error)
            return
        finally:
            self._outbox.flush()
        if self.end:
            return
        self._held = self._is_held()
        self._read(not more and not self._held)
        if more and not self._held:
            self._loop.call_soon(self._process)

    def _is_held(self) -> bool:
        return self._outbox.full or self.paused()

    def resume(self) -> None:
        """Go on if there is no reason left not to."""
        if self._held and not self._is_held():
            self._held = False
            self._loop.call_soon(self._process)

    def _process_one(self) -> bool:
        """Whether there was a message to hand on."""
        received = self._parser.next()
        if received is None:
            return False
        if received.header is not None:
            self.router.route(received.header, received.body)
        return True

    def _nothing_here(self, call: Header, _body: bytes | None) -> None:
        self.error(call, UNKNOWN_OBJECT, "There is no object here.")

    # --- writing

    @property
    def congested(self) -> bool:
        """Whether the bus is slow to take what it is sent; `on_drained` is called when it no longer is."""
        return self._outbox.congested

    def _drained(self) -> None:
        self.on_drained()
        self.resume()

    def next_serial(self) -> int:
        """For a message that is about to be sent."""
        self._serial = self._serial % _MAX_SERIAL + 1
        return self._serial

    def reply(self, call: Header, signature: str = "", body: bytes = b"") -> None:
        """Answer a call, if it wants to be answered."""
        if not call.flags & wire.NO_REPLY_EXPECTED:
            self._outbox.put(wire.reply(call, self.next_serial(), signature, body))

    def error(self, call: Header, name: str, text: str) -> None:
        """Answer a call with an error, if it wants to be answered."""
        if not call.flags & wire.NO_REPLY_EXPECTED:
            self._outbox.put(wire.error(call, self.next_serial(), name, text))

    def emit(self, path: str, interface: str, member: str, signature: str, body: bytes) -> None:
        """Send a signal to whoever follows."""
        header = Header(wire.SIGNAL, wire.NO_REPLY_EXPECTED, self.next_serial())
        header.path, header.interface, header.member, header.signature = path, interface, member, signature
        self._outbox.put(wire.frame(header, body))

    def send(self, message: Message) -> None:
        """Send a message; after the end of the connection nothing happens."""
        if not message.serial:
            message.serial = self.next_serial()
        header = Header(
            message.message_type.value,
            message.flags.value,
            message.serial,
            path=message.path or "",
            interface=message.interface or "",
            member=message.member or "",
            error_name=message.error_name or "",
            reply_serial=message.reply_serial or 0,
            destination=message.destination or "",
            signature=message.signature,
        )
        self._outbox.put(wire.frame(header, wire.encode(message.signature, message.body)))

    async def call(self, message: Message) -> Message | None:
        """Call a method; its reply, which may be an error, or None if none is expected. Raises BusGone."""
        if self.end:
            raise BusGone(self.end)
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self.send(message)
            return None
        if not message.serial:
            message.serial = self.next_serial()
        reply = self.router.expect_reply(message.serial)
        try:
            self.send(message)
            return await reply
        finally:
            self.router.forget_reply(message.serial)

    async def ask(self, question: Header, body: bytes) -> tuple[Header, bytes | None]:
        """Call a method; the reply as it comes, its body None if that is too large. Raises BusGone.

        For what is asked of each caller in a flood: to make a Message and to read one takes most of the time of a call.
        """
        if self.end:
            raise BusGone(self.end)
        question.serial = self.next_serial()
        reply = self.router.expect_octets(question.serial)
        try:
            self._outbox.put(wire.frame(question, body))
            return await reply
        finally:
            self.router.forget_reply(question.serial)

    # --- the end

    def disconnect(self) -> None:
        """Write what the socket takes, and close it, without a word to `on_end`. Idempotent."""
        self.on_end = lambda _: None
        self._outbox.flush()
        self._finalize()
        if self.beside is not None:
            self.beside.disconnect()

    def _finalize(self, error: Exception | None = None) -> None:
        if self.end:
            return
        self.end = "disconnected" if error is None else (str(error) or type(error).__name__)
        self._read(False)
        self._outbox.close()
        if self._sock is not None:
            self._sock.close()
        self._parser.clear()
        self.router.close(BusGone(self.end))
        self.on_end(self.end)
