"""Rules D: verifying, and the best relay."""

from dataclasses import replace

import pytest

from salsa_agent.core.events import FactsRead, SettingsRead
from salsa_agent.core.model import DefaultRoute, RelayKey, Source, Verdict
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.core.verification import BUDGET
from tests.core.sim import DEAD, FAILED, NO_CERTIFICATE, OK, World, at, facts, mx

SMTP = RelayKey("smtp.clear.net.nz", 25)
HOME = Settings(static_relays=(SMTP,))
NOC, VERTEX = "noc.tor.hookup.net", "vertex.tor.hookup.net"


def story(settings: Settings = HOME) -> World:
    """The post's example."""
    world = World(settings)
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}.", f"20:{VERTEX}."))
    world.host(NOC, at("203.0.113.1"))
    world.host(VERTEX, at("203.0.113.2"))
    world.host(SMTP.host, at("203.0.113.3"))
    return world


def verdicts(world: World) -> dict[str, str]:
    return {listed.relay.key.host: str(listed.verdict) for listed in world.said.relays}


def checked(world: World) -> list[str]:
    return [check.key.host for check in world.checked]


def fleet(count: int, settings: Settings = HOME) -> World:
    world = World(settings)
    hosts = [f"r{i}.hookup.net" for i in range(count)]
    world.mx("154.165.in-addr.arpa", mx(*(f"{i}:{name}." for i, name in enumerate(hosts))))
    for i, name in enumerate(hosts):
        world.host(name, at(f"203.0.113.{i + 10}"))
    world.host(SMTP.host, at("203.0.113.3"))
    return world


def test_d2_the_best_is_the_first_that_is_ok() -> None:
    world = story()
    world.start("165.154.15.1")
    assert world.best == f"{NOC}:25"
    assert world.said.best.source is Source.DNS


def test_d2_the_best_is_the_next_one_when_the_first_failed() -> None:
    world = story()
    world.relays[NOC] = DEAD
    world.start("165.154.15.1")
    assert world.best == f"{VERTEX}:25"
    assert verdicts(world)[NOC] == "failed"
    assert world.said.relays[0].reason == "connection refused"


def test_d2_it_waits_for_everything_before_it() -> None:
    world = story()
    world.mute = {NOC}
    world.start("165.154.15.1")
    assert world.published == []
    world.relays[NOC] = DEAD
    world.speak(NOC)
    assert world.best == f"{VERTEX}:25"


def test_d2_at_most_four_at_once_in_the_order_of_the_list() -> None:
    world = fleet(10)
    hosts = [f"r{i}.hookup.net" for i in range(10)]
    world.mute = set(hosts)
    world.start("165.154.15.1")
    assert checked(world) == hosts[:4]
    world.relays = dict.fromkeys(hosts, DEAD)
    world.speak(hosts[2])
    assert checked(world) == hosts[:5]
    assert world.most_conversing == 4


def test_d2_not_beyond_the_second_ok() -> None:
    world = fleet(10)
    hosts = [f"r{i}.hookup.net" for i in range(10)]
    world.relays = dict.fromkeys(hosts[:3], DEAD)
    world.mute = set(hosts)
    world.start("165.154.15.1")
    for name in hosts[:5]:
        world.speak(name)
    # the slots that came free before the second `ok` was known were used; then no more
    assert checked(world) == hosts[:8]
    for name in hosts[5:8]:
        world.speak(name)
    assert checked(world) == hosts[:8]
    assert verdicts(world)[hosts[9]] == "unverified"


def test_d3_none_ok_the_first_static_relay_whatever_its_verdict() -> None:
    world = story(replace(HOME, static_relays=(SMTP, RelayKey("192.0.2.99", 25))))
    world.relays = dict.fromkeys((NOC, VERTEX, SMTP.host, "192.0.2.99"), DEAD)
    world.start("165.154.15.1")
    assert world.best == "smtp.clear.net.nz:25"
    assert world.state == "degraded"


def test_d3_an_ok_static_relay_is_a_relay_like_any_other() -> None:
    world = story(replace(HOME, static_relays=(SMTP, RelayKey("192.0.2.99", 25))))
    world.relays = dict.fromkeys((NOC, VERTEX, SMTP.host), DEAD)
    world.start("165.154.15.1")
    assert world.best == "192.0.2.99:25"


