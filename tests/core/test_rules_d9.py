"""Rules D9 and D10: two kinds of failure, and relays that want a password."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

from salsa_agent.core.events import FactsRead
from salsa_agent.core.model import CheckResult, DefaultRoute, RelayKey, ServerResult, Verdict
from salsa_agent.core.settings import Settings
from salsa_agent.core.verification.verdicts import combine
from tests.core.sim import DEAD, OK, World, at, facts, mx
from tests.core.test_rules_d import HOME, NOC, SMTP, VERTEX, checked, story, verdicts

PERMANENT = CheckResult(Verdict.FAILED, "554 no service", permanent=True)
BUSY = CheckResult(Verdict.FAILED, "421 too many connections", transient_reply=True)
NOWHERE = CheckResult(Verdict.FAILED, "connect: no route")
UNROUTED, SERVER = "2001:db8:25::1", "203.0.113.1"
WANTS_AUTH = CheckResult(Verdict.FAILED, "530 authentication required", tls="starttls", auth=True, wants_auth=True)


def gaps(world: World, name: str, seconds: int) -> list[float]:
    """The times between the checks of a relay, from now on."""
    start = world.now
    times = [0.0]
    for _ in range(seconds // 5):
        seen = checked(world).count(name)
        world.pass_time(5)
        if checked(world).count(name) > seen:
            times.append(world.now - start)
    return [later - earlier for earlier, later in pairwise(times)]


def test_d9_what_only_an_administrator_can_mend_is_verified_again_after_5_minutes_doubling_to_an_hour() -> None:
    world = story()
    world.relays[NOC] = PERMANENT
    world.start("165.154.15.1")
    found = gaps(world, NOC, 17_000)
    for gap, nominal in zip(found, (300, 600, 1200, 2400, 3600, 3600), strict=False):
        assert 0.9 * nominal - 5 <= gap <= 1.1 * nominal + 5
    assert len(found) >= 5


def test_d9_another_failure_has_the_delays_of_d5() -> None:
    world = story()
    world.relays[NOC] = BUSY  # it was never `ok` here
    world.start("165.154.15.1")
    assert verdicts(world)[NOC] == "failed"
    assert 25 <= gaps(world, NOC, 40)[0] <= 40


def test_d9_a_network_change_starts_the_delays_over() -> None:
    world = story()
    world.relays[NOC] = PERMANENT
    world.start("165.154.15.1")
    gaps(world, NOC, 4000)
    world.send(FactsRead(facts("165.154.15.1", defaults=[DefaultRoute(2, 2, 100, "192.0.2.2")])))
    assert 265 <= gaps(world, NOC, 600)[0] <= 335


def at_two_addresses(name: str, first: CheckResult, second: CheckResult, *, routed: bool = True) -> World:
    """A network with the exchange `name`, at an address of each result. `routed`: the first could be sent packets."""
    world = World(HOME)
    world.mx("154.165.in-addr.arpa", mx(f"10:{name}.", ttl=60))
    world.host6(name, at(UNROUTED))
    world.host(name, at(SERVER))
    world.host(SMTP.host, at("203.0.113.3"))
    servers = ServerResult(ip_address(UNROUTED), first, contacted=routed), ServerResult(ip_address(SERVER), second)
    world.relays[name] = combine(servers, administrator=False)
    return world


def test_d9_a_second_name_at_a_server_has_its_delays_too() -> None:
    """An address without a route was not tried, whatever name leads to it."""
    world = at_two_addresses(NOC, NOWHERE, PERMANENT, routed=False)
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}.", f"20:{VERTEX}."))
    world.host6(VERTEX, at(UNROUTED))
    world.host(VERTEX, at(SERVER))
    world.relays[VERTEX] = world.relays[NOC]
    world.start("165.154.15.1", "2001:db8::7")
    assert verdicts(world) == {NOC: "failed", VERTEX: "failed", SMTP.host: "ok"}
    world.pass_time(265)
    assert len([name for name in checked(world) if name in (NOC, VERTEX)]) == 1


def test_d9_a_second_name_that_comes_later_has_its_delays_too() -> None:
    world = at_two_addresses(NOC, NOWHERE, PERMANENT, routed=False)
    world.start("165.154.15.1", "2001:db8::7")
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}.", f"20:{VERTEX}."))
    world.host6(VERTEX, at(UNROUTED))
    world.host(VERTEX, at(SERVER))
    world.relays[VERTEX] = world.relays[NOC]
    world.pass_time(265)
    assert verdicts(world)[VERTEX] == "failed"
    assert len([name for name in checked(world) if name in (NOC, VERTEX)]) == 1


def test_d9_a_second_name_with_an_address_of_its_own_has_its_delays_too() -> None:
    world = at_two_addresses(VERTEX, NOWHERE, PERMANENT, routed=False)
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}.", f"20:{VERTEX}."))
    world.host(NOC, at(SERVER))
    world.relays[NOC] = PERMANENT
    nowhere = (ServerResult(ip_address(UNROUTED), NOWHERE, contacted=False),)
    world.relays[VERTEX] = combine(nowhere, administrator=False)
    world.start("165.154.15.1", "2001:db8::7")
    assert verdicts(world) == {NOC: "failed", VERTEX: "failed", SMTP.host: "ok"}
    world.pass_time(265)
    assert len([name for name in checked(world) if name == VERTEX]) == 1


def test_d9_a_second_name_at_one_of_the_servers_has_the_delays_of_what_happened_there() -> None:
    """The first name has D5's delays, for one of its two servers; the second name leads to the other one alone."""
    world = at_two_addresses(NOC, DEAD, PERMANENT)
    world.start("165.154.15.1", "2001:db8::7")
    world.mx("154.165.in-addr.arpa", mx(f"10:{NOC}.", f"20:{VERTEX}."))
    world.host(VERTEX, at(SERVER))
    world.relays[VERTEX] = PERMANENT
    world.pass_time(265)
    assert verdicts(world)[VERTEX] == "failed"
    assert VERTEX not in checked(world)


