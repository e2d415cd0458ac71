"""Rules E: when a round runs; and H1, H2: what of it is published."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import (
    Answered,
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
    Link,
    NetworkFacts,
    Outcome,
    RelayKey,
    RouteChoice,
    RRType,
    Server,
    ServerView,
)
from salsa_agent.core.settings import Dns, Network, Settings, Verify
from tests.core.sim import DEAD, ETH0, FAILED, VIEW, World, at, facts, host, mx

SMTP = RelayKey("smtp.clear.net.nz", 25)
HOME = Settings(static_relays=(SMTP,))
HOME_ROUTE = DefaultRoute(2, 2, 100, "192.0.2.1")
NOC = "noc.tor.hookup.net"
FULL, NET24, NET16 = "1.15.154.165.in-addr.arpa", "15.154.165.in-addr.arpa", "154.165.in-addr.arpa"


def hookup(settings: Settings = HOME, ttl: int = 3600) -> World:
    world = World(settings)
    world.mx(NET16, mx(f"10:{NOC}.", ttl=ttl))
    world.host(NOC, at("203.0.113.1", ttl=ttl))
    world.host(SMTP.host, at("203.0.113.3", ttl=24 * 3600))
    for name in (FULL, NET24):
        world.mx(name, Answer(Outcome.NONE, ttl=3 * 3600))
    world.host6(NOC, Answer(Outcome.NONE, ttl=3 * 3600))
    world.host6(SMTP.host, Answer(Outcome.NONE, ttl=3 * 3600))
    return world


def test_e1_a_repeated_message_costs_no_question_and_no_publication() -> None:
    world = hookup()
    world.start("165.154.15.1")
    asked, published = len(world.asked), len(world.published)
    for _ in range(50):
        world.move("165.154.15.1")
    assert (len(world.asked), len(world.published)) == (asked, published)


@pytest.mark.parametrize(
    "change",
    [
        FactsRead(facts("165.154.15.1", "198.51.100.1")),
        FactsRead(facts("165.154.15.1", defaults=[DefaultRoute(2, 2, 100, "192.0.2.254")])),
        FactsRead(facts("165.154.15.1", choices=[RouteChoice(2, 2, ip_address("165.154.15.1"))])),
        FactsRead(facts("165.154.15.1", links=[replace(ETH0, carrier_changes=2)])),
        ServersRead(ServerView((Server("192.0.2.54"),))),
        Resumed(),
    ],
)
def test_e1_each_kind_of_network_change_runs_a_round(change: FactsRead | ServersRead | Resumed) -> None:
    world = hookup()
    world.start("165.154.15.1")
    asked = len(world.questions())
    world.send(change)
    assert len(world.questions()) >= asked + 3
    assert len(world.rounds) == 2


@pytest.mark.parametrize(
    "change",
    [
        facts("165.154.15.1", defaults=[HOME_ROUTE, DefaultRoute(2, 2, 0, "192.0.2.9", table=100)]),
        facts("165.154.15.1", links=[ETH0, Link(9, "veth0", usable=True, carrier_changes=3)]),
        facts("165.154.15.1", host("fe80::9", index=9), links=[ETH0, Link(9, "cni0", usable=True)]),
    ],
    ids=["route of another table", "carrier of another link", "link of a container"],
)
def test_e1_what_containers_bring_is_no_network_change(change: NetworkFacts) -> None:
    """Their rules show in the kernel's choice for the outside alone: they are no facts."""
    world = hookup()
    world.start("165.154.15.1")
    asked = len(world.asked)
    world.send(FactsRead(change))
    assert len(world.asked) == asked
    assert len(world.rounds) == 1


def test_e1_a_gateway_of_another_table_counts_where_the_kernel_takes_it() -> None:
    world = hookup()
    source = ip_address("165.154.15.1")
    world.send(ServersRead(VIEW), FactsRead(facts("165.154.15.1", choices=[RouteChoice(2, 2, source, "10.0.0.1")])))
    assert len(world.rounds) == 1
    world.send(FactsRead(facts("165.154.15.1", choices=[RouteChoice(2, 2, source, "10.0.0.2")])))
    assert len(world.rounds) == 2


