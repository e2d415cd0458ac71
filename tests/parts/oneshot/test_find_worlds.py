"""`find` says what the agent says, on 2,000 random worlds: the same engine by two wirings, in simulated time.

The drivers are tables here, as in `tests.core.sim`: kernel, DNS and relays of 2,000 worlds cannot be real. What `find`
does with the engine (`Search`, when it stops, whom it leaves out) is its own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any, NamedTuple

import pytest

from salsa_agent.cli.salsactl.find import _status
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
    ForgetExternalAddress,
    LinkInfoRead,
    LinkRelaysSet,
    ServersRead,
)
from salsa_agent.core.model import (
    Answer,
    Best,
    CheckResult,
    DefaultRoute,
    Link,
    LinkInfo,
    Outcome,
    Publication,
    RelayKey,
    RRType,
    State,
    Verdict,
)
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Network, Sender, Settings, Site, Verify
from salsa_agent.oneshot import find as module
from salsa_agent.oneshot.find import find, is_decided
from salsa_agent.system.supervision import Part
from tests.core.sim import DEAD, FAILED, NXDOMAIN, OK, VIEW, at, facts, host, mx

WORLDS = 2000
LONGEST = 60.0  # seconds: twice the longest round (E4)
IPS = ["165.154.15.1", "165.154.15.2", "165.154.16.1", "198.51.100.7", "10.0.0.9", "2001:db8::7"]
HOSTS = [f"r{number}.hookup.net" for number in range(6)]
STATICS = (RelayKey("smtp.clear.net.nz", 25), RelayKey("192.0.2.99", 587))
OWN = (RelayKey("smtp.sender.example", 587), RelayKey("backup.sender.example", 587))
OF_SITES = (RelayKey("mail.corp.example", 25), RelayKey("192.0.2.77", 587))
INPUTS: tuple[type[Event], ...] = (FactsRead, ServersRead, LinkInfoRead)
LINKS = (Link(2, "eth0", usable=True), Link(3, "wlan0", usable=True))
NO_ANSWER = Answer(Outcome.FAILED, reason="192.0.2.53: timed out")
SILENCE = CheckResult(Verdict.FAILED, "connect: timed out")


class World:
    """One world, the same for the same seed. `silent`: names and relays that let time pass and fail then."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        chosen = random.sample(IPS, random.choice((0, 1, 1, 2, 3)))
        links = LINKS[: random.choice((1, 1, 2))]
        hosts = [host(ip, random.choice(links).index, 0x81 if ":" in ip and random.random() < 0.3 else 0x80)
                 for ip in chosen]  # fmt: skip
        defaults = [DefaultRoute(2, link.index, random.choice((100, 200)), "192.0.2.254") for link in links]
        self.facts = facts(*hosts, links=links, defaults=random.sample(defaults, random.randrange(len(defaults) + 1)))
        self.infos = tuple(
            LinkInfo(link.index, random.choice(((), ("corp.example",), (".",))), random.choice(("", "Office")))
            for link in links
        )
        self.dns: dict[tuple[str, RRType], Answer] = {}
        self.dead = set(
            random.sample([*HOSTS, *(key.host for key in (*STATICS, *OWN, *OF_SITES))], random.choice((0, 1, 4, 9)))
        )
        self.silent: set[str] = set()
        self._publish([str(ip) for ip in chosen])
        if random.random() < 0.2:
            self.silent = set(random.sample([*HOSTS, STATICS[0].host, *(name for name, _ in self.dns)], 3))
        self.outside = random.choice((None, ip_address("203.0.113.200"), ip_address("192.168.7.7")))
        self.settings = self._settings()
        self.sender = random.choice(("", "", "me@never.example", "me@last.example", "me@first.example"))

    def _publish(self, own: list[str]) -> None:
        random = self.random
        for ip in map(ip_address, [*own, "203.0.113.200"]):
            for level in (32, 24, 16) if ip.version == 4 else (128, 64, 56, 48, 32):
                if random.random() < 0.4:
                    self.dns[name_at(ip, level), RRType.MX] = self._set()
        for number, name in enumerate(HOSTS):
            mine = own[0] if own and ":" not in own[0] else "203.0.113.9"
            some = [at(f"203.0.113.{number + 1}")] * 5
            answer = random.choice([*some, at(mine), FAILED, NXDOMAIN, at("127.0.0.1")])
            self.dns[name, RRType.A] = answer
        for number, key in enumerate((STATICS[0], *OWN, OF_SITES[0])):
            self.dns[key.host, RRType.A] = at(f"203.0.113.{number + 40}")

    def _set(self) -> Answer:
        if self.random.random() < 0.25:
            return self.random.choice((FAILED, NXDOMAIN, mx("0:.")))
        names = self.random.sample(HOSTS, self.random.randrange(1, 4))
        return mx(*(f"{self.random.choice((5, 10, 20))}:{name}." for name in names))

    def _settings(self) -> Settings:
        random = self.random
        criteria: list[dict[str, Any]] = [
            {"prefix": (ip_network("165.154.0.0/16"),)},
            {"interface": ("wl*",)},
            {"domain": ("corp.example",)},
            {"connection": ("Office",)},
        ]
        sites = tuple(
            Site(f"site {number}", relays=tuple(random.sample(OF_SITES, random.choice((1, 2)))),
                 use=random.choice(("first", "last", "only")), **random.choice(criteria))
            for number in range(random.choice((0, 0, 1, 2)))
        )  # fmt: skip
        senders = tuple(
            Sender((f"*@{network}.example",), tuple(random.sample(OWN, random.randrange(1, 3))), network)
            for network in random.sample(("never", "last", "first"), random.choice((0, 1, 2, 3)))
        )
        return Settings(
            static_relays=STATICS[: random.randrange(3)],
            network=Network(nat=random.choice(("off", "off", "off", "nat-pmp"))),
            verify=Verify(enabled=random.random() < 0.8),
            sites=sites,
            senders=senders,
        )

    def answer(self, name: str, rtype: RRType) -> Answer:
        return NO_ANSWER if name in self.silent else self.dns.get((name, rtype), NXDOMAIN)

    def verdict(self, key: RelayKey) -> CheckResult:
        return SILENCE if key.host in self.silent else DEAD if key.host in self.dead else OK

    def pause(self, name: str, long: float) -> float:
        """Seconds until an answer, the same for the same name."""
        return long if name in self.silent else Random(f"{self.seed} {name}").choice((0.0, 0.01, 0.1))