def test_d9_what_a_report_led_to_has_its_delays_too() -> None:
    world = story()
    world.start("165.154.15.1")
    world.relays[NOC] = PERMANENT
    world.report(NOC)
    assert 265 <= gaps(world, NOC, 600)[0] <= 335


def doubted(settings: Settings = HOME) -> World:
    """NOC was `ok`, and says 421 to the check that a refresh brings."""
    world = story(settings)
    world.start("165.154.15.1")
    world.pass_time(100)
    world.relays[NOC] = BUSY
    world.refresh()
    return world


def test_d9_a_4xx_from_a_good_relay_says_why_and_makes_it_failed_only_when_the_next_check_fails_too() -> None:
    world = doubted()
    assert verdicts(world)[NOC] == "ok"
    assert world.said.relays[0].reason == "421 too many connections"
    assert world.best == f"{NOC}:25"
    world.pass_time(29)
    assert world.best == f"{NOC}:25"
    world.pass_time(2)
    assert verdicts(world)[NOC] == "failed"
    assert world.best == f"{VERTEX}:25"


def test_d9_where_the_next_check_is_good_nothing_has_happened() -> None:
    world = doubted()
    world.relays[NOC] = OK
    world.pass_time(31)
    assert world.said.relays[0].reason == ""
    assert {publication.best.host for publication in world.published} == {NOC}


def test_d9_a_refresh_in_between_is_not_the_check_that_decides() -> None:
    world = doubted()
    world.pass_time(5)
    world.refresh()
    assert verdicts(world)[NOC] == "ok"
    world.pass_time(20)
    assert verdicts(world)[NOC] == "ok"
    world.pass_time(6)
    assert verdicts(world)[NOC] == "failed"


