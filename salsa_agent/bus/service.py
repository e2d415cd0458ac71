"""The object /org/salsa/Agent1: what it publishes, and what it answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from salsa_agent.bus import convert as values
from salsa_agent.bus import interface
from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import Message, MessageType
from salsa_agent.bus.api import (
    MOST_LINK_RELAYS,
    Explanation,
    InvalidArgs,
    LimitsExceeded,
    NoSuchRelay,
    RequestError,
    Requests,
)
from salsa_agent.bus.codec import Value
from salsa_agent.bus.connection import UNKNOWN_OBJECT, BusConnection, BusGone
from salsa_agent.bus.interface import INTERFACE, INTROSPECTABLE, METHODS, PARENTS, PATH, PEER, PROPERTIES, STANDARD
from salsa_agent.bus.limits import Callers, CallsInProgress
from salsa_agent.bus.message import Header, Malformed
from salsa_agent.bus.router import MAX_CALL, describe_exception
from salsa_agent.core.admission import canonical
from salsa_agent.core.model import ListedRelay, Publication
from salsa_agent.text import clean, sanitize

_ERROR = "org.freedesktop.DBus.Error."
FAILED = f"{_ERROR}Failed"
_ERRORS = {
    InvalidArgs: f"{_ERROR}InvalidArgs",
    LimitsExceeded: f"{_ERROR}LimitsExceeded",
    NoSuchRelay: f"{INTERFACE}.Error.NoSuchRelay",
}
MAX_HOST = 253  # RFC 1035 2.3.4; a literal is shorter
_MAX_RELAY = MAX_HOST + len("[]:65535")
_UID_TIME = 25.0
_GONE = -1  # stands for the user of callers that are gone, who share one user's limits
_ANYBODYS = frozenset(("Refresh", "ReportFailure"))  # of those whose caller needs no reply
_ROOTS = frozenset(("SetLinkRelays", "RevertLink"))
_ENDING = "The agent is about to end."

log = logging.getLogger("salsa-agent.bus")


class Refused(Exception):
    """A call that is answered with an error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name if name.startswith("org.") else _ERROR + name
        self.text = text


