"""Rules E1, E5 and D11: how long an answer is believed."""

from __future__ import annotations

from collections import Counter

import pytest

from salsa_agent.core.cache import Cache
from salsa_agent.core.events import Event, FactsRead, RefreshAsked, Resumed, ServersRead, SettingsRead
from salsa_agent.core.model import (
    Answer,
    NetworkFacts,
    Outcome,
    Question,
    RelayKey,
    RRType,
    Server,
    ServerView,
    Srv,
)
from salsa_agent.core.settings import Settings
from tests.core.sim import DEAD, FAILED, World, at, mx

ASKED = Question("15.154.165.in-addr.arpa", RRType.MX, (Server("192.0.2.53"),))
SET = mx("10:noc.hookup.net.", ttl=1000)
EMPTY = Answer(Outcome.NONE, rcode="NXDOMAIN", server="192.0.2.53")
SRV_SET = Answer(Outcome.FOUND, srv=(Srv(0, 0, 465, "smtp.example.net."),), ttl=300)


def waits(cache: Cache, answers: list[Answer], question: Question = ASKED) -> list[float]:
    """How long each answer is believed, when it is asked again as soon as it is due."""
    now, found = 0.0, []
    for answer in answers:
        cache.record(question, answer, now)
        due = cache.due([question])
        assert due is not None
        found.append(due - now)
        now = due
        cache.expire(now)
    return found


def test_e1_without_soa_the_same_empty_answer_is_believed_for_60_s_doubling_to_15_min() -> None:
    assert waits(Cache(), [EMPTY] * 7) == [60, 120, 240, 480, 900, 900, 900]


@pytest.mark.parametrize("other", [SET, EMPTY._replace(ttl=60), EMPTY._replace(rcode="NOERROR")])
def test_e1_another_answer_starts_at_60_s_again(other: Answer) -> None:
    assert waits(Cache(), [EMPTY, EMPTY, other, EMPTY])[3] == 60


def test_e1_a_failure_between_does_not_start_it_again() -> None:
    assert waits(Cache(), [EMPTY, EMPTY, FAILED, EMPTY])[3] == 60  # it is another answer


def test_e1_refresh_and_a_network_change_start_at_60_s_again() -> None:
    for forget in (Cache.forget, Cache.clear):
        cache = Cache()
        waits(cache, [EMPTY] * 4)
        forget(cache)
        assert waits(cache, [EMPTY]) == [60]


def test_d11_a_set_is_asked_again_up_to_a_tenth_of_its_ttl_earlier() -> None:
    seen = [waits(Cache(seed), [SET])[0] for seed in range(200)]
    assert all(900 <= seconds <= 1000 for seconds in seen)
    assert max(seen) > 990 > 910 > min(seen)
    assert waits(Cache(7), [SET] * 3) == waits(Cache(7), [SET] * 3)


def test_d11_the_published_expiry_is_that_of_the_set() -> None:
    cache = Cache(3)
    cache.record(ASKED, SET, 0.0)
    cached = cache.get(ASKED)
    assert cached is not None
    assert cached.expires == 1000


@pytest.mark.parametrize("servers", [(), (Server("198.51.100.53"),)])
def test_e5_an_srv_set_stands_by_across_network_changes(servers: tuple[Server, ...]) -> None:
    name = "_submissions._tcp.example.net"
    cache = Cache()
    cache.record(Question(name, RRType.SRV, (Server("192.0.2.53"),)), SRV_SET, 0.0)
    cache.record(ASKED, SET, 0.0)
    cache.clear()
    elsewhere = Question(name, RRType.SRV, servers)
    for question in (elsewhere, ASKED):
        cache.record(question, FAILED, 10.0)
    cached, of_old_network = cache.get(elsewhere), cache.get(ASKED)
    assert cached is not None
    assert of_old_network is not None
    assert (cached.answer, cached.failing) == (SRV_SET, True)
    assert of_old_network.answer == FAILED
    cache.record(elsewhere, FAILED, 24 * 3600 + 1.0)
    gone = cache.get(elsewhere)
    assert gone is not None
    assert gone.answer == FAILED