def test_d3_the_entry_of_a_static_relay_that_the_dns_names_too() -> None:
    world = story(Settings(static_relays=(RelayKey(VERTEX, 25),)))
    world.relays = dict.fromkeys((NOC, VERTEX), DEAD)
    world.start("165.154.15.1")
    assert world.best == f"{VERTEX}:25"
    assert world.said.best.source is Source.DNS


def test_d3_no_static_relay_there_is_none() -> None:
    world = story(Settings())
    world.relays = dict.fromkeys((NOC, VERTEX), DEAD)
    world.start("165.154.15.1")
    assert world.best == ""
    assert world.said.best.source is Source.NONE
    assert world.state == "degraded"


def test_d3_a_static_name_that_cannot_be_looked_up_still_stands() -> None:
    world = World(HOME)
    world.host(SMTP.host, FAILED)
    world.host6(SMTP.host, FAILED)
    world.start("165.154.15.1")
    assert world.best == "smtp.clear.net.nz:25"
    assert verdicts(world) == {SMTP.host: "failed"}
    assert world.state == "degraded"
    world.host(SMTP.host, at("203.0.113.3"))
    world.pass_time(2)
    assert verdicts(world) == {SMTP.host: "ok"}


def test_d4_without_verification_every_relay_is_unverified_and_the_first_is_the_best() -> None:
    world = story(replace(HOME, verify=Verify(enabled=False)))
    world.relays[NOC] = DEAD
    world.start("165.154.15.1")
    assert world.best == f"{NOC}:25"
    assert set(verdicts(world).values()) == {"unverified"}
    assert world.checked == []
    assert world.state == "ready"
    assert SMTP.host not in {q.name for q in world.asked}


def test_d4_turned_off_by_a_reload_forgets_the_verdicts() -> None:
    world = story()
    world.relays[NOC] = DEAD
    world.start("165.154.15.1")
    world.send(SettingsRead(replace(HOME, verify=Verify(enabled=False))))
    assert world.best == f"{NOC}:25"
    assert set(verdicts(world).values()) == {"unverified"}


def test_d5_failed_relays_before_the_best_are_verified_again_with_doubling_delay() -> None:
    world = story()
    world.relays[NOC] = DEAD
    world.start("165.154.15.1")
    start, times = world.now, []
    for _ in range(8000):
        seen = checked(world).count(NOC)
        world.pass_time(1)
        if checked(world).count(NOC) > seen:
            times.append(world.now - start)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    for gap, nominal in zip(gaps, (30, 60, 120, 240, 480, 960, 1800, 1800), strict=False):
        assert 0.9 * nominal - 1 <= gap <= 1.1 * nominal + 1
    assert len(gaps) >= 7


def test_d5_a_relay_that_came_back_is_the_best_again() -> None:
    world = story()
    world.relays[NOC] = DEAD
    world.start("165.154.15.1")
    world.relays.clear()
    world.pass_time(35)
    assert world.best == f"{NOC}:25"


def test_d5_the_best_relay_is_verified_again_every_interval() -> None:
    world = story(replace(HOME, verify=Verify(interval=600)))
    world.start("165.154.15.1")
    world.relays[NOC] = DEAD
    world.pass_time(599)
    assert world.best == f"{NOC}:25"
    world.pass_time(2)
    assert world.best == f"{VERTEX}:25"


def test_d5_interval_zero_never() -> None:
    world = story(replace(HOME, verify=Verify(interval=0)))
    world.start("165.154.15.1")
    seen = len(world.checked)
    world.pass_time(3000)
    assert len(world.checked) == seen


def test_d8_on_a_network_change_verdicts_stand_in_the_list_and_the_decision_waits() -> None:
    world = story()
    world.start("165.154.15.1")
    world.mute = {NOC, VERTEX, SMTP.host}
    world.send(FactsRead(facts("165.154.15.1", defaults=[DefaultRoute(2, 2, 100, "192.0.2.2")])))
    assert world.state == "resolving"
    assert verdicts(world)[NOC] == "ok"
    world.relays[NOC] = DEAD
    for name in (NOC, VERTEX, SMTP.host):
        world.speak(name)
    assert world.best == f"{VERTEX}:25"


def test_d8_in_any_other_round_only_new_relays_and_changed_addresses_are_verified() -> None:
    world = story()
    world.start("165.154.15.1")
    seen = len(world.checked)
    world.pass_time(3601)  # the TTL
    assert [name for name in checked(world)[seen:] if name != NOC] == []  # NOC: verify.interval
    world.host(VERTEX, at("203.0.113.99"))
    seen = len(world.checked)
    world.pass_time(3601)
    assert VERTEX in checked(world)[seen:]