class Service:
    """org.salsa.Agent1 on whichever bus it is attached to."""

    def __init__(self, *, version: str, requests: Requests) -> None:
        self.publication = Publication()
        self._version = version
        self._requests = requests
        self._realtime_us: values.RealtimeUs = lambda _: 0
        self._last_changed = 0
        self._told = self.publication  # what followers on the bus know
        self._values: dict[str, Value] = {}
        self._bodies: dict[str, bytes] = {}  # replies to Get, and to GetAll under ""
        self._explained: tuple[Explanation, bytes] | None = None
        self._bus: BusConnection | None = None
        self._callers = Callers(self._ask_uid)
        self._limits = CallsInProgress()
        self._calls: set[asyncio.Task[None]] = set()

    # --- the bus

    def attach(self, bus: BusConnection) -> None:
        """Answer the calls that come on this bus, and tell its followers of changes."""
        self._bus = bus
        self._told = self.publication
        self._callers = Callers(self._ask_uid)
        bus.router.serve = self._serve
        bus.on_drained = self._announce

    async def detach(self) -> None:
        """Answer no more; calls in progress are told so."""
        if self._bus is not None:
            self._bus.router.serve = self._refuse
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        self._callers.close()

    # --- publishing

    def publish(self, publication: Publication, realtime_us: Callable[[float], int]) -> None:
        """Make this what `Get` returns, and tell followers what changed (H1).

        `realtime_us`: engine time as microseconds of the realtime clock.
        """
        if publication.changed is None:
            self._last_changed = 0
        elif publication.changed != self.publication.changed:  # else the two clocks' jitter would be a change
            self._last_changed = realtime_us(publication.changed)
        self.publication = publication
        self._realtime_us = realtime_us
        self._values.clear()
        self._bodies.clear()
        self._announce()

    def _announce(self) -> None:
        """Bring followers from what they were told to what is now, in one step; later if the bus does not keep up."""
        bus, before, now = self._bus, self._told, self.publication
        if bus is None or bus.congested:
            return
        changed = [name for name, differs in _DIFFERS.items() if differs(before, now)]
        self._told = now
        if changed:
            body = [INTERFACE, {name: self._value(name) for name in changed}, []]
            bus.emit(PATH, PROPERTIES, "PropertiesChanged", "sa{sv}as", wire.encode("sa{sv}as", body))
        if (before.best.host, before.best.port) != (now.best.host, now.best.port):
            signal = [self._value(name).value for name in ("BestRelay", "BestRelayPort", "BestRelaySource")]
            bus.emit(PATH, INTERFACE, "BestRelayChanged", "sqs", wire.encode("sqs", signal))

    def _value(self, name: str) -> Value:
        if name not in self._values:
            kind = interface.PROPERTY_TYPES[name]
            made = self._made(name)
            self._values[name] = made if isinstance(made, Value) else Value(kind, made)
        return self._values[name]

    def _made(self, name: str) -> Any:
        said = self.publication
        match name:
            case "BestRelay":
                return values.text(said.best.host)
            case "BestRelayPort":
                return values.number("q", said.best.port)
            case "BestRelaySource":
                return values.text(said.best.source)
            case "Relays":
                return [values.relay(listed, self._realtime_us) for listed in said.relays]
            case "Addresses":
                return [values.evidence(of) for of in said.evidence]
            case "State":
                return values.text(said.state)
            case "LastChanged":
                return values.number("t", self._last_changed)
            case _:
                return values.text(self._version)

    # --- answering

    def _serve(self, call: Header, body: bytes | None) -> None:
        """Answer a call, or start to. Never raises."""
        bus = self._bus
        assert bus is not None
        try:
            self._dispatch(bus, call, body)
        except Refused as error:
            bus.error(call, error.name, error.text)
        except Exception as error:
            self._fail(bus, call, error)

    def _refuse(self, call: Header, _body: bytes | None) -> None:
        assert self._bus is not None
        self._bus.error(call, FAILED, _ENDING)

    def _dispatch(self, bus: BusConnection, call: Header, body: bytes | None) -> None:
        at = call.interface or interface.HOME.get(call.member, "")
        known = call.path == PATH or call.path in PARENTS
        if at == PEER:  # of the process, not of an object: any path will do
            self._peer(bus, call)
        elif call.path != PATH and not (known and at == INTROSPECTABLE):
            raise Refused(UNKNOWN_OBJECT, f"There is no such object; the agent is {PATH}.")
        elif at == INTROSPECTABLE:
            self._arguments(STANDARD[INTROSPECTABLE].get(call.member), call, body)
            bus.reply(call, "s", wire.encode("s", [interface.introspection(call.path)]))
        elif at == PROPERTIES:
            self._property(bus, call, body)
        elif at == INTERFACE and call.member == "Explain":
            self._arguments(METHODS["Explain"], call, body)
            bus.reply(call, "a{sv}", self._explanation())
        elif at == INTERFACE:
            self._start(bus, call, self._arguments(METHODS.get(call.member), call, body))
        else:
            raise Refused("UnknownMethod", "The agent has no such interface.")

    def _arguments(
        self, method: interface.Method | None, call: Header, body: bytes | None, first: int = 9
    ) -> list[Any]:
        """The arguments of a call, or the `first` of them, if they are what the method takes."""
        if method is None:
            raise Refused("UnknownMethod", "This interface has no such method.")
        if call.signature != method.signature:
            takes = f"({', '.join(f'{kind} {name}' for name, kind in method.takes)})"
            raise Refused("InvalidArgs", f"{call.member} takes {takes if method.takes else 'no arguments'}.")
        if body is None:
            raise Refused("InvalidArgs", f"The arguments are larger than {MAX_CALL} octets.")
        try:
            return wire.decode("".join(kind for _, kind in method.takes[:first]), body, little=call.little)
        except Malformed:
            raise Refused("InvalidArgs", "The arguments are damaged.") from None

    def _peer(self, bus: BusConnection, call: Header) -> None:
        if call.member == "Ping":
            bus.reply(call)
        elif call.member == "GetMachineId":
            bus.reply(call, "s", wire.encode("s", [_machine_id()]))
        else:
            raise Refused("UnknownMethod", "This interface has no such method.")

    def _property(self, bus: BusConnection, call: Header, body: bytes | None) -> None:
        given = self._arguments(STANDARD[PROPERTIES].get(call.member), call, body, first=2)
        ours = given[0] in (INTERFACE, "")  # empty: of whichever interface has it
        if call.member == "GetAll":
            if not ours and given[0] not in STANDARD:
                raise Refused("UnknownInterface", "The agent has no such interface.")
            bus.reply(call, "a{sv}", self._all() if ours else wire.encode("a{sv}", [{}]))
        elif not ours or given[1] not in interface.PROPERTY_TYPES:
            raise Refused("UnknownProperty", "The agent has no such property.")
        elif call.member == "Set":
            raise Refused("PropertyReadOnly", f"{given[1]} is read-only.")
        else:
            if given[1] not in self._bodies:
                self._bodies[given[1]] = wire.encode("v", [self._value(given[1])])
            bus.reply(call, "v", self._bodies[given[1]])

    def _all(self) -> bytes:
        if "" not in self._bodies:
            self._bodies[""] = wire.encode("a{sv}", [{name: self._value(name) for name in interface.PROPERTY_TYPES}])
        return self._bodies[""]

    def _explanation(self) -> bytes:
        explained = self._requests.explain()
        if self._explained is None or self._explained[0] != explained:
            found = {
                "questions": Value("aa{sv}", [values.asked(of) for of in explained.questions]),
                "dropped": Value("aa{sv}", [values.dropped(of) for of in explained.dropped]),
            }
            self._explained = explained, wire.encode("a{sv}", [found])
        return self._explained[1]

    # --- calls that take their time, or for which it matters whose they are

    def _start(self, bus: BusConnection, call: Header, given: list[Any]) -> None:
        if self._callers.full(call.sender):
            raise Refused("LimitsExceeded", "Too many calls wait to be taken up.")
        task = asyncio.ensure_future(self._run(bus, call, given))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _run(self, bus: BusConnection, call: Header, given: list[Any]) -> None:
        """See a call through to its reply. Never raises, unless cancelled."""
        try:
            uid = await self._callers.uid(call.sender)
            if uid is None:  # the caller waits for no reply, as NetworkManager's script does, and is gone
                if call.member not in (_ANYBODYS if not bus.policed else _ANYBODYS | _ROOTS):
                    raise Refused("AccessDenied", "The bus does not say whose call this is.")
                uid = _GONE
            full = self._limits.enter(call.sender, uid)
            if full:
                raise Refused("LimitsExceeded", full)
            try:
                result = await self._done(call.member, given, uid)
            finally:
                self._limits.leave(call.sender, uid)
        except Refused as error:
            bus.error(call, error.name, error.text)
        except RequestError as error:
            bus.error(call, _ERRORS.get(type(error), FAILED), clean(str(error)))
        except asyncio.CancelledError:
            bus.error(call, FAILED, _ENDING)
        except Exception as error:
            self._fail(bus, call, error)
        else:
            bus.reply(call, METHODS[call.member].result, result)

    async def _done(self, member: str, given: list[Any], uid: int) -> bytes:
        match member, given:
            case "Refresh", []:
                await self._requests.refresh()
            case "ReportFailure", [host, port, reason]:
                self._requests.report_failure(_host(host), _port(port), sanitize(reason), uid)
            case "Lookup", [address]:
                looked = await self._requests.lookup(_address(address))
                relays = [values.relay(ListedRelay(relay), self._realtime_us) for relay in looked.relays]
                return wire.encode("aa{sv}aa{sv}", [relays, [values.asked(of) for of in looked.questions]])
            case "SetLinkRelays", [ifindex, relays]:
                _privileged(uid)
                self._requests.set_link_relays(_ifindex(ifindex), _link_relays(relays))
            case "RevertLink", [ifindex]:
                _privileged(uid)
                self._requests.revert_link(_ifindex(ifindex))
        return b""

    async def _ask_uid(self, sender: str) -> int | None:
        """The user of a caller; None if it is gone, or the bus does not say."""
        assert self._bus is not None
        question = Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="GetConnectionUnixUser",
            signature="s",
            body=[sender],
        )
        with suppress(TimeoutError, BusGone):
            async with asyncio.timeout(_UID_TIME):
                reply = await self._bus.call(question)
            if reply is not None and reply.message_type is MessageType.METHOD_RETURN and reply.signature == "u":
                return int(reply.body[0])
        return None

    def _fail(self, bus: BusConnection, call: Header, error: Exception) -> None:
        """A defect of ours: the caller is told no more than that."""
        log.error("a call was not answered: %s", describe_exception(error))
        bus.error(call, FAILED, "The agent failed to answer.")


