"""Rule B8 (experimental): SRV records at the reverse names, beside the MX question of each level."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.events import FailureReported, SettingsRead
from salsa_agent.core.large_sets import spread, weight_order
from salsa_agent.core.model import (
    Answer,
    Outcome,
    RelayKey,
    RRType,
    Server,
    ServerView,
    Source,
    SrvEntry,
    Verdict,
)
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Dns, Policy, Sender, Settings, Verify
from tests.core.selecting import Selecting, drops, keys, on, srv
from tests.core.sim import FAILED, NO_CERTIFICATE, NXDOMAIN, World, at, mx

ON = Settings(dns=Dns(srv=True))
FULL, L24, L16 = "1.15.154.165.in-addr.arpa", "15.154.165.in-addr.arpa", "154.165.in-addr.arpa"


def tls(name: str) -> str:
    return f"_submissions._tcp.{name}"


def starttls(name: str) -> str:
    return f"_submission._tcp.{name}"


def ladder(*targets: str, settings: Settings = ON, identity: bytes = b"machine") -> Selecting:
    """A host at 165.154.15.1, on a network whose relays have addresses."""
    world = Selecting(settings, on("165.154.15.1"), identity=identity)
    for number, target in enumerate(targets, 1):
        world.host(target, at(f"203.0.113.{number}"))
    return world


def network(settings: Settings = ON) -> World:
    """The same with an engine: `r1.example.net` on the SRV records of the /24, `m1.example.net` on its MX set."""
    world = World(settings)
    world.dns[starttls(L24), RRType.SRV] = srv("0:1:587:r1.example.net.")
    world.mx(L24, mx("10:m1.example.net."))
    world.host("r1.example.net", at("203.0.113.1"))
    world.host("m1.example.net", at("203.0.113.2"))
    return world


# --- what is asked


def test_b8_off_by_default_and_then_not_one_question_more() -> None:
    world = network(Settings())
    world.start("165.154.15.1")
    assert not Settings().dns.srv
    assert world.questions(RRType.SRV) == []
    assert world.relay_hosts == ["m1.example.net"]


def test_b8_both_services_are_asked_beside_the_mx_question_of_each_level_in_the_same_round() -> None:
    world = World(ON)
    world.silent = {name for level in (FULL, L24, L16) for name in (level, tls(level), starttls(level))}
    world.start("165.154.15.1")
    assert sorted(world.questions(RRType.MX)) == sorted([FULL, L24, L16])
    assert sorted(world.questions(RRType.SRV)) == sorted(
        f(level) for level in (FULL, L24, L16) for f in (tls, starttls)
    )
    assert len(world.in_flight) == 9
    assert {question.servers for question in world.asked} == {(Server("192.0.2.53"),)}


def test_b8_the_servers_of_the_link_are_asked_and_of_them_the_targets() -> None:
    world = ladder("r1.example.net")
    world.view = ServerView((Server("192.0.2.53"),), links=((2, (Server("198.51.100.53", ifindex=2),)),))
    world.srv(tls(L24), srv("0:1:465:r1.example.net."))
    world.run()
    assert {server.address for question in world.asked for server in question.servers} == {"198.51.100.53"}


# --- which level decides


def test_b8_an_srv_set_wins_over_the_mx_set_of_its_level() -> None:
    world = network()
    world.start("165.154.15.1")
    assert world.relay_hosts == ["r1.example.net"]
    assert world.best == "r1.example.net:587"
    assert (world.said.evidence[0].level, world.said.evidence[0].name) == (24, starttls(L24))
    assert "m1.example.net" not in world.questions(RRType.A), "its MX set is not used, so it is not looked up"


def test_b8_an_mx_set_of_a_more_specific_level_wins_over_an_srv_set_of_a_less_specific_one() -> None:
    world = ladder("r1.example.net", "m1.example.net")
    world.srv(tls(L24), srv("0:1:465:r1.example.net."))
    world.mx(FULL, mx("10:m1.example.net."))
    choice = world.run()
    assert keys(choice.relays) == ["dns m1.example.net:25"]
    assert choice.evidence[0].level == 32


def test_b8_the_climb_ends_at_an_srv_set_of_which_no_target_is_usable() -> None:
    world = ladder("m1.example.net")
    world.srv(tls(FULL), srv("0:1:465:nowhere.example.net."))
    world.mx(FULL, mx("10:m1.example.net."))
    world.mx(L24, mx("10:m1.example.net."))
    choice = world.run()
    assert choice.relays == ()
    assert (choice.evidence[0].outcome, choice.evidence[0].level) == (Outcome.FOUND, 32)


def test_b8_an_srv_set_beside_a_null_mx_wins() -> None:
    world = ladder("r1.example.net")
    world.mx(L24, mx("0:."))
    world.srv(tls(L24), srv("0:1:465:r1.example.net."))
    choice = world.run()
    assert keys(choice.relays) == ["dns r1.example.net:465"]
    assert choice.evidence[0].outcome is Outcome.FOUND


@pytest.mark.parametrize("record", ["0:0:0:.", "7:1:465:."])
def test_b8_a_single_target_dot_says_that_the_service_is_not_there(record: str) -> None:
    world = ladder("m1.example.net", "m2.example.net")
    world.srv(tls(FULL), srv(record))
    world.srv(starttls(FULL), srv(record))
    world.mx(L24, mx("10:m1.example.net."))
    assert keys(world.run().relays) == ["dns m1.example.net:25"], "nothing at the level: the climb goes on"
    world = ladder("m1.example.net", "r1.example.net")
    world.srv(tls(L24), srv(record))
    world.srv(starttls(L24), srv("0:1:587:r1.example.net."))
    world.mx(L24, mx("10:m1.example.net."))
    assert keys(world.run().relays) == ["dns r1.example.net:587"], "the other service is there"
    world = ladder("m1.example.net")
    world.srv(tls(L24), srv(record))
    world.mx(L24, mx("10:m1.example.net."))
    assert keys(world.run().relays) == ["dns m1.example.net:25"], "neither: the MX set decides"


def test_b8_a_level_is_decided_when_its_srv_answers_are_in() -> None:
    world = network()
    world.silent = {tls(L24)}
    world.start("165.154.15.1")
    assert world.state == "starting", "the other service may come first"
    world.speak(tls(L24))
    assert world.best == "r1.example.net:587"


def test_b8_without_an_srv_set_the_level_is_decided_when_its_mx_answer_is_in_too() -> None:
    world = network()
    world.dns.pop((starttls(L24), RRType.SRV))
    world.silent = {L24}
    world.start("165.154.15.1")
    assert world.state == "starting"
    world.speak(L24)
    assert world.best == "m1.example.net:25"


def test_b8_where_an_srv_set_decides_the_mx_answer_is_not_waited_for() -> None:
    world = network()
    world.silent = {L24, L16}
    world.start("165.154.15.1")
    assert world.best == "r1.example.net:587"
    assert world.state == "ready"


def test_b8_an_srv_answer_that_failed_holds_nothing_back_and_is_asked_again() -> None:
    world = network()
    world.dns[starttls(L24), RRType.SRV] = FAILED
    world.start("165.154.15.1")
    assert world.best == "m1.example.net:25"
    assert world.state == "degraded"
    world.dns[starttls(L24), RRType.SRV] = srv("0:1:587:r1.example.net.")
    world.pass_time(2.5)
    assert world.best == "r1.example.net:587"
    assert world.state == "ready"


def test_b8_a_level_with_a_failed_srv_answer_and_nothing_else_has_failed() -> None:
    world = World(ON)
    world.dns[tls(FULL), RRType.SRV] = FAILED
    world.start("165.154.15.1")
    assert world.outcomes == ["failed"]
    assert world.state == "degraded"


def test_b8_where_an_srv_set_decides_a_failed_mx_answer_does_not_matter() -> None:
    world = network()
    world.mx(L24, FAILED)
    world.start("165.154.15.1")
    assert world.best == "r1.example.net:587"
    assert world.state == "ready"


def test_b8_what_was_found_stands_on_this_network_and_on_no_other() -> None:
    """E5: the records are the network's, unlike those of a domain (C12)."""
    world = network()
    world.start("165.154.15.1")
    world.dns[starttls(L24), RRType.SRV] = FAILED
    world.refresh()
    assert world.best == "r1.example.net:587"
    assert world.state == "degraded"
    world.move("165.154.15.2")  # another network, of which nothing else is known than that it asks at the same name
    assert world.best == "m1.example.net:25"