def test_e1_a_ttl_that_ran_out_is_asked_again_and_only_that() -> None:
    world = hookup(ttl=300)
    world.start("165.154.15.1")
    asked = len(world.asked)
    world.pass_time(269)
    assert len(world.asked) == asked
    world.pass_time(32)
    assert {(q.name, q.rtype) for q in world.asked[asked:]} == {(NET16, RRType.MX), (NOC, RRType.A)}
    assert len(world.asked) == asked + 2


@pytest.mark.parametrize("address", ["fe80::1", "127.0.0.2", "169.254.7.7", "::1"])
def test_e1_an_address_that_says_nothing_of_the_host_starts_no_round(address: str) -> None:
    """Such as those of containers' links, which come and go; the budget (E2) is kept for a roam."""
    world = hookup()
    world.start("165.154.15.1")
    rounds = len(world.rounds)
    for ips in (("165.154.15.1", address), ("165.154.15.1",)):
        world.move(*ips)
    assert len(world.rounds) == rounds
    world.move("165.154.15.1", host("198.51.100.7", scope=254))
    assert len(world.rounds) == rounds + 1  # while one that an exchange may have does (C4)


@pytest.mark.parametrize(
    ("ttl", "bounded"), [(0, 60), (59, 60), (61, 61), (24 * 3600 + 5, 24 * 3600), (10**9, 24 * 3600)]
)
def test_e1_a_ttl_is_bounded_to_a_minute_and_a_day(ttl: int, bounded: int) -> None:
    world = hookup(replace(HOME, static_relays=()), ttl=ttl)
    for name in (FULL, NET24):
        world.dns.pop((name, RRType.MX))
    world.engine.handle([SettingsRead(Settings(network=Network(ipv4_levels=(16,))))], world.now)
    world.start("165.154.15.1")
    asked = world.questions().count(NET16)
    world.pass_time(0.9 * bounded - 1)  # up to a tenth earlier (D11)
    assert world.questions().count(NET16) == asked
    world.pass_time(0.1 * bounded + 2)
    assert world.questions().count(NET16) == asked + 1


@pytest.mark.parametrize(("ttl", "bounded"), [(None, 60), (5, 60), (700, 700), (10**6, 3 * 3600)])
def test_e1_a_negative_ttl_is_the_soas_bounded_to_a_minute_and_three_hours(ttl: int | None, bounded: int) -> None:
    good = RelayKey("192.0.2.99", 587)  # while no relay is `ok`, E5 asks again sooner
    world = World(Settings(static_relays=(good,), network=Network(ipv4_levels=(16,))))
    world.mx(NET16, Answer(Outcome.NONE, ttl=ttl))
    world.start("165.154.15.1")
    world.pass_time(bounded - 1)
    assert len(world.asked) == 1
    world.pass_time(2)
    assert len(world.asked) == 2


def test_e1_nothing_cached_outlives_a_network_change() -> None:
    world = hookup()
    world.start("165.154.15.1")
    first = set(world.asked)
    world.move("165.154.15.1", "198.51.100.1")
    assert first <= set(world.asked[len(first) :])


def test_e1_sighup_runs_a_round_with_the_new_settings() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.send(SettingsRead(replace(HOME, static_relays=(RelayKey("192.0.2.99", 587),))))
    assert world.rounds == ["start", "reload"]
    assert world.relay_hosts == [NOC, "192.0.2.99"]


def test_e1_dns_servers_of_the_configuration_are_a_network_change() -> None:
    world = hookup()
    world.start("165.154.15.1")
    asked = len(world.asked)
    servers = (Server("198.51.100.53"),)  # which the driver of the name servers reports as the view then
    world.send(ServersRead(ServerView(servers)), SettingsRead(replace(HOME, dns=Dns(servers=servers))))
    assert world.rounds == ["start", "network change"]
    assert {q.servers for q in world.asked[asked:]} == {(Server("198.51.100.53"),)}