def test_d9_the_second_check_may_fail_in_any_way() -> None:
    world = doubted()
    world.relays[NOC] = DEAD
    world.pass_time(31)
    assert verdicts(world)[NOC] == "failed"


def test_d9_the_second_check_comes_whatever_the_relays_place_in_the_list() -> None:
    world = story()
    world.start("165.154.15.1")
    world.pass_time(100)
    world.relays[SMTP.host] = BUSY  # behind the best relay and the second `ok`
    world.refresh()
    assert verdicts(world)[SMTP.host] == "ok"
    seen = checked(world).count(SMTP.host)
    world.pass_time(31)
    assert checked(world).count(SMTP.host) == seen + 1
    assert verdicts(world)[SMTP.host] == "failed"


def test_d9_the_second_check_is_owed_after_a_refresh_that_needs_it_no_more() -> None:
    names = [f"192.0.2.{n}" for n in range(91, 96)]
    world = story(Settings(static_relays=tuple(RelayKey(name, 25) for name in names)))
    last = names[-1]
    world.relays = dict.fromkeys(names, DEAD) | {last: OK}
    world.start("198.51.100.7")
    assert world.best == f"{last}:25"
    world.pass_time(100)
    world.relays[last] = BUSY
    world.refresh()
    assert verdicts(world)[last] == "ok"
    world.relays = dict.fromkeys(names, OK) | {last: DEAD}
    world.pass_time(5)
    seen = checked(world).count(last)
    world.refresh()
    assert world.best == f"{names[0]}:25"
    assert checked(world).count(last) == seen  # behind the second `ok`
    world.pass_time(26)
    assert checked(world).count(last) == seen + 1
    assert verdicts(world)[last] == "failed"


def test_d9_on_another_network_a_relay_has_no_credit() -> None:
    world = story()
    world.start("165.154.15.1")
    world.relays[NOC] = BUSY
    world.move("165.154.15.2")
    assert verdicts(world)[NOC] == "failed"
    assert world.best == f"{VERTEX}:25"


def test_d10_a_network_relay_that_wants_auth_is_failed() -> None:
    world = story()
    world.relays[NOC] = WANTS_AUTH
    world.start("165.154.15.1")
    assert world.best == f"{VERTEX}:25"
    assert world.said.relays[0].wants_auth


def test_d10_a_relay_of_the_administrator_that_wants_auth_is_ok() -> None:
    world = story()
    world.relays = {NOC: DEAD, VERTEX: DEAD, SMTP.host: WANTS_AUTH}
    world.start("165.154.15.1")
    listed = world.said.relays[2]
    assert (listed.verdict, listed.wants_auth, listed.auth, listed.tls) == (Verdict.OK, True, True, "starttls")
    assert listed.reason == ""
    assert world.state == "ready"


def test_d10_a_network_relay_that_is_static_too_is_the_administrators() -> None:
    world = story(replace(HOME, static_relays=(RelayKey(NOC, 25),)))
    world.relays[NOC] = WANTS_AUTH
    world.start("165.154.15.1")
    assert verdicts(world)[NOC] == "ok"


def test_d10_how_a_relay_is_spoken_to_stays_known_when_it_falls_silent() -> None:
    world = story()
    world.relays[NOC] = CheckResult(Verdict.OK, starttls=True, tls="starttls", auth=True)
    world.start("165.154.15.1")
    world.relays[NOC] = DEAD
    world.refresh()
    assert verdicts(world)[NOC] == "failed"
    assert (world.said.relays[0].tls, world.said.relays[0].auth) == ("starttls", True)


def test_d10_implicit_tls_is_known_before_anybody_spoke_to_the_relay() -> None:
    world = story(Settings(static_relays=(RelayKey("192.0.2.99", 465), RelayKey("192.0.2.98", 587))))
    world.mute = {"192.0.2.99", "192.0.2.98"}
    world.start("165.154.15.1")
    by_port = {one.relay.key.port: one.tls for one in world.said.relays}
    assert by_port[465] == "implicit"
    assert by_port[587] == ""
