"""Who gets a message that has come: replies go to the call that waits, calls to the service, signals to the handlers.

It does no input or output. Whatever goes wrong with a message is the end of it alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import Message, MessageFlag, MessageType
from salsa_agent.bus.codec import decode, signature_tree
from salsa_agent.bus.message import Header, Malformed

MAX_CALL = 1 << 16  # octets of the body of a call to us
MAX_BODY = 1 << 22  # octets of the body of a signal or reply that is wanted

log = logging.getLogger("salsa-agent.bus")


class Router:
    """Hands on what comes on one connection.

    `serve` is given each method call: its header and its body (None: larger than MAX_CALL, and not kept). Message
    handlers see signals and replies; what they raise is logged and no more. `signal_filter` says which signals are
    read at all: anybody on a bus may send us one.
    """

    def __init__(self, serve: Callable[[Header, bytes | None], None]) -> None:
        self.serve = serve
        self.signal_filter: Callable[[Header], bool] = lambda _: True
        self._handlers: list[Callable[[Message], None]] = []
        self._pending: dict[int, asyncio.Future[Message]] = {}  # calls of ours, by serial
        self._asked: dict[int, asyncio.Future[tuple[Header, bytes | None]]] = {}  # and those that want no Message

    def add_message_handler(self, handler: Callable[[Message], None]) -> None:
        """Give signals and replies to `handler`, until the end of the connection."""
        self._handlers.append(handler)

    def expect_reply(self, serial: int) -> asyncio.Future[Message]:
        """The reply to the call of this serial, when it has come; call `forget_reply` in the end."""
        self._pending[serial] = future = asyncio.get_running_loop().create_future()
        return future

    def expect_octets(self, serial: int) -> asyncio.Future[tuple[Header, bytes | None]]:
        """Likewise, the reply as it comes; handlers do not see it."""
        self._asked[serial] = future = asyncio.get_running_loop().create_future()
        return future

    def forget_reply(self, serial: int) -> None:
        """Nobody waits for this reply any more."""
        self._pending.pop(serial, None)
        self._asked.pop(serial, None)

    def close(self, error: Exception) -> None:
        """The connection has ended: calls that wait for a reply fail with `error`."""
        for future in (*self._pending.values(), *self._asked.values()):
            if not future.done():
                future.set_exception(error)
        self._pending.clear()
        self._asked.clear()
        self._handlers.clear()

    def body_limit(self, header: Header) -> int:
        """How many octets the body of this message may have; what nobody wants may have none."""
        match header.kind:
            case wire.CALL:
                return MAX_CALL
            case wire.SIGNAL:
                return MAX_BODY if self.signal_filter(header) else 0
            case wire.RETURN | wire.ERROR:
                return MAX_BODY
            case _:
                return 0

    def route(self, header: Header, body: bytes | None) -> None:
        """Hand on one message. Never raises."""
        try:
            if header.kind == wire.CALL:
                self.serve(header, body)
            elif header.kind == wire.SIGNAL:
                if body is not None and self.signal_filter(header):
                    self._deliver(_message(header, body))
            elif (asked := self._asked.pop(header.reply_serial, None)) is not None:
                if not asked.done():
                    asked.set_result((header, body))
            elif body is not None:
                self._deliver(_message(header, body))
            elif header.kind in (wire.RETURN, wire.ERROR):  # a caller waits for it
                self._deliver(_too_large(header))
        except Malformed as error:
            log.debug("a message was ignored: %s", error)
        except Exception as error:
            log.error("a message was not dealt with: %s", describe_exception(error))

    def _deliver(self, message: Message) -> None:
        for handler in list(self._handlers):
            try:
                handler(message)
            except Exception as error:
                log.error("a message handler failed: %s", describe_exception(error))
        if message.message_type is not MessageType.SIGNAL:
            waiting = self._pending.pop(message.reply_serial, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)


def describe_exception(error: BaseException) -> str:
    """A bug in the agent as one line: its type and where it was raised; never its text, which may be anybody's."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    line = "" if where is None else f" at {where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
    return f"{type(error).__name__}{line}"


def _too_large(header: Header) -> Message:
    """What stands for a reply whose body is larger than MAX_BODY."""
    return Message(
        message_type=MessageType.ERROR,
        error_name="org.freedesktop.DBus.Error.LimitsExceeded",
        reply_serial=header.reply_serial,
        sender=header.sender or None,
        signature="s",
        body=[f"The reply is larger than {MAX_BODY} octets."],
        serial=header.serial,
    )


def _message(header: Header, body: bytes) -> Message:
    """A signal or a reply as the library has it. Raises Malformed."""
    values = decode(header.signature, body, little=header.little) if header.signature else []
    try:
        return Message(
            destination=header.destination or None,
            path=header.path or None,
            interface=header.interface or None,
            member=header.member or None,
            message_type=MessageType(header.kind),
            flags=MessageFlag(header.flags & 7),
            error_name=header.error_name or None,
            reply_serial=header.reply_serial or None,
            sender=header.sender or None,
            signature=signature_tree(header.signature),
            body=values,
            serial=header.serial,
        )
    except Exception as error:  # its checks raise errors of no common base
        raise Malformed(str(error)) from error