def test_e2_a_change_after_quiet_starts_at_once() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.pass_time(10)
    before = world.now
    asked = len(world.asked)
    world.move("165.154.15.2")
    assert len(world.asked) > asked
    assert world.now == before


def test_e2_a_newer_change_supersedes_the_running_round() -> None:
    world = hookup()
    world.silent = {FULL}
    world.start("165.154.15.1")
    assert world.in_flight
    world.move("198.51.100.1")
    assert world.questions()[-3:] == ["1.100.51.198.in-addr.arpa", "100.51.198.in-addr.arpa", "51.198.in-addr.arpa"]
    assert not world.in_flight
    assert [str(e.address.ip) for e in world.said.evidence] == ["198.51.100.1"]
    world.speak(FULL)
    assert [str(e.address.ip) for e in world.said.evidence] == ["198.51.100.1"]


def test_e2_a_roam_is_not_spaced_and_a_storm_is() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.pass_time(10)
    rounds = len(world.rounds)
    for last in range(2, 8):  # six changes in no time
        world.move(f"165.154.15.{last}")
    assert len(world.rounds) == rounds + 6
    for last in range(8, 100):
        world.move(f"165.154.15.{last}")
    assert len(world.rounds) == rounds + 6
    assert world.state == "resolving"
    world.pass_time(0.25)
    assert len(world.rounds) == rounds + 7


def test_e2_the_last_state_always_gets_its_round() -> None:
    world = hookup()
    world.start("165.154.15.1")
    for last in range(2, 200):
        world.move(f"165.154.15.{last}")
    world.pass_time(1)
    assert [str(e.address.ip) for e in world.said.evidence] == ["165.154.15.199"]
    assert world.state == "ready"


def test_e4_the_dns_part_ends_and_what_is_unanswered_has_failed() -> None:
    world = hookup(replace(HOME, dns=Dns(timeout=1.0, attempts=3)))
    world.silent = {FULL}
    world.start("165.154.15.1")
    world.pass_time(5.9)
    assert world.state == "starting"
    world.pass_time(0.2)
    assert world.best == f"{NOC}:25"
    assert world.state == "degraded"
    assert not world.in_flight


def test_e4_lookups_that_could_not_even_begin_have_failed_too() -> None:
    world = hookup(replace(HOME, static_relays=()))
    world.silent = {FULL, NET24, NET16}
    world.start("165.154.15.1")
    world.pass_time(8.1)
    assert world.outcomes == ["failed"]
    assert world.state == "degraded"


def test_e4_what_is_given_up_took_from_when_it_was_asked() -> None:
    world = hookup(replace(HOME, dns=Dns(timeout=1.0, attempts=2)))
    world.silent = {FULL, NOC}
    world.start("165.154.15.1")
    world.pass_time(4.1)
    took = {(one.question.name, one.question.rtype): one.answer.elapsed for one in world.engine.asked}
    assert took[FULL, RRType.MX] == pytest.approx(4.0)
    assert took[NOC, RRType.A] == pytest.approx(2.0)  # asked in the second half
    assert took[NET16, RRType.MX] == 0.0  # as its answer says


def test_e4_what_is_given_up_unasked_took_no_time() -> None:
    world = World(Settings(dns=Dns(timeout=1.0, attempts=2), network=Network(ipv4_levels=(16, 24))))
    numbers = range(100, 140)
    world.silent = {f"{name}{n}.10.in-addr.arpa" for n in numbers for name in ("", "1.")}
    world.start(*(f"10.{n}.1.1" for n in numbers))
    asked = set(world.in_flight)
    world.pass_time(4.1)
    took = {one.question: one.answer.elapsed for one in world.engine.asked}
    assert (len(asked), len(took)) == (64, 80)  # B2
    assert took == pytest.approx({question: 4.0 if question in asked else 0.0 for question in took})


