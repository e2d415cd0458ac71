"""Finding a bus, owning the name on it, noticing its loss (rule H3)."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from salsa_agent.bus._dbus_next import AuthError, InvalidAddressError, Message, MessageType
from salsa_agent.bus.connection import BusConnection, BusGone
from salsa_agent.bus.interface import NAME
from salsa_agent.bus.message import Header
from salsa_agent.text import clean

if TYPE_CHECKING:
    from salsa_agent.bus.private_bus import PrivateBus

DAEMON = "org.freedesktop.DBus"
SYSTEM_BUS = "unix:path=/var/run/dbus/system_bus_socket"  # D-Bus Specification, "System message bus"
CONNECT_TIME, CALL_TIME = 10.0, 25.0  # seconds; the latter is what libdbus and sd-bus wait by default
ASK_TIME = 2.0  # seconds for what can be done without an answer

_ALLOW_REPLACEMENT, _DO_NOT_QUEUE = 1, 4
_PRIMARY_OWNER, _ALREADY_OWNER = 1, 4


class BusError(Exception):
    """No bus, or no name on it; the message is one line. It ends the process with status 69."""


class NameRefused(BusError):
    """The policy of the bus does not let us have the name."""


class Exported(Protocol):
    """What answers the calls on a bus."""

    def attach(self, bus: BusConnection) -> None:
        """Answer the calls that come on this bus, and no other's."""

    async def detach(self) -> None:
        """Answer no more: end the calls in progress."""


async def open_bus(address: str) -> BusConnection:
    """Connect to the first bus of an address list that lets us in. Raises BusError; leaves nothing open then."""
    try:
        bus = BusConnection(address)
        async with asyncio.timeout(CONNECT_TIME):
            return await bus.connect()
    except TimeoutError as error:
        raise BusError(f"{clean(address)}: it does not answer") from error
    except OSError as error:  # BusGone is one
        raise BusError(f"{clean(address)}: {error.strerror or clean(str(error))}") from error
    except (AuthError, InvalidAddressError, ValueError) as error:
        raise BusError(f"{clean(address)}: {clean(str(error))}") from error


def address_of(bus: str) -> str:
    """The address for `system` or `session`; empty: none is known. Anything else is an address already."""
    if bus == "system":
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
    if bus != "session":
        return bus
    if given := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return given
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")  # where systemd and most others put it
    with suppress(OSError):  # it may be another user's, as `su` and `setpriv` leave it
        if runtime.startswith("/") and Path(runtime, "bus").exists():
            return f"unix:path={quote(runtime, safe='/-_.')}/bus"
    return ""


async def connect(bus: str) -> NameOwner:
    """Connect to `auto`, `system`, `session` or an address. Raises BusError."""
    connection = NameOwner(["system", "session", None] if bus == "auto" else [bus])
    await connection.move_on()
    return connection


