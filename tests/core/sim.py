"""A world for the engine without a socket: kernel facts, a DNS and relays as tables, a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import (
    Abandon,
    Answered,
    Ask,
    Check,
    Checked,
    Command,
    DiscoverExternalAddress,
    Drop,
    Event,
    ExternalAddressFound,
    FactsRead,
    FailureReported,
    ForgetExternalAddress,
    LinkRelaysSet,
    Publish,
    RefreshAsked,
    RefreshDone,
    RereadKernel,
    RoundEnded,
    ServersRead,
)
from salsa_agent.core.model import (
    Answer,
    CheckResult,
    DefaultRoute,
    HostAddress,
    IPAddress,
    Link,
    LinkRelays,
    Mx,
    NetworkFacts,
    Outcome,
    Publication,
    Question,
    RelayKey,
    RouteChoice,
    RRType,
    Server,
    ServerView,
    Verdict,
)
from salsa_agent.core.settings import Settings

OK = CheckResult(Verdict.OK, "", starttls=False)
DEAD = CheckResult(Verdict.FAILED, "connection refused")
NO_CERTIFICATE = CheckResult(Verdict.FAILED, "certificate: self-signed", starttls=True, tls="starttls", permanent=True)
FAILED = Answer(Outcome.FAILED, rcode="SERVFAIL", server="192.0.2.53", reason="SERVFAIL")
NXDOMAIN = Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=600)
VIEW = ServerView((Server("192.0.2.53"),))
ETH0 = Link(2, "eth0", usable=True)


def mx(*exchanges: str, ttl: int = 3600, ad: bool = False) -> Answer:
    """An MX set from words such as `10:noc.example.net`."""
    records = tuple(Mx(int(word.split(":")[0]), word.split(":")[1]) for word in exchanges)
    return Answer(Outcome.FOUND, mx=records, ttl=ttl, authenticated=ad, rcode="NOERROR")


def at(*addresses: str, ttl: int = 3600, ad: bool = False) -> Answer:
    """An address set."""
    return Answer(
        Outcome.FOUND, addresses=tuple(ip_address(a) for a in addresses), ttl=ttl, authenticated=ad, rcode="NOERROR"
    )


def host(ip: str, index: int = 2, flags: int = 0x80, scope: int = 0, preferred: bool = True) -> HostAddress:
    """An address as the kernel lists it: permanent, global, on eth0."""
    return HostAddress(ip_address(ip), index, scope, flags, preferred)


def facts(
    *ips: str | HostAddress,
    links: Iterable[Link] = (ETH0,),
    defaults: Iterable[DefaultRoute] = (DefaultRoute(2, 2, 100, "192.0.2.1"),),
    choices: Iterable[RouteChoice] = (),
) -> NetworkFacts:
    """Kernel facts with these addresses."""
    hosts = frozenset(host(ip) if isinstance(ip, str) else ip for ip in ips)
    return NetworkFacts(frozenset(links), hosts, frozenset(defaults), frozenset(choices))


class World:
    """Runs the engine, grants every wish at once; names in `silent` get no answer, those in `mute` no verdict."""

    def __init__(self, settings: Settings | None = None, *, identity: bytes = b"machine", seed: int = 0) -> None:
        self.engine = Engine(settings or Settings(), identity, seed)
        self.now = 1000.0
        self.dns: dict[tuple[str, RRType], Answer] = {}
        self.relays: dict[str, CheckResult] = {}
        self.liars: dict[str, Callable[[], Answer]] = {}  # names whose answer is another one each time
        self.late: Callable[[], float] = lambda: 0.0  # so much later than it wants to, the engine is woken
        self.spoken_to: list[tuple[float, Check]] = []
        self.of_rounds: list[tuple[float, int, Check]] = []  # the same, each with the number of its round
        self._round: object = None
        self._rounds_seen = 0
        self.uncertified: set[str] = set()  # relays whose certificate is not valid
        self.portal: Answer | None = None  # what a captive portal answers to everything; it lets nobody out
        self.silent: set[str] = set()
        self.mute: set[str] = set()
        self.asked: list[Question] = []
        self.checked: list[Check] = []
        self.published: list[Publication] = []
        self.refreshed: list[int] = []
        self.reread = 0
        self.rounds: list[str] = []
        self.ended: list[RoundEnded] = []
        self.in_flight: dict[Question, None] = {}
        self.most_in_flight = 0
        self.conversing: dict[int, Check] = {}
        self.most_conversing = 0
        self.contacts: dict[tuple[IPAddress, int], list[float]] = {}  # when each server was spoken to
        self.outside: IPAddress | None = None
        self.nat_silent = False
        self.nat_requests: list[DiscoverExternalAddress | None] = []

    # --- the tables

    def mx(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.MX] = answer

    def host(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.A] = answer

    def host6(self, name: str, answer: Answer) -> None:
        self.dns[name, RRType.AAAA] = answer

    def answer(self, question: Question) -> Answer:
        if self.portal is not None:
            return self.portal
        if question.name in self.liars:
            return self.liars[question.name]()
        return self.dns.get((question.name, question.rtype), NXDOMAIN)

    # --- what happens

    def start(self, *ips: str | HostAddress) -> None:
        """The agent starts on a network with these addresses."""
        self.send(ServersRead(VIEW), FactsRead(facts(*ips)))

    def move(self, *ips: str | HostAddress) -> None:
        """The host's addresses are these now."""
        self.send(FactsRead(facts(*ips)))

    def refresh(self, token: int = 1) -> None:
        self.send(RefreshAsked(token, root=True))

    def report(self, name: str, port: int = 25, reason: str = "relaying denied") -> None:
        self.send(FailureReported(RelayKey(name, port), reason))

    def give(self, *relays: str, index: int = 2, name: str = "eth0") -> None:
        """The configuration of a link gives these relays, `host` or `host:port`."""
        keys = tuple(RelayKey(h, int(p or 0)) for h, _, p in (relay.partition(" ") for relay in relays))
        self.send(LinkRelaysSet((LinkRelays(index, name, keys),)))

    def send(self, *events: Event) -> None:
        """Post the events, then grant every wish until nothing more is wished for."""
        queue: list[Event] = list(events)
        while True:
            replies = [reply for command in self.engine.handle(queue, self.now) if (reply := self._grant(command))]
            queue = replies
            if not queue:
                return

    def pass_time(self, seconds: float) -> None:
        """Let time pass, waking the engine when it wants to be woken."""
        end = self.now + seconds
        for _ in range(10_000):
            wake = self.engine.wake_at
            if wake is None or wake > end:
                self.now = end
                self.send()
                return
            assert wake >= self.now - 1e-9, "a timer in the past"
            self.now = max(wake, self.now) + self.late()
            before = wake
            self.send()
            assert self.engine.wake_at is None or self.engine.wake_at > before or self.engine.wake_at > self.now, (
                "the engine does not come to rest"
            )
        raise AssertionError("the engine wakes too often")

    def speak(self, name: str) -> None:
        """A silent server or relay answers what it was asked."""
        self.silent.discard(name)
        self.mute.discard(name)
        late: list[Event] = [Answered(q, self.answer(q)) for q in self.in_flight if q.name == name]
        for question in [q for q in self.in_flight if q.name == name]:
            del self.in_flight[question]
        for check in [c for c in self.conversing.values() if c.key.host == name]:
            del self.conversing[check.serial]
            late.append(Checked(check, self._came_of(check)))
        self.send(*late)

    def verdict(self, key: RelayKey) -> CheckResult:
        return DEAD if self.portal is not None else self.relays.get(key.host, OK)

    def _contact(self, check: Check) -> None:
        """Rule D1: one conversation with a server at a time, and no more than its budget allows."""
        for other in self.conversing.values():
            same = other.key.port == check.key.port and set(other.addresses) & set(check.addresses)
            assert not same, "two conversations with one server at the same time"
        for ip in check.addresses:
            times = self.contacts.setdefault((ip, check.key.port), [])
            times[:] = [when for when in times if self.now - when < 50.0]
            times.append(self.now)
            assert len(times) <= 20, "more conversations than the server's budget allows"

    def _number_of_round(self) -> int:
        current = self.engine._rounds.current
        if current is not self._round:
            self._round, self._rounds_seen = current, self._rounds_seen + 1
        return self._rounds_seen

    def _came_of(self, check: Check) -> CheckResult:
        if check.tls == "valid" and check.key.host in self.uncertified:
            return NO_CERTIFICATE
        return self.verdict(check.key)

    def _grant(self, command: Command) -> Event | None:
        match command:
            case Ask(question):
                assert question not in self.in_flight, "asked twice at the same time"
                self.asked.append(question)
                self.in_flight[question] = None
                self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
                if question.name not in self.silent:
                    del self.in_flight[question]
                    return Answered(question, self.answer(question))
            case Drop(question):
                self.in_flight.pop(question, None)
            case Check():
                self._contact(command)
                self.checked.append(command)
                self.spoken_to.append((self.now, command))
                self.of_rounds.append((self.now, self._number_of_round(), command))
                self.conversing[command.serial] = command
                self.most_conversing = max(self.most_conversing, len(self.conversing))
                if command.key.host not in self.mute:
                    del self.conversing[command.serial]
                    return Checked(command, self._came_of(command))
            case Abandon(check):
                self.conversing.pop(check.serial, None)
            case DiscoverExternalAddress():
                self.nat_requests.append(command)
                return None if self.nat_silent else ExternalAddressFound(command, self.outside)
            case ForgetExternalAddress():
                self.nat_requests.append(None)
            case Publish(publication):
                self.published.append(publication)
            case RefreshDone(token):
                self.refreshed.append(token)
            case RereadKernel():
                self.reread += 1
            case RoundEnded(cause):
                self.rounds.append(cause)
                self.ended.append(command)
        return None

    # --- what is seen

    @property
    def said(self) -> Publication:
        return self.engine.publication

    @property
    def state(self) -> str:
        return str(self.said.state)

    @property
    def best(self) -> str:
        best = self.said.best
        return f"{best.host}:{best.port}" if best.host else ""

    @property
    def relay_hosts(self) -> list[str]:
        return [listed.relay.key.host for listed in self.said.relays]

    @property
    def outcomes(self) -> list[str]:
        return [str(evidence.outcome) for evidence in self.said.evidence]

    def questions(self, rtype: RRType = RRType.MX) -> list[str]:
        """The names asked so far for this type, in order."""
        return [q.name for q in self.asked if q.rtype is rtype]

    def dropped(self) -> set[tuple[str, str]]:
        return {(drop.host, drop.rule) for drop in self.said.dropped}