# --- which relays


def test_b8_by_priority_submissions_first_then_by_weight() -> None:
    world = ladder("a.example.net", "b.example.net", "c.example.net")
    world.srv(starttls(L24), srv("0:1:587:a.example.net.", "10:1:587:b.example.net."))
    world.srv(tls(L24), srv("10:0:465:c.example.net.", "10:5:4465:b.example.net.", "20:1:465:a.example.net."))
    choice = world.run()
    assert keys(choice.relays) == [
        "dns a.example.net:587",
        "dns b.example.net:4465",
        "dns c.example.net:465",
        "dns b.example.net:587",
        "dns a.example.net:465",
    ]
    assert [(r.srv, r.implicit_tls, r.preference, r.level, r.name) for r in choice.relays[:2]] == [
        ("submission", False, 0, 24, starttls(L24)),
        ("submissions", True, 10, 24, tls(L24)),
    ]
    assert not any(relay.administrator for relay in choice.relays)


def test_b8_within_one_priority_and_service_by_the_formula_of_c12() -> None:
    weights = {f"r{i}.example.net": weight for i, weight in enumerate((0, 1, 10, 100, 65535, 7))}
    world = ladder(*weights)
    world.srv(tls(L24), srv(*(f"0:{weight}:465:{host}." for host, weight in weights.items())))
    expected = sorted(weights, key=lambda host: -weight_order(spread(b"machine", host), weights[host]))
    assert [relay.key.host for relay in world.run().relays] == expected


