"""The object /org/salsa/Agent1: what it publishes, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from salsa_agent.bus import arguments, convert, interface
from salsa_agent.bus.api import Explanation, RequestError, Requests, SenderRelays, UnknownMember
from salsa_agent.bus.calls import Calls, refuse
from salsa_agent.bus.codec import Value, encode
from salsa_agent.bus.connection import UNKNOWN_OBJECT, BusConnection
from salsa_agent.bus.interface import INTERFACE, INTROSPECTABLE, METHODS, PARENTS, PATH, PEER, PROPERTIES, STANDARD
from salsa_agent.bus.message import NO_REPLY_EXPECTED, Header
from salsa_agent.bus.properties import Properties, best_relay_changed, changed
from salsa_agent.core.model import ListedRelay, Publication
from salsa_agent.text import clean


class Service:
    """org.salsa.Agent1 on whichever bus it is attached to."""

    def __init__(self, *, version: str, requests: Requests, realtime_us: Callable[[float], int]) -> None:
        """`realtime_us`: engine time as microseconds of the realtime clock."""
        self._requests = requests
        self._realtime_us = realtime_us
        self._properties = Properties(version, realtime_us, requests.statistics)
        self._last_announced = self.publication  # what followers on the bus know
        self._explained: tuple[Explanation, bytes] | None = None
        self._relays_for: list[tuple[SenderRelays, bytes]] = []  # replies to RelayFor, since the last publication
        self._bus: BusConnection | None = None
        self._calls: Calls | None = None

    @property
    def publication(self) -> Publication:
        """What was published last."""
        return self._properties.publication

    # --- the bus

    def attach(self, bus: BusConnection) -> None:
        """Answer the calls that come on this bus, and tell its followers of changes."""
        self._bus = bus
        self._calls = Calls(bus, self._perform)
        self._last_announced = self.publication
        bus.router.serve = self._serve
        bus.on_drained = self._announce

    async def detach(self) -> None:
        """Answer no more; calls in progress end with an error."""
        if self._bus is not None:
            self._bus.router.serve = self._refuse
        if self._calls is not None:
            await self._calls.close()

    # --- publishing

    def publish(self, publication: Publication) -> None:
        """Make this what `Get` returns, and tell followers what changed (rule H1)."""
        self._properties.publish(publication)
        self._relays_for.clear()
        self._announce()

    def _announce(self) -> None:
        """Tell followers what changed since they were told last; later if the bus does not keep up."""
        bus, before, now = self._bus, self._last_announced, self.publication
        if bus is None or bus.congested:
            return
        self._last_announced = now
        if names := changed(before, now):
            body = [INTERFACE, {name: self._properties.value(name) for name in names}, []]
            bus.emit(PATH, PROPERTIES, "PropertiesChanged", "sa{sv}as", encode("sa{sv}as", body))
        if best_relay_changed(before, now):
            signal = [self._properties.value(name).value for name in ("BestRelay", "BestRelayPort", "BestRelaySource")]
            bus.emit(PATH, INTERFACE, "BestRelayChanged", "sqs", encode("sqs", signal))

    # --- answering

    def _serve(self, call: Header, body: bytes | None) -> None:
        """Answer a call, or start to. Never raises."""
        bus, calls = self._bus, self._calls
        assert bus is not None
        assert calls is not None
        if call.flags & NO_REPLY_EXPECTED and not _acts(call):
            return
        try:
            self._dispatch(bus, calls, call, body)
        except Exception as error:
            refuse(bus, call, error)

    def _refuse(self, call: Header, _body: bytes | None) -> None:
        assert self._bus is not None
        refuse(self._bus, call, RequestError("The agent is about to end."))

    def _dispatch(self, bus: BusConnection, calls: Calls, call: Header, body: bytes | None) -> None:
        at = call.interface or interface.INTERFACE_OF_MEMBER.get(call.member, "")
        known = call.path == PATH or call.path in PARENTS
        if at == PEER:  # of the process, not of an object: any path will do
            self._peer(bus, call)
        elif call.path != PATH and not (known and at == INTROSPECTABLE):
            raise UnknownMember(_UNKNOWN_OBJECT, f"There is no such object; the agent is {PATH}.")
        elif at == INTROSPECTABLE:
            arguments.read(STANDARD[INTROSPECTABLE].get(call.member), call, body)
            bus.reply(call, "s", encode("s", [interface.introspection(call.path)]))
        elif at == PROPERTIES:
            self._property(bus, call, body)
        elif at == INTERFACE:
            method = METHODS.get(call.member)
            given = arguments.checked(call.member, arguments.read(method, call, body))
            if call.member in _ANYBODYS:
                assert method is not None
                bus.reply(call, method.result, self._answer(call.member, given))
            else:
                calls.start(call, given)
        else:
            raise UnknownMember("UnknownMethod", "The agent has no such interface.")

    def _peer(self, bus: BusConnection, call: Header) -> None:
        if call.member == "Ping":
            bus.reply(call)
        elif call.member == "GetMachineId":
            bus.reply(call, "s", encode("s", [_machine_id()]))
        else:
            raise UnknownMember("UnknownMethod", "This interface has no such method.")

    def _property(self, bus: BusConnection, call: Header, body: bytes | None) -> None:
        given = arguments.read(STANDARD[PROPERTIES].get(call.member), call, body, first=2)
        ours = given[0] in (INTERFACE, "")  # empty: of whichever interface has it
        if call.member == "GetAll":
            if not ours and given[0] not in STANDARD:
                raise UnknownMember("UnknownInterface", "The agent has no such interface.")
            bus.reply(call, "a{sv}", self._properties.get_all() if ours else encode("a{sv}", [{}]))
        elif not ours or given[1] not in interface.PROPERTY_TYPES:
            raise UnknownMember("UnknownProperty", "The agent has no such property.")
        elif call.member == "Set":
            raise UnknownMember("PropertyReadOnly", f"{given[1]} is read-only.")
        else:
            bus.reply(call, "v", self._properties.get(given[1]))

    # --- the methods of org.salsa.Agent1

    def _answer(self, member: str, given: list[Any]) -> bytes:
        """What anybody may know, at once."""
        if member == "Explain":
            return self._explanation()
        (sender,) = given
        found = self._requests.relay_for(sender)
        for known, body in self._relays_for:
            if known.best is found.best and known.relays is found.relays:
                return body
        body = self._relay_for(found)
        self._relays_for = [*self._relays_for[-_MAX_RELAYS_FOR:], (found, body)]
        return body

    def _relay_for(self, found: SenderRelays) -> bytes:
        best = found.best
        values = [convert.text(best.host), convert.number("q", best.port), convert.text(best.source)]
        values.append(convert.text(convert.tls_of(best, found.relays)))
        return encode("sqssaa{sv}", [*(one.value for one in values), self._relays(found.relays)])

    def _explanation(self) -> bytes:
        explained = self._requests.explain()
        if self._explained is None or self._explained[0] != explained:
            found = {
                "questions": Value("aa{sv}", [convert.asked(of) for of in explained.questions]),
                "dropped": Value("aa{sv}", [convert.dropped(of) for of in explained.dropped]),
            }
            self._explained = explained, encode("a{sv}", [found])
        return self._explained[1]

    def _perform(self, member: str, given: list[Any], uid: int) -> bytes | Coroutine[Any, Any, bytes]:
        """What a caller has done, of whom it is known who that is."""
        match member, given:
            case "Refresh", []:
                return self._refresh(uid)
            case "Lookup", [address]:
                return self._lookup(address, uid)
            case "ReportFailure", [host, port, reason]:
                self._requests.report_failure(host, port, reason, uid)
            case "SetLinkRelays", [ifindex, relays]:
                self._requests.set_link_relays(ifindex, relays)
            case "RevertLink", [ifindex]:
                self._requests.revert_link(ifindex)
        return b""

    async def _refresh(self, uid: int) -> bytes:
        await self._requests.refresh(uid)
        return b""

    async def _lookup(self, address: Any, uid: int) -> bytes:
        found = await self._requests.lookup(address, uid)
        relays = self._relays([ListedRelay(relay) for relay in found.relays])
        return encode("aa{sv}aa{sv}", [relays, [convert.asked(of) for of in found.questions]])

    def _relays(self, relays: Any) -> list[convert.Dict]:
        return [convert.relay(listed, self._realtime_us) for listed in relays]


_UNKNOWN_OBJECT = UNKNOWN_OBJECT.rpartition(".")[2]
_MAX_RELAYS_FOR = 31  # senders whose replies are kept
_ANYBODYS = frozenset(("Explain", "RelayFor"))  # answered at once, whoever asks


def _acts(call: Header) -> bool:
    """Whether a call does more than to have an answer; that of one who wants no answer is thrown away unread."""
    return call.member in METHODS and call.member not in _ANYBODYS and call.interface in (INTERFACE, "")


def _machine_id() -> str:
    """machine-id(5)."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            if found := Path(path).read_text(errors="replace").strip():
                return clean(found)
    raise RequestError("This machine has no identity.")
