"""Random schedules for the engine: what happens, in which order, when; and what must hold of it.

A schedule is its seed: `python -m tests.core.schedules --seed N` replays it exactly, `--seeds N` runs many.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address
from itertools import pairwise, takewhile
from random import Random

from salsa_agent.core.events import (
    Answered,
    Check,
    Checked,
    Event,
    ExternalAddressFound,
    FactsRead,
    LinkRelaysSet,
    RefreshAsked,
    Resumed,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.model import (
    Answer,
    DefaultRoute,
    HostAddress,
    IPAddress,
    LinkRelays,
    Outcome,
    Publication,
    Relay,
    RelayEntry,
    RelayKey,
    RRType,
    Source,
    State,
)
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Dns, Network, Sender, Settings, Verify
from tests.core.oracle import work_out
from tests.core.selecting import srv
from tests.core.sim import DEAD, FAILED, OK, VIEW, World, at, facts, host, mx

STATICS = (RelayKey("smtp.clear.net.nz", 25), RelayKey("192.0.2.99", 587))
IPS = ["165.154.15.1", "165.154.15.2", "165.154.16.1", "198.51.100.7", "10.0.0.9", "2001:db8::7"]
HOSTS = [f"r{i}.hookup.net" for i in range(6)]
VICTIMS = [f"v{i}.victim.example" for i in range(60)]
OWN = (RelayKey("smtp.sender.example", 587), RelayKey("backup.sender.example", 587))
OUTSIDES = [None, "203.0.113.200", "192.168.7.7"]
PUBLIC = {ip_address("203.0.113.200"), ip_address("203.0.113.201")}
LONGEST = 60.0  # seconds: a round (E4), then the first delay of D5 and the first retries of B5
BOUNDED_FOR = 600.0  # seconds; D11: in which so many different servers are spoken to
OF_LINK = 8  # D11: different servers in a round on the word of one link, which is all that there is here
MOST_QUESTIONS = 40  # of one round: three addresses, six exchanges, a static name
SRV_QUESTIONS = 30  # of three addresses (B8)
QUIET = 6600.0  # seconds: more than every TTL here but a portal's, and every delay of D5 and E5, at most 1,980 s
FACTS = {
    False: lambda hosts: facts(*hosts),
    True: lambda hosts: facts(*hosts, defaults=[DefaultRoute(2, 2, 100, "192.0.2.254")]),
}


class Schedule:
    """One world that moves at random, the same for the same seed."""

    def __init__(self, seed: int | Random) -> None:
        self.random = random = seed if isinstance(seed, Random) else Random(seed)
        self.static = STATICS[: random.randrange(3)]
        nat = "nat-pmp" if random.random() < 0.2 else "off"
        self.verified = random.random() < 0.8
        self.settings = Settings(
            static_relays=self.static,
            network=Network(nat=nat),
            dns=Dns(srv=random.random() < 0.3),
            verify=Verify(enabled=self.verified),
            senders=tuple(
                Sender((f"*@{network}.example",), tuple(random.sample(OWN, random.randrange(1, 3))), network)
                for network in random.sample(("never", "last", "first"), random.choice((0, 0, 1, 2)))
            ),
        )
        self.world = World(self.settings)
        if random.random() < 0.5:
            self.world.late = lambda: random.choice((0.0, 0.0, 0.001, 0.02))
        self.hosts: list[HostAddress] = []
        self.given: tuple[LinkRelays, ...] = ()
        self.gateway = False
        self.changes = 0
        self.captive = False  # whether a captive portal was met
        self.lied = False  # so that D11 may hold good relays back for a while
        for index, name in enumerate(HOSTS):
            self.world.host(name, at(f"203.0.113.{index + 1}", ttl=3000))
        self.world.host(STATICS[0].host, at("203.0.113.30", ttl=3000))
        for index, key in enumerate(OWN):
            self.world.host(key.host, at(f"203.0.113.{index + 40}", ttl=3000))
        for index, name in enumerate(VICTIMS):
            self.world.host(name, at(f"198.51.100.{index + 100}", ttl=3000))

    # --- what happens

    def run(self) -> None:
        """From the start to the quiet at the end, with everything that must hold on the way."""
        self.start()
        attacked = self.random.random() < 0.5
        for _ in range(self.random.randrange(1, 13)):
            self.random.choice(STEPS + ADVERSARIES if attacked else STEPS)(self)
            self.world.pass_time(self.random.choice(PAUSES))
        self.end()

    def start(self) -> None:
        """The agent starts."""
        self.world.send(ServersRead(VIEW))
        self.roam()

    def end(self) -> None:
        """The world becomes quiet, for the sum of the time limits; then everything is looked at."""
        world = self.world
        if self.captive or self.random.random() < 0.15:
            self.heal()
            world.pass_time(QUIET)
        else:
            self.settle()
            world.pass_time(1.0)
            world.send(Resumed())  # nothing of before survives: failures may stay
            world.pass_time(LONGEST + (BOUNDED_FOR if self.lied else 0.0))
        check_history(world.published, self.settings)
        self.check_end()

    def roam(self) -> None:
        """Other addresses, or none."""
        chosen = self.random.sample(IPS, self.random.choice((0, 1, 1, 2, 3)))
        self.hosts = [host(ip, flags=0x81 if ":" in ip and self.random.random() < 0.5 else 0x80) for ip in chosen]
        self.tell()

    def reroute(self) -> None:
        """Another default route."""
        self.gateway = not self.gateway
        self.tell()

    def tell(self) -> None:
        """The kernel's state, changed or not."""
        self.changes += 1
        self.world.send(FactsRead(FACTS[self.gateway](self.hosts)))

    def publish_set(self) -> None:
        """An operator changes a level."""
        ip = ip_address(self.random.choice(IPS))
        level = self.random.choice((32, 24, 16) if ip.version == 4 else (128, 64, 48))
        self.world.mx(name_at(ip, level), self.random_set())

    def publish_services(self) -> None:
        """An operator changes the SRV records of a level (B8)."""
        ip = ip_address(self.random.choice(IPS))
        level = self.random.choice((32, 24, 16) if ip.version == 4 else (128, 64, 48))
        service = self.random.choice(("_submissions", "_submission"))
        self.world.dns[f"{service}._tcp.{name_at(ip, level)}", RRType.SRV] = self.random_services()

    def random_services(self) -> Answer:
        random = self.random
        if random.random() < 0.4:
            return random.choice((FAILED, Answer(Outcome.NONE, ttl=3000), srv("0:0:0:.", ttl=3000)))
        names = random.sample(HOSTS, random.randrange(1, 4))
        priorities = random.sample((5, 10, 20, 30), len(names))
        words = (
            f"{priority}:1:{random.choice((25, 465, 587))}:{name}."
            for priority, name in zip(priorities, names, strict=True)
        )
        return srv(*words, ttl=random.choice((30, 3000, 3000)))

    def random_set(self) -> Answer:
        random = self.random
        if random.random() < 0.25:
            return random.choice((FAILED, Answer(Outcome.NONE, ttl=3000), mx("0:.", ttl=3000)))
        names = random.sample(HOSTS, random.randrange(1, 4))
        preferences = random.sample((5, 10, 20, 30), len(names))
        words = (f"{preference}:{name}." for preference, name in zip(preferences, names, strict=True))
        return mx(*words, ttl=random.choice((30, 3000, 3000)))

    def move_host(self) -> None:
        """An exchange gets another address, none, this host's own, or its lookup fails."""
        mine = str(self.hosts[0].ip) if self.hosts and self.hosts[0].ip.version == 4 else "203.0.113.9"
        index = self.random.randrange(len(HOSTS))
        # addresses of this name's own: relays live and die by name here, and the agent's verdicts are on servers (D1)
        choices = [at(f"203.0.113.{self.random.choice((1, 101)) + index}", ttl=3000), at(mine, ttl=3000)]
        self.world.host(HOSTS[index], self.random.choice([*choices, FAILED, Answer(Outcome.NONE)]))

    def turn_relay(self) -> None:
        """A relay dies or comes back."""
        self.world.relays[self.random.choice([*HOSTS, STATICS[0].host])] = self.random.choice((OK, DEAD))

    def hush(self) -> None:
        """A name is no longer answered, or is again; a relay hangs, or speaks again."""
        self.world.silent ^= {self.random.choice([*HOSTS, name_at(ip_address(self.random.choice(IPS)), 32)])}
        self.world.mute ^= {self.random.choice(HOSTS)}
        self.world.nat_silent = self.random.random() < 0.3

    def refresh(self) -> None:
        self.world.refresh(self.random.randrange(1000))

    def report(self) -> None:
        """A user complains about one of the list."""
        if self.world.said.relays:
            key = self.random.choice(self.world.said.relays).relay.key
            self.world.report(key.host, key.port)

    def give(self) -> None:
        """A link's configuration names relays, or none."""
        keys = (RelayKey("192.0.2.25", 0), RelayKey(HOSTS[0], 0), RelayKey(HOSTS[1], 587))
        chosen = tuple(self.random.sample(keys, self.random.randrange(0, 3)))
        self.given = (LinkRelays(2, "eth0", chosen),)
        self.world.send(LinkRelaysSet(self.given))

    def move_outside(self) -> None:
        """The NAT gets another external address, or ends."""
        text = self.random.choice(OUTSIDES)
        self.world.outside = ip_address(text) if text else None

    def reload(self) -> None:
        self.world.send(SettingsRead(self.settings))

    def storm(self) -> None:
        """Many changes at once; the last one counts."""
        for _ in range(self.random.randrange(2, 20)):
            self.roam()

    def meet_portal(self) -> None:
        """A network whose captive portal says that there is nothing, for longer than this world is watched (E5)."""
        ttl = 3 * 3600 if self.verified else 3000  # without verification nobody sees that nothing works
        self.world.portal = Answer(Outcome.NONE, rcode="NXDOMAIN", ttl=ttl)
        self.captive = True
        self.gateway = not self.gateway
        self.roam()

    def log_in(self) -> None:
        """The portal lets the host out, after a while; the kernel hears nothing of it."""
        if self.world.portal is not None:
            self.world.pass_time(LONGEST)  # the first round on this network is over, and nothing was `ok`
            self.world.portal = None

    # --- adversaries

    def lie(self) -> None:
        """A server answers otherwise each time, with the exchanges and TTLs that it likes."""
        ip = ip_address(self.random.choice(IPS))
        level = self.random.choice((32, 24, 16) if ip.version == 4 else (128, 64, 48))
        self.world.liars[name_at(ip, level)] = self.random_lie
        self.world.relays |= dict.fromkeys(VICTIMS, self.random.choice((OK, DEAD)))
        self.lied = True

    def random_lie(self) -> Answer:
        return mx(*(f"{n}:{name}." for n, name in enumerate(self.random.sample(VICTIMS, OF_LINK + 1))), ttl=0)

    def flap_address(self) -> None:
        """An address comes and goes, each second, as a router advertisement may have it."""
        held = list(self.hosts)
        for _ in range(self.random.randrange(3, 12)):
            self.hosts = held[: len(held) // 2 + self.random.randrange(2)]
            self.tell()
            self.world.pass_time(self.random.choice((0.2, 1.0)))
        self.hosts = held
        self.tell()

    def flap_relay(self) -> None:
        """A relay that answers now and then."""
        name = self.random.choice([*HOSTS, *(key.host for key in OWN)])
        for result in (DEAD, OK, DEAD, self.random.choice((OK, DEAD))):
            self.world.relays[name] = result
            self.world.pass_time(self.random.choice((1.0, 35.0)))

    def complain(self) -> None:
        """Reports between calls of `Refresh` that are not root's."""
        for _ in range(self.random.randrange(1, 4)):
            self.report()
            self.world.send(RefreshAsked(self.random.randrange(1000), root=False))
            self.world.pass_time(self.random.choice((0.1, 1.1)))

    def churn(self) -> None:
        """A link's configuration names other relays again and again."""
        for _ in range(self.random.randrange(2, 6)):
            self.give()
            self.world.pass_time(self.random.choice((0.0, 0.3)))

    def settle(self) -> None:
        """Everything that was held back comes, and who lies says the same again."""
        world = self.world
        self.log_in()
        for name, lie in world.liars.items():
            world.mx(name, lie())
        world.liars.clear()
        for name in VICTIMS:  # else D11 would hold back what stands behind them, which the oracle knows nothing of
            world.relays.pop(name, None)
        world.silent.clear()
        world.mute.clear()
        world.nat_silent = False
        late: list[Event] = [Answered(question, world.answer(question)) for question in world.in_flight]
        world.in_flight.clear()
        late += [Checked(check, world.verdict(check.key)) for check in world.conversing.values()]
        world.conversing.clear()
        if world.nat_requests and (request := world.nat_requests[-1]) is not None:
            late.append(ExternalAddressFound(request, world.outside))
        world.send(*late)

    def heal(self) -> None:
        """No lookup fails any more, and nothing is held back."""
        for key, answer in list(self.world.dns.items()):
            if answer.outcome is Outcome.FAILED:
                self.world.dns[key] = Answer(Outcome.NONE, ttl=60)
        if self.world.outside is None:  # on an unchanged network no answer takes nothing away
            self.world.outside = ip_address("203.0.113.201")
        self.settle()

    # --- what must hold

    def check_end(self) -> None:
        """Once quiet, what is published is what the oracle works out, and nothing is left behind."""
        world = self.world
        dead = {name for name, result in world.relays.items() if result == DEAD}
        nat = self.settings.network.nat != "off" and any(one.ip.version == 4 for one in self.hosts)
        outside = world.outside if nat and world.outside in PUBLIC else None
        check_servers(world.of_rounds)
        truth = work_out(
            self.hosts,
            outside,
            self.given,
            self.static,
            world.dns,
            dead,
            verified=self.verified,
            srv=self.settings.dns.srv,
        )
        said = world.said
        assert [listed.relay.key for listed in said.relays] == truth.relays
        assert (said.best.host, said.best.port) == ((truth.best.host, truth.best.port) if truth.best else ("", 0))
        assert [(str(one.address.ip), str(one.outcome)) for one in said.evidence] == truth.outcomes
        expected = State.OFFLINE if not self.hosts else State.DEGRADED if truth.failing else State.READY
        assert said.state is expected, (said.state, expected)
        self.check_senders([listed.relay for listed in said.relays], dead)
        assert not world.in_flight
        assert not world.conversing
        assert world.engine.idle
        assert world.most_in_flight <= 64
        assert world.most_conversing <= 4
        most = MOST_QUESTIONS + SRV_QUESTIONS * self.settings.dns.srv
        assert len(world.asked) <= most * (self.changes + len(world.rounds) + 1), "work is not bounded"

    def check_senders(self, network: list[Relay], dead: set[str]) -> None:
        """Each sender's list is that of its entry, and its best relay the first that answers, else its own first."""
        of_network = [relay.key for relay in network if relay.source is not Source.STATIC]
        for sender, choice in zip(self.settings.senders, self.world.said.senders, strict=True):
            own = list(sender.relays)
            orders: dict[str, list[RelayEntry]] = {
                "never": own,
                "last": [*own, *of_network, *self.static],
                "first": [*of_network, *own, *self.static],
            }
            keys = [key for key in dict.fromkeys(orders[sender.network]) if isinstance(key, RelayKey)]
            assert [listed.relay.key for listed in choice.relays] == keys
            good = [key for key in keys if key.host not in dead] if self.verified else keys
            assert choice.decided
            best = RelayKey(choice.best.host, choice.best.port)
            assert best == (good[0] if good and self.hosts else own[0])


PAUSES = (0.0, 0.01, 0.3, 3.0, 40.0, 400.0)  # seconds between two steps
STEPS = (
    Schedule.roam, Schedule.roam, Schedule.reroute, Schedule.tell, Schedule.publish_set, Schedule.publish_set,
    Schedule.publish_set, Schedule.publish_services, Schedule.publish_services,
    Schedule.move_host, Schedule.turn_relay, Schedule.hush, Schedule.refresh, Schedule.report,
    Schedule.give, Schedule.move_outside, Schedule.reload, Schedule.storm, Schedule.settle,
    Schedule.meet_portal, Schedule.log_in,
)  # fmt: skip
ADVERSARIES = (Schedule.lie, Schedule.flap_address, Schedule.flap_relay, Schedule.complain, Schedule.churn)


def check_servers(spoken_to: list[tuple[float, int, Check]]) -> None:
    """D11: how many different servers are spoken to on the network's word, in any ten minutes and in a round."""
    named = [
        (when, number, (ip, check.key.port))
        for when, number, check in spoken_to
        for ip in check.addresses
        if not check.administrator
    ]
    of_round: dict[int, set[tuple[IPAddress, int]]] = {}
    for first, (begun, number, server) in enumerate(named):
        window = [one for *_, one in takewhile(lambda one: one[0] < begun + BOUNDED_FOR, named[first:])]  # noqa: B023
        assert len(set(window)) <= 30, "too many different servers"
        of_round.setdefault(number, set()).add(server)
        assert len(of_round[number]) <= OF_LINK, "too many different servers in a round"


def check_history(said: list[Publication], settings: Settings) -> None:
    """What holds of every publication, and of each beside the one before."""
    for before, after in pairwise([Publication(), *said]):
        assert after != before or after.dropped != before.dropped, "published without a change"
        keys = [listed.relay.key for listed in after.relays]
        assert len(keys) == len(set(keys))
        if after.best.host:
            assert RelayKey(after.best.host, after.best.port) in keys, "the best is not in the list"
        else:
            assert not settings.static_relays or after.state is State.STARTING
        if after.state is not State.STARTING:
            assert set(settings.static_relays) <= set(keys), "a static relay is missing"
        if (after.best.host, after.best.port) == (before.best.host, before.best.port):
            assert after.changed == before.changed
        else:
            assert after.changed is not None


def failing(seeds: range) -> int | None:
    """The first seed of these whose schedule does not hold."""
    for seed in seeds:
        try:
            Schedule(seed).run()
        except AssertionError:
            return seed
    return None


def run_many(count: int, first: int = 0, block: int = 250) -> int | None:
    """Run `count` schedules on all processors; the first failing seed found, else None."""
    blocks = [range(start, min(start + block, first + count)) for start in range(first, first + count, block)]
    with ProcessPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:
        done = 0
        for number, found in enumerate(pool.map(failing, blocks)):
            if found is not None:
                pool.shutdown(cancel_futures=True)
                return found
            done += len(blocks[number])
            if sys.stderr.isatty():
                print(f"\r{done} of {count} schedules hold", end="", file=sys.stderr, flush=True)
    return None


def main() -> int:
    """Run schedules by hand."""
    parser = argparse.ArgumentParser(prog="simulate", description="Run the engine through random schedules.")
    parser.add_argument("--seeds", type=int, default=20_000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="replay this one only, with its assertion")
    given = parser.parse_args()
    if given.seed is not None:
        Schedule(given.seed).run()
        print(f"seed {given.seed} holds")
        return 0
    found = run_many(given.seeds, given.first)
    if found is not None:
        print(f"\nseed {found} does not hold; replay it with: --seed {found}")
        return 1
    print(f"\n{given.seeds} schedules hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