def test_b8_targets_must_be_host_names_with_a_port_and_have_addresses() -> None:
    world = ladder("r1.example.net")
    world.host("loop.example.net", at("127.0.0.1"))
    records = ("0:1:465:localhost.", "0:1:0:r1.example.net.", "0:1:465:.", "1:1:465:loop.example.net.")
    world.srv(tls(L24), srv(*records, "2:1:465:gone.example.net.", "3:1:465:r1.example.net."))
    choice = world.run()
    assert keys(choice.relays) == ["dns r1.example.net:465"]
    assert drops(choice) == {
        ("localhost", "C2"),
        ("r1.example.net", "B8"),
        (".", "B8"),
        ("loop.example.net", "C3"),
        ("gone.example.net", "C3"),
    }
    assert {drop.name for drop in choice.dropped} == {tls(L24)}


def test_b8_this_host_among_the_targets_rules_out_what_is_no_better() -> None:
    world = ladder("a.example.net", "c.example.net")
    world.host("self.example.net", at("165.154.15.1"))
    world.srv(tls(L24), srv("0:1:465:a.example.net.", "10:1:465:self.example.net."))
    world.srv(starttls(L24), srv("10:1:587:c.example.net."))
    choice = world.run()
    assert keys(choice.relays) == ["dns a.example.net:465"]
    assert drops(choice) == {("self.example.net", "C4"), ("c.example.net", "C4")}


def test_b8_the_bounds_of_c5_hold_for_both_services_together() -> None:
    names = [f"r{i}.example.net" for i in range(20)]
    world = ladder(*names)
    world.srv(tls(L24), srv(*(f"{i}:1:465:{name}." for i, name in enumerate(names))))
    world.srv(starttls(L24), srv(*(f"{i}:1:587:{name}." for i, name in enumerate(names))))
    choice = world.run()
    assert len(choice.relays) == 32
    assert len([drop for drop in choice.dropped if drop.rule == "C5"]) == 8


def test_b8_policy_holds_as_for_an_mx_set() -> None:
    settings = replace(ON, policy=Policy(deny=("bad.*",)))
    world = ladder("bad.example.net", "good.example.net", settings=settings)
    world.srv(tls(L24), srv("0:1:465:bad.example.net.", "1:1:465:good.example.net."))
    choice = world.run()
    assert keys(choice.relays) == ["dns good.example.net:465"]
    assert drops(choice) == {("bad.example.net", "C7")}
    world = ladder("good.example.net", settings=replace(ON, policy=Policy(require="dnssec")))
    world.srv(tls(L24), srv("0:1:465:good.example.net."))
    assert drops(world.run()) == {("good.example.net", "C7")}
    world = ladder(settings=replace(ON, policy=Policy(require="dnssec")))
    world.srv(tls(L24), srv("0:1:465:good.example.net.", ad=True))
    world.host("good.example.net", at("203.0.113.1", ad=True))
    assert [relay.authenticated for relay in world.run().relays] == [True]


