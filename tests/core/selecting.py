"""A selection without an engine: a table of DNS answers goes in, the lists come out."""

from __future__ import annotations

from ipaddress import ip_address

from salsa_agent.core.addresses import counting, own
from salsa_agent.core.cache import Cache
from salsa_agent.core.model import (
    Address,
    Answer,
    HostAddress,
    Link,
    LinkInfo,
    LinkRelays,
    Outcome,
    Question,
    Relay,
    RelayKey,
    RRType,
    Server,
    ServerView,
    Srv,
    SrvEntry,
)
from salsa_agent.core.selection import Choice, SelectionInput, choose
from salsa_agent.core.settings import Settings
from tests.core.sim import NXDOMAIN, facts

VIEW = ServerView((Server("192.0.2.53"),))
LINKS = (Link(2, "eth0", usable=True), Link(3, "wlan0", usable=True))
NOW = 1000.0


def on(ip: str, index: int = 2, prefixlen: int = 24) -> HostAddress:
    """An address of the host with its prefix."""
    return HostAddress(ip_address(ip), index, 0, 0x80, prefixlen=prefixlen)


def srv(*records: str, ttl: int = 3600, ad: bool = False) -> Answer:
    """An SRV set from words such as `10:5:587:mail.example.net.` (priority, weight, port, target)."""
    fields = [record.split(":") for record in records]
    found = tuple(Srv(int(priority), int(weight), int(port), target) for priority, weight, port, target in fields)
    return Answer(Outcome.FOUND, srv=found, ttl=ttl, authenticated=ad, rcode="NOERROR")


class Selecting:
    """Answers from a table; names in `silent` are not answered yet."""

    def __init__(self, settings: Settings | None = None, *hosts: HostAddress, identity: bytes = b"machine") -> None:
        self.settings = settings or Settings()
        self.hosts = hosts
        self.identity = identity
        self.dns: dict[tuple[str, RRType], Answer] = {}
        self.silent: set[str] = set()
        self.infos: tuple[LinkInfo, ...] = ()
        self.links: tuple[LinkRelays, ...] = ()
        self.nat: tuple[Address, ...] = ()
        self.view = VIEW
        self.asked: dict[Question, None] = {}
        self.cache = Cache(identity=identity)

    def mx(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.MX] = answer

    def srv(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.SRV] = answer

    def host(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.AAAA if any(ip.version == 6 for ip in answer.addresses) else RRType.A] = answer

    @property
    def inputs(self) -> SelectionInput:
        known = facts(*self.hosts, links=LINKS, defaults=())
        return SelectionInput(
            self.settings,
            (*counting(known, ()), *self.nat),
            own(known),
            self.view,
            self.identity,
            self.links,
            self.infos,
            known.addresses,
        )

    def run(self) -> Choice:
        """Ask what is wanted, one answer at a time, until no more is wanted that has an answer."""
        choice = choose(self.inputs, self.cache)
        while True:
            unanswered = [q for q in self.cache.unanswered(choice.wanted) if q.name not in self.silent]
            if not unanswered:
                return choice
            question = unanswered[0]
            self.asked[question] = None
            self.cache.record(question, self.dns.get((question.name, question.rtype), NXDOMAIN), NOW)
            choice = choose(self.inputs, self.cache, begun=choice.exchanges)

    def names(self, rtype: RRType) -> list[str]:
        """The names asked so far for this type."""
        return [question.name for question in self.asked if question.rtype is rtype]


def keys(relays: tuple[Relay, ...]) -> list[str]:
    """The relays as `source host:port`."""
    return [f"{relay.source} {relay.key.host}:{relay.key.port}" for relay in relays]


def drops(choice: Choice) -> set[tuple[str, str]]:
    return {(drop.host, drop.rule) for drop in choice.dropped}


def entry(text: str) -> RelayKey | SrvEntry:
    """A configured relay: `host:port` or `srv:domain`."""
    host, _, port = text.rpartition(":")
    return SrvEntry(port) if host == "srv" else RelayKey(host, int(port))
