"""The agent's bus side in this process, on a real bus, with requests that a test answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

from salsa_agent.bus.api import Explanation, LookupResult, SenderRelays
from salsa_agent.bus.calls import Calls
from salsa_agent.bus.interface import INTERFACE, NAME, PATH, PROPERTIES
from salsa_agent.bus.name_owner import NameOwner, connect
from salsa_agent.bus.service import Service
from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    Best,
    Dropped,
    Evidence,
    IPAddress,
    ListedRelay,
    Mx,
    Outcome,
    Publication,
    Question,
    Relay,
    RelayKey,
    RRType,
    SenderChoice,
    Source,
    State,
    Verdict,
)
from tests.lab.bus import Bus, RawClient

VERSION = "1.2.3"

NOC = Relay(
    RelayKey("noc.tor.hookup.net", 25),
    Source.DNS,
    addresses=(ip_address("192.0.2.25"),),
    preference=10,
    name="15.154.165.in-addr.arpa",
    level=24,
    address="165.154.15.1",
    interface="eth0",
    authenticated=False,
    expires=100.0,
)
STATIC = Relay(RelayKey("smtp.clear.net.nz", 25), Source.STATIC)
MX = Asked(
    Question(NOC.name, RRType.MX, ()),
    Answer(
        Outcome.FOUND, (Mx(10, "noc.tor.hookup.net"),), ttl=3600, rcode="NOERROR", server="192.0.2.53", elapsed=0.02
    ),
    level=24,
)
DROPPED = Dropped("localhost", "C2", "a single label", NOC.name, NOC.address)
HERE = Evidence(Address(ip_address(NOC.address), 2, "eth0"), Outcome.FOUND, 24, NOC.name)
READY = Publication(
    State.READY,
    Best(NOC.key.host, 25, Source.DNS),
    (ListedRelay(NOC, Verdict.OK, "", True, "starttls", False), ListedRelay(STATIC)),
    (HERE,),
    changed=50.0,
    senders=(
        SenderChoice(
            ("*@home.example",),
            "last",
            Best("smtp.home.example", 465, Source.SENDER),
            (ListedRelay(Relay(RelayKey("smtp.home.example", 465), Source.SENDER), Verdict.OK),),
            decided=True,
        ),
        SenderChoice(("*@work.example", "boss@*")),
    ),
)


def realtime_us(when: float) -> int:
    return 1_700_000_000_000_000 + round(when * 1_000_000)


class Fake:
    """Requests that keep what they were asked. `gate`: what `refresh` and `lookup` wait for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.explanation = Explanation([MX], [DROPPED])
        self.counters = {"rounds": 3, "started": 17}
        self.now = self.most = 0  # calls in here

    def _take(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    async def _wait(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1

    async def refresh(self, uid: int) -> None:
        self._take("refresh")
        await self._wait()

    def report_failure(self, host: str, port: int, reason: str, uid: int) -> None:
        self._take("report_failure", host, port, reason, uid)

    async def lookup(self, address: IPAddress, uid: int) -> LookupResult:
        self._take("lookup", address)
        await self._wait()
        return LookupResult([NOC], [MX])

    def relay_for(self, sender: str) -> SenderRelays:
        self._take("relay_for", sender)
        return SenderRelays(READY.best, READY.relays)

    def statistics(self) -> Mapping[str, int]:
        return self.counters

    def explain(self) -> Explanation:
        self._take("explain")
        return self.explanation

    def set_link_relays(self, ifindex: int, relays: Sequence[str]) -> None:
        self._take("set_link_relays", ifindex, list(relays))

    def revert_link(self, ifindex: int) -> None:
        self._take("revert_link", ifindex)


class Agent:
    """What stands on the bus."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.requests = Fake()
        self.service = Service(version=VERSION, requests=self.requests, realtime_us=realtime_us)
        self.connection: NameOwner

    @property
    def calls(self) -> Calls:
        """Those that are not answered yet."""
        assert self.service._calls is not None
        return self.service._calls

    def publish(self, publication: Publication) -> None:
        self.service.publish(publication)

    async def get(self, client: RawClient, name: str) -> Any:
        """`Properties.Get` by a client; the plain value."""
        head, body = await client.ask(PATH, PROPERTIES, "Get", "ss", INTERFACE, name, destination=NAME)
        assert head.signature == "v", body
        return body[0].value

    @property
    def waiting(self) -> int:
        """Octets that wait to be written to the bus."""
        assert self.connection._bus is not None
        return len(self.connection._bus._outbox)


@asynccontextmanager
async def serving(bus: Bus, publication: Publication = READY, at: str = "") -> AsyncIterator[Agent]:
    """The agent's bus side, with its name. `at`: how it is told of its bus; empty: by the address."""
    agent = Agent(bus)
    agent.connection = await connect(at or bus.address)
    try:
        await agent.connection.export(agent.service)
        agent.publish(publication)
        await agent.connection.own_name()
        yield agent
    finally:
        bus.resume()
        await agent.connection.close()


async def follow(client: RawClient) -> None:
    """Have a client get the agent's signals."""
    head, body = await client.ask(
        "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", f"type='signal',path='{PATH}'"
    )
    assert not head.error_name, body
