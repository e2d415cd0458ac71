"""Random schedules for the engine: what happens, in which order, when; and what must hold of it.

A schedule is its seed: `python -m tests.core.schedules --seed N` replays it exactly, `--seeds N` runs many.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address, ip_network
from itertools import pairwise
from random import Random

from salsa_agent.core.events import (
    Answered,
    Checked,
    Event,
    ExternalAddressFound,
    FactsRead,
    LinkRelaysSet,
    Resumed,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.model import (
    Answer,
    DefaultRoute,
    HostAddress,
    LinkRelays,
    Outcome,
    Publication,
    RelayEntry,
    RelayKey,
    RRType,
    SrvEntry,
    State,
)
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Network, Sender, Settings, Site, Verify
from tests.core.oracle import Case, work_out
from tests.core.selecting import srv
from tests.core.sim import DEAD, FAILED, OK, VIEW, World, at, facts, host, mx

STATICS = (RelayKey("smtp.clear.net.nz", 25), RelayKey("192.0.2.99", 587))
DOMAIN = SrvEntry("home.example")
IPS = ["165.154.15.1", "165.154.15.2", "165.154.16.1", "198.51.100.7", "10.0.0.9", "2001:db8::7"]
HOSTS = [f"r{i}.hookup.net" for i in range(6)]
TARGETS = ["m0.home.example", "m1.home.example"]
PREFIXES = ("165.154.0.0/16", "198.51.100.0/24", "10.0.0.0/8", "2001:db8::/32")
OUTSIDES = [None, "203.0.113.200", "192.168.7.7"]
PUBLIC = {ip_address("203.0.113.200"), ip_address("203.0.113.201")}
LONGEST = 60.0  # seconds: a round (E4), then the first delay of D5 and the first retries of B5
MOST_QUESTIONS = 54  # of one round: three addresses, six exchanges, three names, two services with two targets
QUIET = 6600.0  # seconds: more than every TTL here and every delay of D5, of which the longest is 1,980 s
FACTS = {
    False: lambda hosts: facts(*hosts),
    True: lambda hosts: facts(*hosts, defaults=[DefaultRoute(2, 2, 100, "192.0.2.254")]),
}


class Schedule:
    """One world that moves at random, the same for the same seed."""

    def __init__(self, seed: int | Random) -> None:
        self.random = random = seed if isinstance(seed, Random) else Random(seed)
        pool: list[RelayEntry] = [*STATICS, DOMAIN]
        self.static = tuple(random.sample(pool, random.randrange(3)))
        self.sites = self.random_sites()
        self.senders = self.random_senders()
        nat = "nat-pmp" if random.random() < 0.2 else "off"
        self.verified = random.random() < 0.8
        self.settings = Settings(
            static_relays=self.static,
            sites=self.sites,
            senders=self.senders,
            network=Network(nat=nat),
            verify=Verify(enabled=self.verified),
        )
        self.world = World(self.settings)
        self.hosts: list[HostAddress] = []
        self.given: tuple[LinkRelays, ...] = ()
        self.gateway = False
        self.changes = 0
        for index, name in enumerate(HOSTS):
            self.world.host(name, at(f"203.0.113.{index + 1}", ttl=3000))
        self.world.host(STATICS[0].host, at("203.0.113.30", ttl=3000))
        for index, name in enumerate((*TARGETS, "mx.evil.example")):
            self.world.host(name, at(f"203.0.113.{40 + index}", ttl=3000))

    def random_sites(self) -> tuple[Site, ...]:
        """Mostly no site; else one that holds on some of the networks."""
        random = self.random
        if random.random() < 0.7:
            return ()
        use = random.choice(("first", "last", "only"))
        pool: list[RelayEntry] = [RelayKey(HOSTS[2], 25), RelayKey("192.0.2.26", 25), DOMAIN]
        relays = random.sample(pool, random.randrange(1, 3))
        prefixes = tuple(ip_network(prefix) for prefix in random.sample(PREFIXES, 2))
        empty = use == "only" and random.random() < 0.5
        return (Site("here", prefix=prefixes, relays=() if empty else tuple(relays), use=use),)

    def random_senders(self) -> tuple[Sender, ...]:
        """Mostly no sender; else one or two."""
        random = self.random
        if random.random() < 0.6:
            return ()
        pool: list[RelayEntry] = [RelayKey(HOSTS[3], 587), RelayKey("192.0.2.27", 587), DOMAIN]
        return tuple(
            Sender((f"*@{mode}.example",), tuple(random.sample(pool, random.randrange(1, 3))), mode)
            for mode in random.sample(("never", "last", "first"), random.randrange(1, 3))
        )

    # --- what happens

    def run(self) -> None:
        """From the start to the quiet at the end, with everything that must hold on the way."""
        self.start()
        for _ in range(self.random.randrange(1, 13)):
            self.random.choice(STEPS)(self)
            self.world.pass_time(self.random.choice(PAUSES))
        self.end()

    def start(self) -> None:
        """The agent starts."""
        self.world.send(ServersRead(VIEW))
        self.roam()

    def end(self) -> None:
        """The world becomes quiet, for the sum of the time limits; then everything is looked at."""
        world = self.world
        if self.random.random() < 0.15:
            self.heal()
            world.pass_time(QUIET)
        else:
            self.settle()
            world.pass_time(1.0)
            world.send(Resumed())  # nothing of before survives: failures may stay
            world.pass_time(LONGEST)
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

    def random_set(self) -> Answer:
        random = self.random
        if random.random() < 0.25:
            return random.choice((FAILED, Answer(Outcome.NONE, ttl=3000), mx("0:.", ttl=3000)))
        names = random.sample(HOSTS, random.randrange(1, 4))
        preferences = random.sample((5, 10, 20, 30), len(names))
        words = (f"{preference}:{name}." for preference, name in zip(preferences, names, strict=True))
        return mx(*words, ttl=random.choice((30, 3000, 3000)))

    def publish_service(self) -> None:
        """The home provider changes the records of a service."""
        random = self.random
        names = random.sample([*TARGETS, "mx.evil.example"], random.randrange(1, 3))
        service, port = random.choice((("submissions", 465), ("submission", 587)))
        priorities = random.sample((0, 10, 20), len(names))
        words = [f"{priority}:1:{port}:{name}." for priority, name in zip(priorities, names, strict=True)]
        ttl = random.choice((30, 3000))
        none = Answer(Outcome.NONE, ttl=3000)
        answer = random.choice((srv(*words, ttl=ttl), srv(*words, ttl=ttl), srv("0:0:0:.", ttl=ttl), none))
        self.world.dns[f"_{service}._tcp.{DOMAIN.domain}", RRType.SRV] = answer

    def move_host(self) -> None:
        """An exchange gets another address, none, this host's own, or its lookup fails."""
        mine = str(self.hosts[0].ip) if self.hosts and self.hosts[0].ip.version == 4 else "203.0.113.9"
        names = [*HOSTS, *TARGETS]
        number = self.random.randrange(len(names))
        # of its own: names at one server have one verdict (D1), while here relays live and die by their names
        other = f"203.0.113.{50 + 2 * number + self.random.randrange(2)}"
        choices = [at(other, ttl=3000), at(mine, ttl=3000), FAILED, Answer(Outcome.NONE)]
        self.world.host(names[number], self.random.choice(choices))

    def turn_relay(self) -> None:
        """A relay dies or comes back."""
        self.world.relays[self.random.choice([*HOSTS, *TARGETS, STATICS[0].host])] = self.random.choice((OK, DEAD))

    def hush(self) -> None:
        """A name is no longer answered, or is again; a relay hangs, or speaks again."""
        level = name_at(ip_address(self.random.choice(IPS)), 32)
        self.world.silent ^= {self.random.choice([*HOSTS, *TARGETS, "_submissions._tcp.home.example", level])}
        self.world.mute ^= {self.random.choice([*HOSTS, *TARGETS])}
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

    def settle(self) -> None:
        """Everything that was held back comes."""
        world = self.world
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
        truth = work_out(
            Case(self.hosts, outside, self.given, self.static, world.dns, dead, self.verified, self.sites, self.senders)
        )
        said = world.said
        assert [listed.relay.key for listed in said.relays] == truth.relays
        assert (said.best.host, said.best.port) == ((truth.best.host, truth.best.port) if truth.best else ("", 0))
        assert [(str(one.address.ip), str(one.outcome)) for one in said.evidence] == truth.outcomes
        senders = [([one.relay.key for one in sender.relays], sender.best) for sender in said.senders]
        assert [
            (keys, RelayKey(best.host, best.port) if best.host else None) for keys, best in senders
        ] == truth.senders
        assert all(sender.decided for sender in said.senders)
        expected = State.OFFLINE if not self.hosts else State.DEGRADED if truth.failing else State.READY
        assert said.state is expected, (said.state, expected)
        assert not world.in_flight
        assert not world.conversing
        assert world.engine.idle
        assert world.most_in_flight <= 64
        assert world.most_conversing <= 4
        assert len(world.asked) <= MOST_QUESTIONS * (self.changes + len(world.rounds) + 1), "work is not bounded"


PAUSES = (0.0, 0.01, 0.3, 3.0, 40.0, 400.0)  # seconds between two steps
STEPS = (
    Schedule.roam, Schedule.roam, Schedule.reroute, Schedule.tell, Schedule.publish_set, Schedule.publish_set,
    Schedule.publish_set, Schedule.move_host, Schedule.turn_relay, Schedule.hush, Schedule.refresh, Schedule.report,
    Schedule.give, Schedule.move_outside, Schedule.reload, Schedule.storm, Schedule.settle,
    Schedule.publish_service,
)  # fmt: skip


def check_history(said: list[Publication], settings: Settings) -> None:
    """What holds of every publication, and of each beside the one before."""
    plain = {key for key in settings.static_relays if isinstance(key, RelayKey)}
    for before, after in pairwise([Publication(), *said]):
        assert after != before or after.dropped != before.dropped, "published without a change"
        keys = [listed.relay.key for listed in after.relays]
        assert len(keys) == len(set(keys))
        if after.best.host:
            assert RelayKey(after.best.host, after.best.port) in keys, "the best is not in the list"
        else:
            assert not plain or after.state is State.STARTING
        if after.state is not State.STARTING:
            assert plain <= set(keys), "a static relay is missing"
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
