"""The client's side of org.salsa.Agent1: calls with a time limit, and the properties followed as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from salsa_agent.bus._dbus_next import Message, MessageType
from salsa_agent.bus.codec import Value
from salsa_agent.bus.connection import BusConnection, BusGone
from salsa_agent.bus.interface import INTERFACE, METHODS, NAME, PATH, PROPERTIES, PROPERTY_TYPES
from salsa_agent.bus.name_owner import CALL_TIME, DAEMON, BusError, address_of, open_bus

# errors with which a bus says that nobody is there to answer (D-Bus Specification, org.freedesktop.DBus.Error.*)
_NOT_STARTED = "org.freedesktop.systemd1."  # the unit is not enabled, or masked
_NOBODY = ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Timeout", "TimedOut", "Disconnected", "Spawn.")


# what stands for properties that an agent of an older version lacks, or that are not known yet
_NOTHING = {
    "BestRelay": "", "BestRelayPort": 0, "BestRelaySource": "none", "BestRelayTls": "", "Relays": [], "Senders": [],
    "State": "starting",
}  # fmt: skip


_ALWAYS = {"BestRelay", "BestRelayPort", "BestRelaySource", "Relays", "Addresses", "State", "LastChanged", "Version"}

# what each entry of these lists holds, as plain values; on a session bus anybody may have the name
_ENTRIES: dict[str, dict[str, type]] = {
    "Relays": {"host": str, "port": int, "source": str, "verdict": str},
    "Addresses": {"address": str, "interface": str, "origin": str, "outcome": str},
    "Senders": {"address": list, "network": str, "host": str, "port": int, "source": str, "tls": str},
    "questions": {"name": str, "type": str, "outcome": str, "rcode": str, "server": str, "elapsed": int, "ttl": int},
    "dropped": {"host": str, "rule": str, "reason": str},
}
_WHERE_THEY_APPLY: dict[str, type] = {"name": str, "reason": str, "expires": int}


class CallError(Exception):
    """The agent or the bus refused a call; the message is its sentence, untrusted text."""


class NotRunning(CallError):
    """No agent to talk to, or no bus; the message says where it was looked for."""


class Client:
    """A connection to one bus, and the calls to the agent on it. All raise CallError."""

    def __init__(self, bus: BusConnection, where: str) -> None:
        self._bus = bus
        self._where = where
        self._owner = ""  # who owns the name, while it is followed
        bus.router.signal_filter = lambda head: head.sender in (DAEMON, self._owner)  # anybody may send us a signal

    async def available(self) -> bool:
        """Does the name have an owner, or would the bus start one?"""
        if await self._daemon("NameHasOwner", "s", NAME):
            return True
        return NAME in await self._daemon("ListActivatableNames", "")

    async def owner(self) -> int:
        """The process that owns the name, as the bus knows it. Raises NotRunning when nobody does."""
        return int(await self._daemon("GetConnectionUnixProcessID", "s", NAME))

    async def properties(self) -> dict[str, Any]:
        """All properties under their D-Bus names, as plain values."""
        reply = await self._reply(_get_all(NAME))
        values = reply.body[0] if reply.signature == "a{sv}" else {}
        if not _known(values).keys() >= _ALWAYS:
            raise self._not_the_agent()
        return self._checked(_NOTHING | plain(values) | _known(values))

    async def refresh(self) -> None:
        """Have a round run; returns at its decision, or when the agent gives up waiting for it (20 s)."""
        await self._call(_method("Refresh"))

    async def report_failure(self, host: str, port: int, reason: str) -> None:
        """Say that a relay failed to take mail (rule D6)."""
        await self._call(_method("ReportFailure", host, port, reason))

    async def relay_for(self, sender: str) -> dict[str, Any]:
        """The relay for an envelope sender (rule C11): `host`, `port`, `source`, `tls`, and its list, `relays`."""
        values = await self._values(_method("RelayFor", sender))
        names = [name for name, _ in METHODS["RelayFor"].out_args]
        if len(values) != len(names):
            raise self._not_the_agent()
        return dict(zip(names, values, strict=True))

    async def explain(self) -> dict[str, Any]:
        """The questions of the last round and what was dropped, as plain values."""
        found = await self._call(_method("Explain"))
        if not isinstance(found, dict):
            raise self._not_the_agent()
        return self._checked(found)

    async def follow(self) -> AsyncGenerator[dict[str, Any] | None, None]:
        """The properties now and after each change of any; None when the agent has left the bus, until it is back.

        Raises NotRunning when none runs at the start, and when the bus goes.
        """
        # All is taken from one queue in the order it came, the reply to GetAll with it: no old value follows a new one
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._bus.on_end = lambda _: queue.put_nowait(None)
        self._bus.router.add_message_handler(queue.put_nowait)
        await self._daemon("AddMatch", "s", f"type='signal',sender='{NAME}',path='{PATH}'")
        await self._daemon("AddMatch", "s", f"type='signal',sender='{DAEMON}',member='NameOwnerChanged',arg0='{NAME}'")
        if not await self._daemon("NameHasOwner", "s", NAME):
            await self._daemon("StartServiceByName", "su", NAME, 0)
        self._owner = await self._daemon("GetNameOwner", "s", NAME)
        asked = self._ask_all()
        known: dict[str, Any] | None = None
        while message := await queue.get():
            if message.message_type is MessageType.METHOD_RETURN:
                if message.reply_serial == asked and message.signature == "a{sv}":
                    known = self._checked(_NOTHING | _known(message.body[0]))
                    yield known
            elif message.message_type is not MessageType.SIGNAL:
                pass
            elif _is_owner_change(message):
                if message.body[2] == self._owner:
                    continue  # it came up while we were asking
                self._owner, known = message.body[2], None
                if self._owner:
                    asked = self._ask_all()
                else:
                    yield None
            elif known is not None and message.sender == self._owner and (change := _change(message)):
                known = self._checked(known | change)
                yield known
        raise self._lost()

    async def notify(self, summary: str, body: str) -> None:
        """Show a notification on the desktop (Desktop Notifications Specification 1.2)."""
        message = Message(
            destination="org.freedesktop.Notifications",
            path="/org/freedesktop/Notifications",
            interface="org.freedesktop.Notifications",
            member="Notify",
            signature="susssasa{sv}i",
            body=["salsa-agent", 0, "mail-send", summary, body, [], {"category": Value("s", "network")}, -1],
        )
        await self._call(message)

    # --- calls

    def _ask_all(self) -> int:
        message = _get_all(self._owner)
        message.serial = self._bus.next_serial()
        self._bus.send(message)
        return int(message.serial)

    async def _daemon(self, member: str, signature: str, *body: Any) -> Any:
        return await self._call(
            Message(
                destination=DAEMON,
                path="/org/freedesktop/DBus",
                interface=DAEMON,
                member=member,
                signature=signature,
                body=list(body),
            )
        )

    async def _call(self, message: Message, timeout: float = CALL_TIME) -> Any:
        """One call: the first value of its reply."""
        values = await self._values(message, timeout)
        return values[0] if values else None

    async def _values(self, message: Message, timeout: float = CALL_TIME) -> list[Any]:
        """One call: the values of its reply."""
        values: list[Any] = plain((await self._reply(message, timeout)).body)
        return values

    async def _reply(self, message: Message, timeout: float = CALL_TIME) -> Message:
        """One call: its reply, which is no error."""
        try:
            async with asyncio.timeout(timeout):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise NotRunning(f"no answer on {self._where}") from None
        except BusGone:
            raise self._lost() from None
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise self._error(reply)
        return reply

    def _error(self, reply: Message) -> CallError:
        name = str(reply.error_name)
        if name.startswith(_NOT_STARTED) or name.removeprefix("org.freedesktop.DBus.Error.").startswith(_NOBODY):
            return NotRunning(f"no agent runs on {self._where}")
        text = str(reply.body[0]) if reply.signature.startswith("s") else ""
        return CallError(text or str(reply.error_name))

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values`, where each entry of the lists among them is what it has to be. Raises CallError."""
        for name, form in _ENTRIES.items():
            entries = values.get(name, [])
            if not isinstance(entries, list) or not all(_is_entry(entry, form) for entry in entries):
                raise self._not_the_agent()
        return values

    def _not_the_agent(self) -> CallError:
        return CallError(f"what owns the name on {self._where} is no salsa-agent")

    def _lost(self) -> NotRunning:
        return NotRunning(f"the connection to {self._where} is lost")


