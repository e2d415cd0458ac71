"""The engine in a world that moves at random: what must hold at every step, and once it is quiet again."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from salsa_agent.core.events import Answered, Checked, Event, FactsRead
from salsa_agent.core.model import Answer, DefaultRoute, Outcome, Publication, RelayKey, RRType, State, Verdict
from salsa_agent.core.reverse import name_at
from salsa_agent.core.settings import Settings, Verify
from tests.sim import DEAD, FAILED, OK, VIEW, ServersRead, World, at, facts, host, mx

STATICS = (RelayKey("smtp.clear.net.nz", 25), RelayKey("192.0.2.99", 587))
IPS = ["165.154.15.1", "165.154.15.2", "165.154.16.1", "198.51.100.7", "10.0.0.9", "2001:db8::7"]
HOSTS = [f"r{i}.hookup.net" for i in range(6)]
QUIET = 3 * 3600.0  # more than every TTL here and the longest delay of D5


def settle(world: World) -> None:
    """Everything that was held back comes."""
    world.silent.clear()
    world.mute.clear()
    late: list[Event] = [Answered(question, world.answer(question)) for question in world.in_flight]
    world.in_flight.clear()
    late += [Checked(check, world.verdict(check.key)) for check in world.conversing.values()]
    world.conversing.clear()
    world.send(*late)


def random_step(world: World, random: Random) -> None:
    """One thing that happens."""
    kind = random.randrange(9)
    if kind <= 1:
        chosen = random.sample(IPS, random.randrange(0, 4))
        gateway = DefaultRoute(2, 2, 100, f"192.0.2.{random.randrange(1, 3)}")
        temporary = [host(ip, flags=0x81) if ":" in ip and random.random() < 0.5 else host(ip) for ip in chosen]
        world.send(FactsRead(facts(*temporary, defaults=[gateway])))
    elif kind == 2:
        ip = host(random.choice(IPS)).ip
        level = random.choice((32, 24, 16) if ip.version == 4 else (128, 64, 48))
        world.mx(name_at(ip, level), random_set(random))
    elif kind == 3:
        name = random.choice(HOSTS)
        answer = random.choice([at(f"203.0.113.{random.randrange(1, 9)}", ttl=300), FAILED, Answer(Outcome.NONE)])
        world.dns[name, RRType.A] = answer
    elif kind == 4:
        world.relays[random.choice([*HOSTS, STATICS[0].host])] = random.choice([OK, DEAD])
    elif kind == 5:
        world.silent ^= {random.choice([*HOSTS, name_at(host(random.choice(IPS)).ip, 32)])}
    elif kind == 6:
        world.mute ^= {random.choice(HOSTS)}
    elif kind == 7:
        world.refresh(random.randrange(1000))
    else:
        settle(world)
    world.pass_time(random.choice([0.0, 0.01, 0.3, 3.0, 40.0, 400.0]))


def random_set(random: Random) -> Answer:
    if random.random() < 0.2:
        return random.choice([FAILED, Answer(Outcome.NONE, ttl=120), mx("0:.", ttl=120)])
    names = random.sample(HOSTS, random.randrange(1, 4))
    return mx(*(f"{random.choice([10, 10, 20])}:{name}." for name in names), ttl=random.choice([30, 300, 900]))


def heal(world: World) -> None:
    """No lookup fails any more, and nothing is held back."""
    for key, answer in list(world.dns.items()):
        if answer.outcome is Outcome.FAILED:
            world.dns[key] = Answer(Outcome.NONE, ttl=60)
    settle(world)


def check_publications(said: list[Publication], settings: Settings) -> None:
    """What holds of every publication, and of each beside the one before."""
    for before, after in zip([Publication(), *said], said, strict=False):
        assert after != before or after.dropped != before.dropped
        keys = [listed.relay.key for listed in after.relays]
        assert len(keys) == len(set(keys))
        if after.best.host:
            assert RelayKey(after.best.host, after.best.port) in keys
        else:
            assert not settings.static_relays or after.state is State.STARTING
        if after.state is State.RESOLVING:
            assert (after.best, after.relays, after.evidence) == (before.best, before.relays, before.evidence)
        for evidence in after.evidence:
            assert evidence.outcome is not Outcome.PENDING
        if after.state is not State.STARTING:
            assert set(settings.static_relays) <= set(keys)
        best = next((one for one in after.relays if (one.relay.key.host, one.relay.key.port)
                     == (after.best.host, after.best.port)), None)  # fmt: skip
        if after.state is State.READY and settings.verify.enabled and best is not None:
            assert any(one.verdict is Verdict.OK for one in after.relays)


@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("enabled", [True, False])
def test_once_quiet_what_is_published_is_what_a_newcomer_would_find(block: int, enabled: bool) -> None:
    settings = Settings(static_relays=STATICS, verify=Verify(enabled=enabled))
    for seed in range(block * 25, block * 25 + 25):
        random = Random(seed)
        world = World(settings)
        for index, name in enumerate(HOSTS):
            world.host(name, at(f"203.0.113.{index + 1}", ttl=600))
        world.host(STATICS[0].host, at("203.0.113.30", ttl=600))
        world.start(*random.sample(IPS, 2))
        for _ in range(random.randrange(5, 40)):
            random_step(world, random)
        heal(world)
        world.pass_time(60)
        settle(world)
        world.pass_time(QUIET)
        settle(world)
        check_publications(world.published, settings)
        newcomer = World(settings)
        newcomer.dns, newcomer.relays = world.dns, world.relays
        last = world.engine._facts
        assert last is not None
        newcomer.send(ServersRead(VIEW), FactsRead(last))
        assert (seed, world.best) == (seed, newcomer.best)
        assert (seed, world.relay_hosts) == (seed, newcomer.relay_hosts)
        assert (seed, world.said.evidence) == (seed, newcomer.said.evidence)
        assert (seed, world.state) == (seed, newcomer.state)
        assert not world.in_flight, seed
        assert not world.conversing, seed
        assert world.most_in_flight <= 64
        assert world.most_conversing <= 4
        assert replace(world.said, changed=None, relays=()) == replace(newcomer.said, changed=None, relays=())