class Clockwork:
    """An engine in a world, in simulated time. What `DrivenEngine` is to the real one."""

    def __init__(self, world: World, settings: Settings, on_event: Callable[[Event], None],
                 on_command: Callable[[Command], None]) -> None:  # fmt: skip
        self.engine = Engine(settings, b"machine", seed=world.seed)
        self.now = 0.0
        self.twice = False  # it had decided something before it had read everything
        self._world, self._on_event, self._on_command = world, on_event, on_command
        self._due: list[tuple[float, int, Event]] = []
        self._serial = 0

    def post(self, event: Event, after: float = 0.0) -> None:
        self._serial += 1
        heappush(self._due, (self.now + after, self._serial, event))

    def step(self) -> bool:
        """Go on to the next moment at which something happens; False: nothing ever does."""
        assert self.now < LONGEST, "it does not decide"
        times = [when for when in (self._due[0][0] if self._due else None, self.engine.wake_at) if when is not None]
        if not times:
            return False
        self.now = max(self.now, min(times))
        batch: list[Event] = []
        while self._due and self._due[0][0] <= self.now:
            batch.append(heappop(self._due)[2])
        for event in batch:
            self.twice |= type(event) in INPUTS and is_decided(self.engine.publication, None)
            self._on_event(event)
        for command in self.engine.handle(batch, self.now):
            self._on_command(command)
            self._execute(command)
        return True

    def _execute(self, command: Command) -> None:
        world = self._world
        match command:
            case Ask(question):
                self.post(
                    Answered(question, world.answer(question.name, question.rtype)), world.pause(question.name, 4.0)
                )
            case Check():
                self.post(Checked(command, world.verdict(command.key)), world.pause(command.key.host, 10.0))
            case DiscoverExternalAddress():
                self.post(ExternalAddressFound(command, world.outside), world.pause("nat", 0.0))
            case Drop() | Abandon() | ForgetExternalAddress():
                wanted = command[0] if not isinstance(command, ForgetExternalAddress) else None
                self._due = [one for one in self._due if _of(one[2]) != wanted or wanted is None]
                self._due.sort()