# --- what changed between two publications, for each property that may


_DIFFERS: dict[str, Callable[[Publication, Publication], bool]] = {
    "BestRelay": lambda a, b: a.best.host != b.best.host,
    "BestRelayPort": lambda a, b: a.best.port != b.best.port,
    "BestRelaySource": lambda a, b: a.best.source != b.best.source,
    "Relays": lambda a, b: not values.same_but_for_expires(a.relays, b.relays),
    "Addresses": lambda a, b: a.evidence != b.evidence,
    "State": lambda a, b: a.state != b.state,
    "LastChanged": lambda a, b: a.changed != b.changed,
}


# --- arguments, as anybody may give them


def _host(text: str) -> str:
    if not 0 < len(text) <= MAX_HOST or not (text.isascii() and text.isprintable()):
        raise InvalidArgs(f"host must be 1 to {MAX_HOST} printable ASCII characters.")
    return canonical(text)


def _port(number: int) -> int:
    if number == 0:
        raise InvalidArgs("port must be 1 to 65535.")
    return number


def _address(text: str) -> Any:
    try:
        if "%" not in text and len(text) < 64:  # a scope says nothing of a reverse name
            return ip_address(text)
    except ValueError:
        pass
    raise InvalidArgs("address must be an IPv4 or IPv6 address.")


def _ifindex(number: int) -> int:
    if number < 1:
        raise InvalidArgs("ifindex must be the index of a network interface.")
    return number


def _link_relays(relays: list[str]) -> list[str]:
    if len(relays) > MOST_LINK_RELAYS:
        raise InvalidArgs(f"A link has at most {MOST_LINK_RELAYS} relays.")
    for relay in relays:
        if not 0 < len(relay) <= _MAX_RELAY or not (relay.isascii() and relay.isprintable()):
            raise InvalidArgs("relays must be of the form host, host:port, address or [address]:port.")
    return relays


def _privileged(uid: int) -> None:
    """Root's alone by the policy of the system bus; where there is no policy, of the agent's own user too."""
    if uid not in (0, os.getuid(), _GONE):  # one that is gone came past the policy of the system bus
        raise Refused("AccessDenied", "Only root may set what a link says.")


def _machine_id() -> str:
    """machine-id(5)."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            if found := Path(path).read_text(errors="replace").strip():
                return clean(found)
    raise Refused(FAILED, "This machine has no identity.")