def test_e1_a_round_that_was_due_to_expiry_and_changed_nothing_is_routine() -> None:
    world = World(Settings(static_relays=(RelayKey("192.0.2.99", 587),)))  # it is `ok`: no round of E5 comes between
    world.start("165.154.15.1")
    world.pass_time(601)
    assert world.ended[-1].cause == "expiry or retry"
    assert world.ended[-1].routine
    world.mx("154.165.in-addr.arpa", mx("0:."))
    world.pass_time(601)
    assert not world.ended[-1].routine
    world.refresh()
    assert not world.ended[-1].routine


@pytest.mark.parametrize("event", [RefreshAsked(1), SettingsRead(Settings()), Resumed()])
def test_e3_the_kernel_and_the_resolver_configuration_are_read_again(event: Event) -> None:
    world = World()
    world.start("165.154.15.1")
    assert world.reread == 0
    world.send(event)
    assert world.reread == 1


def test_e3_they_are_read_again_at_each_retry_and_every_10_minutes() -> None:
    world = World()
    world.mx("154.165.in-addr.arpa", FAILED)
    world.start("165.154.15.1")
    seen = []
    for second in range(1900):
        before = world.reread
        world.pass_time(1)
        if world.reread > before:
            seen.append(second + 1)
    assert seen[:6] == [2, 10, 40, 340, 600, 640]
    world.mx("154.165.in-addr.arpa", Answer(Outcome.NONE, ttl=86400))
    world.pass_time(400)
    before = world.reread
    world.pass_time(1801)
    assert world.reread == before + 3


def test_e3_a_kernel_that_says_nothing_leaves_the_first_static_relay() -> None:
    """What the netlink driver sends where the kernel, or a sandbox, answers nothing at all."""
    world = World(Settings(static_relays=(RelayKey("192.0.2.99", 587),)))
    world.send(FactsRead(NetworkFacts()), ServersRead(ServerView()))
    assert (world.best, world.state) == ("192.0.2.99:587", "offline")
    world.start("165.154.15.1")
    assert world.state == "ready"


def test_e1_after_a_night_asleep_everything_is_asked_once_and_nothing_that_was_due_meanwhile() -> None:
    """The engine's clock counts the night: TTLs, retries and checks are all overdue when the machine wakes."""
    world = World(Settings(static_relays=(RelayKey("smtp.clear.net.nz", 25),)))
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net.", "20:dead.hookup.net.", ttl=300))
    for number, name in enumerate(("noc.hookup.net", "dead.hookup.net", "smtp.clear.net.nz"), 1):
        world.host(name, at(f"203.0.113.{number}", ttl=60))
    world.relays["dead.hookup.net"] = DEAD
    world.start("165.154.15.1")
    world.pass_time(90.0)
    assert world.best == "noc.hookup.net:25"
    asked, spoken, rounds = len(world.asked), len(world.spoken_to), len(world.rounds)
    world.now += 8 * 3600.0
    world.send(Resumed())
    world.pass_time(5.0)
    assert (world.best, world.state) == ("noc.hookup.net:25", "ready")
    assert max(Counter(world.asked[asked:]).values()) == 1
    assert max(Counter(check.key for _, check in world.spoken_to[spoken:]).values()) == 1
    assert len(world.rounds) == rounds + 1


def test_e1_a_set_that_is_found_again_changes_nothing_but_expires_and_its_round_is_routine() -> None:
    world = World()
    world.mx("154.165.in-addr.arpa", mx("10:noc.example.net.", ttl=60))
    world.host("noc.example.net", at("203.0.113.1"))
    world.start("165.154.15.1")
    expires = world.said.relays[0].relay.expires
    world.pass_time(61)
    assert world.said.relays[0].relay.expires != expires
    assert [(one.cause, one.routine) for one in world.ended[1:]] == [("expiry or retry", True)]