class NameOwner:
    """The agent's connection to the bus at hand, which under `auto` may become another until the name is owned."""

    def __init__(self, candidates: list[str | None]) -> None:
        """`candidates`: `system`, `session` or an address each; None is a private bus."""
        self._candidates = candidates
        self._failures: list[str] = []
        self._bus: BusConnection | None = None
        self._private: PrivateBus | None = None
        self._service: Exported | None = None
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.description = ""

    @property
    def private_address(self) -> str:
        """The address of the private bus; empty if it is no private one."""
        return "" if self._private is None else self._private.address

    async def move_on(self) -> None:
        """Connect to the next bus there is. Raises BusError."""
        while self._candidates:
            kind = self._candidates.pop(0)
            named = kind in ("system", "session", None)
            self.description = f"{kind or 'private'} bus" if named else f"bus at {clean(str(kind))}"
            try:
                bus = await self._open(kind)
            except BusError as error:
                self._failures.append(f"no {self.description} ({error})" if named else f"no bus at {error}")
                continue
            old, self._bus = self._bus, bus
            bus.router.signal_filter = _from_the_daemon
            bus.on_end = self._on_end
            if bus.beside is not None:  # without it nobody's calls could be judged
                bus.beside.on_end = self._on_end
            bus.policed = kind == "system"
            bus.router.add_message_handler(self._on_message)
            if self._service is not None:
                await self._service.detach()
                self._service.attach(bus)
            if old is not None:
                old.disconnect()
            return
        raise BusError("; ".join(self._failures))

    async def _open(self, kind: str | None) -> BusConnection:
        if kind is None:
            from salsa_agent.bus.private_bus import PrivateBus, PrivateBusFailed  # late: most never need it

            try:
                self._private = await PrivateBus.start()
            except PrivateBusFailed as error:
                raise BusError(str(error)) from error
            try:
                return await _open_two(self._private.address)
            except BaseException:
                await self._private.close()
                self._private = None
                raise
        address = address_of(kind)
        if not address:
            raise BusError("no address is known")
        return await _open_two(address)

    async def export(self, service: Exported) -> None:
        """Let the service answer on this bus, and on the one that this connection may move on to."""
        assert self._bus is not None
        self._service = service
        service.attach(self._bus)

    async def taken(self) -> bool:
        """Whether somebody has the name on this bus now; False also where the bus does not say."""
        assert self._bus is not None
        try:
            async with asyncio.timeout(ASK_TIME):
                reply = await self._bus.call(_of_the_daemon("NameHasOwner", "s", NAME))
        except (TimeoutError, BusGone):
            return False
        return reply is not None and reply.body == [True]

    async def own_name(self) -> None:
        """Become the owner of org.salsa.Agent1; under `auto`, where the policy refuses it, on the next bus.

        Raises BusError, for a name that is taken always.
        """
        while True:
            try:
                await self._request_name()
            except NameRefused as error:
                self._failures.append(str(error))
                if not self._candidates:
                    raise BusError("; ".join(self._failures)) from error
                await self.move_on()
            else:
                return

    async def _request_name(self) -> None:
        assert self._bus is not None
        request = _of_the_daemon("RequestName", "su", NAME, _DO_NOT_QUEUE)
        try:
            async with asyncio.timeout(CALL_TIME):
                reply = await self._bus.call(request)
        except TimeoutError as error:
            raise BusError(f"the {self.description} does not answer") from error
        except BusGone as error:
            raise BusError(f"the {self.description} is lost: {clean(str(error))}") from error
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            why = clean(str(reply.body[0])) if reply.signature.startswith("s") else str(reply.error_name)
            refused = f"the {self.description} refuses the name {NAME}: {why}"
            if reply.error_name == "org.freedesktop.DBus.Error.AccessDenied":
                raise NameRefused(refused)
            raise BusError(refused)
        if reply.body not in ([_PRIMARY_OWNER], [_ALREADY_OWNER]):
            raise BusError(f"the name {NAME} is taken on the {self.description}")

    async def lost(self) -> str:
        """Wait until the bus or the name is lost; why, as one line."""
        return await asyncio.shield(self._lost)

    def _on_end(self, reason: str) -> None:
        self._lose(f"the {self.description} is lost: {clean(reason)}")

    def _on_message(self, message: Message) -> None:
        if (
            message.sender == DAEMON
            and message.member == "NameLost"
            and message.message_type is MessageType.SIGNAL
            and message.body == [NAME]
        ):
            self._lose(f"the name {NAME} is lost on the {self.description}")

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def close(self) -> None:
        """Leave the bus; a private one ends. Idempotent."""
        if self._service is not None:
            await self._service.detach()
        if self._bus is not None:
            self._bus.disconnect()
        if self._private is not None:
            await self._private.close()


async def name_refused(address: str) -> str:
    """The words in which the bus refuses this user the agent's name; empty: it does not, or does not answer.

    There is no way to ask but to have the name for a moment, so this is for where nobody owns it.
    """
    try:
        bus = await open_bus(address)
    except BusError:
        return ""
    try:
        async with asyncio.timeout(CALL_TIME):
            reply = await bus.call(_of_the_daemon("RequestName", "su", NAME, _DO_NOT_QUEUE | _ALLOW_REPLACEMENT))
            if reply is None or reply.error_name != "org.freedesktop.DBus.Error.AccessDenied":
                await bus.call(_of_the_daemon("ReleaseName", "s", NAME))
                return ""
            return clean(str(reply.body[0])) if reply.signature.startswith("s") else str(reply.error_name)
    except (TimeoutError, BusGone):
        return ""
    finally:
        bus.disconnect()


def _of_the_daemon(member: str, signature: str, *body: object) -> Message:
    return Message(
        destination=DAEMON,
        path="/org/freedesktop/DBus",
        interface=DAEMON,
        member=member,
        signature=signature,
        body=list(body),
    )


async def _open_two(address: str) -> BusConnection:
    """A connection that is called by others, and one beside it that asks about them. Raises BusError."""
    bus = await open_bus(address)
    try:
        bus.beside = await open_bus(address)
        if bus.end:  # meanwhile, when nobody was told of it yet
            raise BusError(f"{clean(address)}: {clean(bus.end)}")
    except BaseException:
        bus.disconnect()
        raise
    bus.beside.router.signal_filter = lambda _: False
    return bus


def _from_the_daemon(head: Header) -> bool:
    """No other's signals are of use here, and anybody may send us one."""
    return head.sender == DAEMON