def test_e4_exchanges_are_looked_up_in_the_second_half_while_a_level_is_unanswered() -> None:
    world = hookup(replace(HOME, dns=Dns(timeout=1.0, attempts=2)))
    world.silent = {FULL}
    world.start("165.154.15.1")
    assert NOC not in world.questions(RRType.A)
    world.pass_time(2.0)
    assert NOC in world.questions(RRType.A)
    assert world.state == "starting"


def test_e4_a_round_ends_after_30_seconds_and_late_verdicts_follow() -> None:
    world = hookup(replace(HOME, verify=Verify(timeout=30.0)))
    world.mx(NET16, mx(*(f"{i}:r{i}.hookup.net." for i in range(1, 9)), f"10:{NOC}."))
    for i in range(1, 9):
        world.host(f"r{i}.hookup.net", at(f"198.51.100.{i}"))
    world.mute = {f"r{i}.hookup.net" for i in range(1, 9)} | {NOC}
    world.start("165.154.15.1")
    world.pass_time(29.9)
    assert world.state == "starting"
    world.pass_time(0.2)
    assert world.best == "smtp.clear.net.nz:25"  # what has no verdict counts as failed, for the decision only
    assert world.said.relays[0].verdict == "unverified"
    world.speak("r1.hookup.net")
    assert world.best == "r1.hookup.net:25"


def test_e4_the_dns_part_of_a_round_is_within_its_30_seconds() -> None:
    world = hookup(replace(HOME, dns=Dns(timeout=30.0, attempts=5)))
    world.silent = {FULL}
    world.start("165.154.15.1")
    world.pass_time(30.1)
    assert world.state != "starting"


def test_explain_has_every_question_with_its_level_and_last_answer() -> None:
    world = hookup()
    world.start("165.154.15.1")
    asked = {(one.question.name, one.question.rtype): one for one in world.engine.asked}
    assert asked[NET16, RRType.MX].level == 16
    assert asked[NOC, RRType.A].level is None
    world.mx(NET16, FAILED)
    world.refresh()
    asked = {(one.question.name, one.question.rtype): one for one in world.engine.asked}
    assert asked[NET16, RRType.MX].answer == FAILED  # though what was found stands (E5)
    assert world.best == f"{NOC}:25"


def test_explain_has_a_question_that_the_decision_did_not_wait_for_and_its_answer_when_it_comes() -> None:
    world = hookup()
    world.mx(NET24, mx(f"5:{NOC}."))
    world.silent = {NET16}
    world.start("165.154.15.1")

    def outcome() -> Outcome:
        return next(one.answer.outcome for one in world.engine.asked if one.question.name == NET16)

    assert world.best == f"{NOC}:25"
    assert outcome() is Outcome.PENDING
    world.speak(NET16)
    assert outcome() is Outcome.FOUND


def test_e5_on_an_unchanged_network_what_was_found_stands_and_the_state_is_degraded() -> None:
    world = hookup(ttl=300)
    world.start("165.154.15.1")
    world.mx(NET16, FAILED)
    world.host(NOC, FAILED)
    world.pass_time(301)
    assert world.best == f"{NOC}:25"
    assert world.state == "degraded"
    world.pass_time(23 * 3600)
    assert world.best == f"{NOC}:25"
    world.pass_time(3600)
    assert world.best == "smtp.clear.net.nz:25"


def test_e5_a_definite_answer_takes_it_away() -> None:
    world = hookup(ttl=300)
    world.start("165.154.15.1")
    world.mx(NET16, Answer(Outcome.NONE, ttl=300))
    world.pass_time(301)
    assert world.best == "smtp.clear.net.nz:25"
    assert world.state == "ready"


def test_e5_on_a_changed_network_nothing_of_the_old_one_survives() -> None:
    world = hookup()
    world.start("165.154.15.1")
    for name in (FULL, NET24, NET16):
        world.mx(name, FAILED)
    world.send(FactsRead(facts("165.154.15.1", defaults=[DefaultRoute(2, 2, 100, "192.0.2.254")])))
    assert world.relay_hosts == [SMTP.host]