def _of(event: Event) -> object:
    return event[0] if isinstance(event, Answered | Checked) else None


class Simulated:
    """Stands in for `DrivenEngine`, of which `Search` uses this much."""

    world: World
    latest: Clockwork

    def __init__(
        self, settings: Settings, *, on_event: Callable[[Event], None], on_command: Callable[[Command], None]
    ) -> None:
        self._clockwork = Clockwork(self.world, settings, on_event, on_command)
        self.engine = self._clockwork.engine
        Simulated.latest = self._clockwork
        self.loop = self
        self._offsets = Random(f"{self.world.seed} find")

    def of_the_host(self) -> dict[str, Part]:
        return {"kernel and time": self._run}

    async def _run(self) -> None:
        self._clockwork.post(FactsRead(self.world.facts), self._offsets.choice((0.0, 0.02)))
        while self._clockwork.step():
            for _ in range(6):  # whoever waits for news gets its turn
                await asyncio.sleep(0)
        await asyncio.Event().wait()

    def of_the_links(self) -> dict[str, Part]:
        return {"links": self._links}

    async def _links(self) -> None:
        for event in (ServersRead(VIEW), LinkInfoRead(self.world.infos)):
            self._clockwork.post(event, self._offsets.choice((0.0, 0.02, 0.3)))
        await asyncio.Event().wait()

    def stop(self) -> None: ...

    async def close(self) -> None: ...


@contextmanager
def simulated(world: World) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulated, "world", world, raising=False)
        patch.setattr(module, "DrivenEngine", Simulated)
        yield


class Said(NamedTuple):
    """What is compared: the relay, with port and source, the exit status that a script sees, and the state.

    `state`: None where it is not about this list (C11), or where a decision came before everything was read: which
    failures are known of by the time of the second one, and make it `degraded`, depends on what was asked before.
    """

    best: Best
    status: int
    state: State | None


def of(said: Publication, clockwork: Clockwork, world: World) -> Said:
    state = None if world.sender or clockwork.twice else said.state
    return Said(said.best, _status(said) if said.best.host else 1, state)


def agent(world: World) -> Said:
    """The agent's first decision after it has read everything, in an order of its own."""
    read: set[type[Event]] = set()
    clockwork = Clockwork(world, world.settings, lambda event: read.add(type(event)), lambda _: None)
    offsets = Random(f"{world.seed} agent")
    clockwork.post(LinkRelaysSet(()))
    for event in (FactsRead(world.facts), ServersRead(VIEW), LinkInfoRead(world.infos)):
        clockwork.post(event, offsets.choice((0.0, 0.02, 0.3)))
    place = next((place for place, one in enumerate(world.settings.senders) if world.sender
                  and one.address == (f"*{world.sender[2:]}",)), None)  # fmt: skip
    while clockwork.step():
        said = clockwork.engine.publication
        if read.issuperset(INPUTS) and is_decided(said, place):
            if place is not None:
                said = Publication(said.state, said.senders[place].best, said.senders[place].relays)
            return of(said, clockwork, world)
    raise AssertionError("the agent does not decide")


async def found(world: World) -> Said:
    with simulated(world):
        said = await find(world.settings, 60.0, sender=world.sender)
    assert said is not None, "find does not decide"
    return of(said, Simulated.latest, world)


@pytest.mark.timeout(300)
async def test_find_says_what_the_agent_says_on_2000_worlds() -> None:
    kinds: set[tuple[str, str, int]] = set()
    states_compared = 0
    for seed in range(WORLDS):
        world = World(seed)
        by_agent, by_find = agent(world), await found(world)
        if by_agent.state is None or by_find.state is None:
            by_agent, by_find = by_agent._replace(state=None), by_find._replace(state=None)
        else:
            states_compared += 1
        assert by_find == by_agent, f"seed {seed}"
        kinds.add((str(by_agent.best.source), str(by_agent.state), by_agent.status))
    assert {source for source, _, _ in kinds} == {"site", "dns", "sender", "static", "none"}
    assert {state for _, state, _ in kinds} == {"ready", "degraded", "offline", "None"}
    assert {status for _, _, status in kinds} == {0, 1}
    assert states_compared > WORLDS / 4, "the worlds compare too little"