@asynccontextmanager
async def client(bus: str) -> AsyncIterator[Client]:
    """The agent on `bus`: `auto`, `system`, `session` or an address. Raises NotRunning when there is no such bus.

    `auto`: the first of system and session bus on which the name has an owner or is activatable.
    """
    connection, where = await (_find() if bus == "auto" else _open(bus))
    try:
        yield Client(connection, where)
    finally:
        connection.disconnect()


async def _find() -> tuple[BusConnection, str]:
    for bus in ("system", "session"):
        with suppress(CallError):
            connection, where = await _open(bus)
            available = False
            try:
                available = await Client(connection, where).available()
            finally:
                if not available:
                    connection.disconnect()
            if available:
                return connection, where
    raise NotRunning("no agent runs on the system bus or the session bus")


async def _open(bus: str) -> tuple[BusConnection, str]:
    known = bus in ("system", "session")
    address = address_of(bus)
    if not address:
        raise NotRunning(f"there is no {bus} bus")
    try:
        return await open_bus(address), f"the {bus} bus" if known else f"the bus at {bus}"
    except BusError as error:
        raise NotRunning(f"no {bus} bus ({error})" if known else f"no bus at {error}") from None


def plain(value: Any) -> Any:
    """D-Bus values without their types: what JSON can hold."""
    if isinstance(value, Value):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def _is_entry(entry: Any, form: dict[str, type]) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in form.items())
        and all(isinstance(entry[key], kind) for key, kind in _WHERE_THEY_APPLY.items() if key in entry)
    )


def _method(member: str, *body: Any) -> Message:
    return Message(
        destination=NAME,
        path=PATH,
        interface=INTERFACE,
        member=member,
        signature=METHODS[member].signature,
        body=list(body),
    )


def _get_all(destination: str) -> Message:
    return Message(
        destination=destination, path=PATH, interface=PROPERTIES, member="GetAll", signature="s", body=[INTERFACE]
    )


def _is_owner_change(message: Message) -> bool:
    shape: tuple[str, str, str] = (message.sender, message.member, message.signature)
    return shape == (DAEMON, "NameOwnerChanged", "sss") and bool(message.body[0] == NAME)


def _known(values: dict[str, Value]) -> dict[str, Any]:
    """The properties among these that we know, by name and type."""
    return {name: plain(of) for name, of in values.items() if PROPERTY_TYPES.get(name) == of.signature}


def _change(message: Message) -> dict[str, Any]:
    """What a signal of the agent says of the properties."""
    shape: tuple[str, str, str] = (message.interface, message.member, message.signature)
    body: Sequence[Any] = message.body
    if message.path != PATH:
        return {}
    if shape == (PROPERTIES, "PropertiesChanged", "sa{sv}as") and body[0] == INTERFACE:
        return _known(body[1])
    if shape == (INTERFACE, "BestRelayChanged", "sqs"):
        return dict(zip(("BestRelay", "BestRelayPort", "BestRelaySource"), body, strict=True))
    return {}