def test_e5_refresh_keeps_what_was_found_when_the_lookup_fails() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.mx(NET16, FAILED)
    world.refresh()
    assert world.best == f"{NOC}:25"
    assert world.state == "degraded"


def test_e6_offline_at_the_start_is_said_at_once() -> None:
    world = hookup()
    world.start()
    assert world.state == "offline"
    assert world.best == "smtp.clear.net.nz:25"
    assert world.asked == []
    assert world.checked == []


def test_e6_offline_at_once_and_the_static_relay_after_two_seconds() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.move()
    assert world.state == "offline"
    assert world.best == f"{NOC}:25"
    world.pass_time(1.9)
    assert world.best == f"{NOC}:25"
    world.pass_time(0.2)
    assert world.best == "smtp.clear.net.nz:25"
    assert world.outcomes == []
    assert world.relay_hosts == [SMTP.host]


def test_e6_a_roam_does_not_pass_through_the_static_relay() -> None:
    world = hookup()
    world.start("165.154.15.1")
    seen = len(world.published)
    world.move()
    world.pass_time(1.5)
    world.mx("51.198.in-addr.arpa", mx("10:relay.other.example."))
    world.host("relay.other.example", at("198.51.100.25"))
    world.move("198.51.100.7")
    bests = [p.best.host for p in world.published[seen:]]
    assert SMTP.host not in bests
    assert bests[-1] == "relay.other.example"


def test_e6_the_grace_is_not_prolonged_by_other_changes() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.move()
    for gateway in range(1, 5):
        world.pass_time(0.6)
        world.send(FactsRead(facts(defaults=[DefaultRoute(2, 2, 100, f"192.0.2.{gateway}")])))
    assert world.best == "smtp.clear.net.nz:25"


def test_h1_during_a_round_only_the_state_changes() -> None:
    world = hookup()
    world.start("165.154.15.1")
    seen = len(world.published)
    world.silent = {FULL}
    world.send(FactsRead(facts("165.154.15.1", "198.51.100.9")))
    during = world.published[seen:]
    assert [str(p.state) for p in during] == ["resolving"]
    assert during[0].best == world.published[seen - 1].best
    assert during[0].relays == world.published[seen - 1].relays
    world.speak(FULL)
    assert [str(p.state) for p in world.published[seen + 1 :]] == ["ready"]


def test_h1_what_did_not_change_is_not_published() -> None:
    world = hookup(ttl=300)
    world.start("165.154.15.1")
    seen = len(world.published)
    world.refresh()
    said = [replace(p, relays=()) for p in world.published[seen - 1 :]]
    assert len(set(said)) == 1  # only `expires` moved


def test_h1_last_changed_is_when_host_or_port_changed() -> None:
    world = hookup()
    world.start("165.154.15.1")
    first = world.said.changed
    assert first == world.now
    world.pass_time(100)
    world.refresh()
    assert world.said.changed == first
    world.pass_time(100)
    world.relays[NOC] = DEAD
    world.refresh()
    assert world.said.changed == world.now


def test_h2_starting_until_the_first_decision() -> None:
    world = hookup()
    world.silent = {FULL}
    world.start("165.154.15.1")
    assert world.state == "starting"
    world.speak(FULL)
    assert world.state == "ready"


def test_h2_ready_when_the_definite_answer_is_that_there_is_none() -> None:
    world = World()
    world.start("165.154.15.1")
    assert world.state == "ready"
    assert world.best == ""


def test_h2_a_round_without_network_change_is_not_resolving() -> None:
    world = hookup(ttl=300)
    world.start("165.154.15.1")
    world.silent = {NET16}
    while not world.in_flight:
        world.pass_time(1)
    assert world.state == "ready"


def test_refresh_replies_at_the_decision() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.silent = {FULL}
    world.refresh(7)
    assert world.refreshed == []
    world.speak(FULL)
    assert world.refreshed == [7]