# --- how they are spoken to


def test_b8_what_submissions_names_is_inside_tls_and_submission_must_offer_starttls() -> None:
    world = network()
    world.dns[tls(L24), RRType.SRV] = srv("1:1:4465:m1.example.net.")
    world.start("165.154.15.1")
    assert [(c.key.port, c.implicit_tls, c.tls, c.administrator) for c in world.checked] == [
        (587, False, "offered", False),
        (4465, True, "off", False),
    ]


@pytest.mark.parametrize("asked", ["offered", "valid"])
def test_b8_the_certificate_is_checked_as_verify_tls_says(asked: str) -> None:
    world = network(replace(ON, verify=Verify(tls=asked)))
    world.start("165.154.15.1")
    assert [check.tls for check in world.checked] == [asked]


def test_b8_the_bounds_of_d11_hold() -> None:
    world = World(ON)
    names = [f"r{i}.example.net" for i in range(12)]
    world.dns[tls(L24), RRType.SRV] = srv(*(f"{i}:1:465:{name}." for i, name in enumerate(names)))
    for number, name in enumerate(names, 1):
        world.host(name, at(f"203.0.113.{number}"))
        world.relays[name] = NO_CERTIFICATE
    world.start("165.154.15.1")
    assert len({check.addresses for check in world.checked}) == 8
    assert [one.reason for one in world.said.relays[8:]] == ["D11"] * 4


def test_b8_the_verdict_on_a_relay_of_the_network_is_none_on_that_of_a_domain() -> None:
    """C12: what a domain's SRV records name must prove its name, also where the network names the same."""
    settings = replace(ON, senders=(Sender(("*@home.example",), (SrvEntry("home.example"),)),))
    world = network(settings)
    world.dns["_submission._tcp.home.example", RRType.SRV] = srv("0:1:587:r1.home.example.")
    world.dns[starttls(L24), RRType.SRV] = srv("0:1:587:r1.home.example.")
    world.host("r1.home.example", at("203.0.113.1"))
    world.uncertified = {"r1.home.example"}
    world.start("165.154.15.1")
    assert [(one.relay.source, one.verdict) for one in world.said.relays] == [(Source.DNS, Verdict.OK)]
    assert [one.verdict for one in world.said.senders[0].relays] == [Verdict.FAILED]


def test_b8_a_report_and_the_list_that_stays() -> None:
    world = network()
    world.dns[tls(L24), RRType.SRV] = srv("5:1:465:m1.example.net.")
    world.start("165.154.15.1")
    world.relays["r1.example.net"] = NO_CERTIFICATE
    world.send(FailureReported(RelayKey("r1.example.net", 587), "relaying denied"))
    assert world.best == "m1.example.net:465"


def test_b8_turned_on_by_a_reload_it_is_asked_at_once() -> None:
    world = network(Settings())
    world.start("165.154.15.1")
    assert world.best == "m1.example.net:25"
    world.send(SettingsRead(ON))
    assert world.best == "r1.example.net:587"
    world.send(SettingsRead(Settings()))
    assert world.best == "m1.example.net:25"


def test_b8_prefetching_looks_up_the_targets_of_the_set_that_is_known() -> None:
    """E4: in the second half of the DNS part, exchanges are looked up though a more specific level is not in yet."""
    world = network()
    world.silent = {FULL}
    world.start("165.154.15.1")
    assert world.questions(RRType.A) == []
    world.pass_time(4.5)
    assert world.questions(RRType.A) == ["r1.example.net"]


def test_b8_an_empty_answer_says_nothing_about_other_levels() -> None:
    world = ladder("r1.example.net")
    world.srv(tls(FULL), NXDOMAIN)
    world.srv(tls(L24), Answer(Outcome.NONE, rcode="NOERROR", ttl=60))
    world.srv(tls(L16), srv("0:1:465:r1.example.net."))
    assert world.run().evidence[0].level == 16


def test_b8_no_more_questions_in_flight_than_b2_allows() -> None:
    world = World(ON)
    ips = [f"10.{i}.1.1" for i in range(1, 31)]
    levels = {name_at(ip_address(ip), level) for ip in ips for level in (32, 24, 16)}
    world.silent = {name for level in levels for name in (level, tls(level), starttls(level))}
    world.start(*ips)
    assert world.most_in_flight == 64