def test_d8_refresh_verifies_all() -> None:
    world = story()
    world.start("165.154.15.1")
    seen = len(world.checked)
    world.relays[NOC] = DEAD
    world.refresh()
    assert checked(world)[seen:][:2] == [NOC, VERTEX]
    assert world.best == f"{VERTEX}:25"


@pytest.mark.parametrize("verify", [Verify(tls="offered"), Verify(recipient="post@example.net"), Verify(interval=60)])
def test_d8_a_reload_that_changes_verify_voids_all_verdicts(verify: Verify) -> None:
    world = story()
    world.start("165.154.15.1")
    before, seen = world.said, len(world.checked)
    world.mute = {NOC, VERTEX}
    world.send(SettingsRead(replace(HOME, verify=verify)))
    assert checked(world)[seen:][:2] == [NOC, VERTEX]
    assert world.said == before
    world.speak(NOC)
    assert world.best == f"{NOC}:25"
    assert verdicts(world)[VERTEX] == "unverified"
    world.speak(VERTEX)
    assert verdicts(world)[VERTEX] == "ok"


def test_d8_a_reload_that_changes_verify_ends_what_runs_and_starts_delays_over() -> None:
    world = story()
    world.relays[NOC] = NO_CERTIFICATE  # D9: again after 5 min, then 10 min
    world.start("165.154.15.1")
    world.pass_time(400)
    world.mute = {NOC}
    world.send(SettingsRead(replace(HOME, verify=Verify(timeout=9.0))))
    [running] = [check for check in world.conversing.values() if check.key.host == NOC]
    world.send(SettingsRead(replace(HOME, verify=Verify(timeout=8.0))))
    assert running not in world.conversing.values()
    world.mute = set()
    world.speak(NOC)
    seen = checked(world).count(NOC)
    world.pass_time(340)
    assert checked(world).count(NOC) == seen + 1


def test_d8_any_other_reload_leaves_verdicts_as_they_are() -> None:
    world = story()
    world.start("165.154.15.1")
    seen = len(world.checked)
    world.send(SettingsRead(replace(HOME, static_relays=(RelayKey("192.0.2.99", 25),))))
    assert checked(world)[seen:] == []
    assert [verdicts(world)[name] for name in (NOC, VERTEX)] == ["ok", "ok"]


def test_d1_a_relay_is_spoken_to_from_a_budget() -> None:
    world = story()
    world.start("165.154.15.1")
    for _ in range(30):
        world.pass_time(1.0)
        world.refresh()
    spoken = checked(world).count(NOC)
    assert BUDGET <= spoken <= BUDGET + 30 // 5 + 1
    assert verdicts(world)[NOC] == "ok"  # over the budget the last verdict stands


def test_d1_over_the_budget_the_check_comes_when_it_allows() -> None:
    world = story()
    world.start("165.154.15.1")
    for _ in range(12):
        world.pass_time(1.0)
        world.refresh()
    world.relays[NOC] = DEAD
    world.pass_time(1.0)
    world.refresh()
    assert world.best == f"{NOC}:25"
    world.pass_time(5.1)
    assert world.best == f"{VERTEX}:25"


def test_d2_after_the_decision_later_verdicts_follow() -> None:
    world = story()
    world.mute = {VERTEX}
    world.start("165.154.15.1")
    assert world.best == f"{NOC}:25"
    assert world.said.relays[1].verdict is Verdict.UNVERIFIED
    world.speak(VERTEX)
    assert verdicts(world)[VERTEX] == "ok"


def test_d5_a_relay_that_fails_right_after_it_came_back_is_held_off_longer_each_time() -> None:
    """The damping: 30 s, doubled to 30 min; only a relay that stayed `ok` as long as it was away starts over."""
    world = story()
    world.start("165.154.15.1")
    day = world.now + 24 * 3600
    away = []
    while world.now < day:
        world.relays[NOC] = DEAD
        world.pass_time(5)
        world.refresh()  # what would be the next check, or a user's complaint
        assert world.best == f"{VERTEX}:25"
        world.relays[NOC] = OK  # at once, and until it is used again
        since = world.now
        while world.best != f"{NOC}:25":
            world.pass_time(10)
        away.append(world.now - since)
    assert [round(seconds / 30) for seconds in away[:4]] == [1, 2, 4, 8]
    assert all(1600 < seconds < 2000 for seconds in away[7:])
    assert len(away) < 60  # of 2,880 that a fixed delay of 30 s would let in