def test_refresh_a_call_while_one_runs_is_answered_by_the_next_and_at_most_one_a_second() -> None:
    world = hookup()
    world.start("165.154.15.1")
    rounds = len(world.rounds)
    world.silent = {FULL}
    world.refresh(1)
    world.refresh(2)
    world.refresh(3)
    world.speak(FULL)
    assert world.refreshed == [1]
    assert len(world.rounds) == rounds + 1
    world.pass_time(1.01)
    assert world.refreshed == [1, 2, 3]
    assert len(world.rounds) == rounds + 2


def test_refresh_is_answered_when_the_network_changes_or_goes() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.silent = {FULL}
    world.refresh(1)
    world.silent = set()
    world.move("165.154.15.1", "198.51.100.2")
    assert world.refreshed == [1]
    world.pass_time(2)
    world.silent = {FULL}
    world.refresh(2)
    world.move()
    assert world.refreshed == [1, 2]
    world.refresh(3)
    assert world.refreshed == [1, 2, 3]


def test_e1_an_answer_that_came_with_a_change_is_asked_again() -> None:
    world = hookup()
    world.silent = {FULL}
    world.start("165.154.15.1")
    question = next(iter(world.in_flight))
    world.in_flight.clear()
    world.send(Answered(question, mx("10:old.hookup.net.")), FactsRead(facts("165.154.15.1", "198.51.100.1")))
    assert question in world.in_flight


def test_e1_facts_before_servers_wait() -> None:
    world = hookup()
    world.send(FactsRead(facts("165.154.15.1")))
    assert world.asked == []
    world.send(ServersRead(VIEW))
    assert world.best == f"{NOC}:25"


def test_the_engine_is_deterministic() -> None:
    def run() -> list[object]:
        world = hookup(ttl=300)
        world.relays[NOC] = DEAD
        world.start("165.154.15.1", host("2001:db8::1"))
        world.pass_time(900)
        world.refresh()
        world.send(RefreshAsked(4))
        world.pass_time(900)
        return [*world.published, *world.asked, *world.checked]

    assert run() == run()


def test_e2_what_a_superseded_round_had_chosen_so_far_is_never_published() -> None:
    world = hookup()
    world.start("165.154.15.1")
    world.silent = {NOC}
    world.refresh()
    world.send(SettingsRead(HOME))  # supersedes, and waits for the second that `Refresh` has to keep
    world.pass_time(0.5)
    assert world.best == f"{NOC}:25"
    assert world.outcomes == ["found"]


def test_e1_what_changes_while_a_round_verifies_waits_for_the_next_one() -> None:
    world = hookup(replace(HOME, network=Network(nat="nat-pmp")))
    world.nat_silent = True
    world.mute = {NOC}
    world.start("165.154.15.1")
    world.pass_time(8.1)  # the DNS part is over, NOC is still spoken to
    request = world.nat_requests[-1]
    assert request is not None
    world.silent = {"1.113.0.203.in-addr.arpa"}
    world.send(ExternalAddressFound(request, ip_address("203.0.113.1")))
    seen = len(world.published)
    world.speak(NOC)
    assert [evidence.outcome for evidence in world.published[seen].evidence] == ["found"]
    assert world.outcomes == ["found", "pending"]  # of the next round, whose best relay that answer cannot change (E4)
    assert world.state == "ready"
    world.speak("1.113.0.203.in-addr.arpa")
    assert world.outcomes == ["found", "none"]


@pytest.mark.parametrize("known", [[], [ServersRead(VIEW)], [FactsRead(facts("165.154.15.1"))]])
def test_e3_nothing_wakes_the_engine_before_kernel_and_servers_are_known(known: list[ServersRead | FactsRead]) -> None:
    """It would be called again and again: it can do nothing until they are read."""
    engine = Engine(Settings(), b"machine")
    engine.handle([LinkRelaysSet(()), *known], 1000.0)
    assert engine.wake_at is None
    engine.handle([ServersRead(VIEW), FactsRead(facts("165.154.15.1"))], 1001.0)
    assert engine.wake_at is not None
