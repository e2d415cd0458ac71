"""Rule C12: `srv:DOMAIN`, the relays that a domain names in its own SRV records (RFC 6186, RFC 8314)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log

import pytest

from salsa_agent.core.events import FailureReported
from salsa_agent.core.large_sets import spread, weight_order
from salsa_agent.core.model import DomainRoute, RelayKey, RRType, Server, SrvEntry
from salsa_agent.core.settings import Policy, Sender, Settings
from tests.core.selecting import Selecting, drops, entry, keys, on, srv
from tests.core.sim import FAILED, World, at, mx

TLS, STARTTLS = "_submissions._tcp.home.example", "_submission._tcp.home.example"


def home(*targets: str, identity: bytes = b"machine", extra: tuple[str, ...] = ()) -> Selecting:
    """A host whose provider's targets have addresses."""
    entries = (entry("srv:home.example"), *map(entry, extra))
    world = Selecting(Settings(static_relays=entries), on("165.154.15.1"), identity=identity)
    for number, target in enumerate(targets, 1):
        world.host(target, at(f"203.0.113.{number}"))
    return world


def test_c12_both_services_by_priority_and_within_one_submissions_first() -> None:
    world = home("a.home.example", "b.home.example")
    world.srv(STARTTLS, srv("0:1:587:a.home.example.", "10:1:587:b.home.example."))
    world.srv(TLS, srv("10:1:465:b.home.example.", "20:1:465:a.home.example."))
    choice = world.run()
    assert keys(choice.relays) == [
        "static a.home.example:587",
        "static b.home.example:465",
        "static b.home.example:587",
        "static a.home.example:465",
    ]
    assert [(r.srv, r.implicit_tls, r.preference, r.name) for r in choice.relays[:2]] == [
        ("submission", False, 0, STARTTLS),
        ("submissions", True, 10, TLS),
    ]
    assert all(relay.administrator for relay in choice.relays)


def test_c12_submissions_on_another_port_is_tls_from_the_first_octet() -> None:
    world = home("a.home.example")
    world.srv(TLS, srv("0:1:4465:a.home.example."))
    assert [relay.implicit_tls for relay in world.run().relays] == [True]


def test_c12_within_one_priority_and_service_by_the_weight_formula() -> None:
    weights = {f"r{i}.home.example": weight for i, weight in enumerate((0, 1, 10, 100, 0, 65535, 7))}
    world = home(*weights)
    world.srv(TLS, srv(*(f"0:{weight}:465:{host}." for host, weight in weights.items())))

    def order(host: str) -> tuple[bool, float, bytes]:
        hashed = spread(b"machine", host)
        u = (int.from_bytes(hashed[:6], "big") + 0.5) / 2**48
        weight = weights[host]
        return weight == 0, -log(u) / weight if weight else 0.0, hashed

    assert [relay.key.host for relay in world.run().relays] == sorted(weights, key=order)


def test_c12_the_weights_spread_a_fleet_and_weight_0_comes_last() -> None:
    weights = {"heavy.home.example": 3, "light.home.example": 1, "spare.home.example": 0}
    firsts: Counter[str] = Counter()
    for machine in range(400):
        order = sorted(weights, key=lambda host: -weight_order(spread(str(machine).encode(), host), weights[host]))
        firsts[order[0]] += 1
        assert order[-1] == "spare.home.example"
    assert 250 < firsts["heavy.home.example"] < 350
    assert firsts["light.home.example"] == 400 - firsts["heavy.home.example"]


def test_c12_the_hash_is_never_at_the_ends() -> None:
    assert weight_order(b"\0" * 32, 1) < weight_order(b"\xff" * 32, 1) < 0


@pytest.mark.parametrize("service", [TLS, STARTTLS])
def test_c12_a_single_dot_says_that_the_service_is_not_there(service: str) -> None:
    world = home("a.home.example")
    world.srv(TLS, srv("0:1:465:a.home.example."))
    world.srv(STARTTLS, srv("0:1:587:a.home.example."))
    world.srv(service, srv("0:0:0:."))
    choice = world.run()
    assert [relay.name for relay in choice.relays] == [STARTTLS if service == TLS else TLS]
    assert drops(choice) == set()
    assert not choice.failing


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        (".", "C2"),
        ("localhost.", "C2"),
        ("a_b.home.example.", "C2"),
        ("$(reboot).home.example.", "C2"),
        ("192.0.2.1.", "C2"),
        ("loop.home.example.", "C3"),
        ("gone.home.example.", "C3"),
        ("mail.evil.example.", "C12"),
        ("home.example.evil.example.", "C12"),
        ("nothome.example.", "C12"),
    ],
)
def test_c12_a_target_that_is_not_used_is_seen(target: str, rule: str) -> None:
    world = home("a.home.example", "mail.evil.example", "home.example.evil.example", "nothome.example")
    world.host("loop.home.example", at("127.0.0.1"))
    world.srv(TLS, srv(f"0:1:465:{target}", "5:1:465:a.home.example."))
    choice = world.run()
    assert keys(choice.relays) == ["static a.home.example:465"]
    assert [(drop.rule, drop.name) for drop in choice.dropped] == [(rule, TLS)]
    assert all(" " <= c <= "~" for c in choice.dropped[0].host)


def test_c12_port_0_is_no_port() -> None:
    world = home("a.home.example")
    world.srv(TLS, srv("0:1:0:a.home.example."))
    choice = world.run()
    assert keys(choice.relays) == []
    assert drops(choice) == {("a.home.example", "C12")}


@pytest.mark.parametrize(
    ("target", "targets", "authenticated"),
    [
        ("home.example.", (), False),
        ("MAIL.Home.example.", (), False),
        ("mx.provider.example.", ("*.provider.example",), False),
        ("mx.provider.example.", (), True),
    ],
)
def test_c12_a_target_of_the_domain_a_listed_or_an_authenticated_one_is_used(
    target: str, targets: tuple[str, ...], authenticated: bool
) -> None:
    host = target.lower().rstrip(".")
    world = home(host)
    world.settings = replace(world.settings, srv_targets=targets)
    world.srv(TLS, srv(f"0:1:465:{target}", ad=authenticated))
    assert [relay.key.host for relay in world.run().relays] == [host]


def test_c12_authenticated_is_judged_for_each_set() -> None:
    world = home("mx.provider.example")
    world.srv(TLS, srv("0:1:465:mx.provider.example."))
    world.srv(STARTTLS, srv("0:1:587:mx.provider.example.", ad=True))
    choice = world.run()
    assert keys(choice.relays) == ["static mx.provider.example:587"]
    assert drops(choice) == {("mx.provider.example", "C12")}


def test_c12_the_8_best_of_both_services_count_and_no_more_are_looked_up() -> None:
    hosts = [f"r{i}.home.example" for i in range(12)]
    world = home(*hosts)
    world.srv(TLS, srv(*(f"{i}:1:465:{host}." for i, host in enumerate(hosts[:6]))))
    world.srv(STARTTLS, srv(*(f"{10 + i}:1:587:{host}." for i, host in enumerate(hosts[6:]))))
    choice = world.run()
    assert [relay.key.host for relay in choice.relays] == hosts[:8]
    assert drops(choice) == {(host, "C12") for host in hosts[8:]}
    assert set(world.names(RRType.A)) == set(hosts[:8])


def test_c12_the_same_target_twice_is_listed_once() -> None:
    world = home("a.home.example")
    world.srv(TLS, srv("5:1:465:a.home.example.", "0:1:465:A.home.example."))
    choice = world.run()
    assert [(relay.key.host, relay.preference) for relay in choice.relays] == [("a.home.example", 0)]


def test_c12_only_both_answers_give_the_order() -> None:
    world = home("a.home.example", extra=("192.0.2.99:25",))
    world.srv(TLS, srv("10:1:465:a.home.example."))
    world.silent = {STARTTLS}
    choice = world.run()
    assert keys(choice.relays) == ["static 192.0.2.99:25"]
    assert (choice.firm, choice.settled) == (0, False)


def test_c12_nothing_behind_a_target_that_is_still_looked_up_is_firm() -> None:
    world = home("a.home.example", "c.home.example")
    hosts = ("a.home.example", "b.home.example", "c.home.example")
    world.srv(TLS, srv(*(f"{i}:1:465:{host}." for i, host in enumerate(hosts))))
    world.silent = {"b.home.example"}
    choice = world.run()
    assert (keys(choice.relays), choice.firm) == (["static a.home.example:465"], 1)
    assert "c.home.example" in world.names(RRType.A)


def test_c12_the_relays_before_it_do_not_wait_for_its_answer() -> None:
    world = Selecting(Settings(static_relays=(RelayKey("smtp", 25), SrvEntry("home.example"))), on("165.154.15.1"))
    world.silent = {TLS, STARTTLS}
    choice = world.run()
    assert (choice.firm, choice.settled) == (1, False)


def test_c12_a_failed_service_takes_nothing_from_the_other_and_is_asked_again() -> None:
    world = home("a.home.example")
    world.srv(TLS, FAILED)
    world.srv(STARTTLS, srv("0:1:587:a.home.example."))
    choice = world.run()
    assert keys(choice.relays) == ["static a.home.example:587"]
    assert choice.failing
    assert TLS in {question.name for question in choice.depends_on}


def test_c12_a_domain_that_says_nothing_stands_for_nothing() -> None:
    choice = home(extra=("smtp.clear.net.nz:25",)).run()
    assert keys(choice.relays) == ["static smtp.clear.net.nz:25"]
    assert not choice.failing


def test_d3_the_last_resort_is_the_first_entry_that_stands_for_a_relay() -> None:
    world = home(extra=("smtp.clear.net.nz:25",))
    assert world.run().last_resort == RelayKey("smtp.clear.net.nz", 25)
    world = home("a.home.example", extra=("smtp.clear.net.nz:25",))
    world.srv(TLS, srv("0:1:465:a.home.example."))
    assert world.run().last_resort == RelayKey("a.home.example", 465)


def test_c12_it_is_asked_where_its_domain_is_routed_and_not_in_the_hosts_file() -> None:
    world = home("a.home.example")
    vpn = Server("192.0.2.1", ifindex=7)
    world.view = world.view._replace(routes=(DomainRoute("home.example", 7, (vpn,)),))
    world.srv(TLS, srv("0:1:465:a.home.example."))
    world.run()
    asked = [question for question in world.asked if question.name.endswith("home.example")]
    assert {question.name for question in asked} == {TLS, STARTTLS, "a.home.example"}
    assert all(question.servers == (vpn,) and not question.hosts for question in asked)


def test_c3_a_relay_from_srv_expires_with_its_records_or_its_addresses() -> None:
    world = home()
    world.host("a.home.example", at("203.0.113.1", ttl=300))
    world.srv(TLS, srv("0:1:465:a.home.example.", ttl=3600))
    assert world.run().relays[0].expires == 1300.0


def test_e5_an_srv_set_belongs_to_its_domain_and_not_to_the_network() -> None:
    world = home("a.home.example")
    world.srv(TLS, srv("0:1:465:a.home.example."))
    world.run()
    assert {question.rtype for question in world.asked if not question.of_network} == {RRType.SRV}


def test_c12_a_target_may_be_at_a_private_address_of_any_link() -> None:
    world = home()
    world.hosts = (*world.hosts, on("10.1.0.7", 3, 16))
    world.settings = replace(world.settings, policy=Policy(internal=False))
    world.host("a.home.example", at("10.1.0.25"))
    world.srv(TLS, srv("0:1:465:a.home.example."))
    assert keys(world.run().relays) == ["static a.home.example:465"]


# --- in the engine


def deciding(*entries: str) -> World:
    """The records of the domain are not answered."""
    world = World(Settings(static_relays=tuple(map(entry, entries))))
    world.dns[TLS, RRType.SRV] = srv("0:1:465:a.home.example.")
    world.host("a.home.example", at("203.0.113.1"))
    world.silent = {TLS}
    world.start("165.154.15.1")
    return world


def test_c12_a_decision_does_not_wait_for_records_that_the_best_relay_does_not_depend_on() -> None:
    world = deciding("192.0.2.99:25", "srv:home.example")
    assert (world.best, world.state) == ("192.0.2.99:25", "ready")
    assert world.relay_hosts == ["192.0.2.99"]
    world.speak(TLS)  # a list changed by a later answer is published like a later verdict
    assert world.relay_hosts == ["192.0.2.99", "a.home.example"]
    assert world.best == "192.0.2.99:25"


def test_c12_a_decision_waits_for_records_that_the_best_relay_depends_on() -> None:
    world = deciding("srv:home.example", "192.0.2.99:25")
    assert world.state == "starting"
    world.speak(TLS)
    assert world.best == "a.home.example:465"
    world = deciding("srv:home.example", "192.0.2.99:25")
    world.pass_time(9)  # the DNS part of the round (E4)
    assert (world.best, world.state) == ("192.0.2.99:25", "degraded")


def test_c12_a_relay_from_records_is_checked_as_under_valid() -> None:
    world = deciding("192.0.2.99:25", "srv:home.example")
    world.speak(TLS)
    assert {check.key.host: check.tls for check in world.checked} == {"192.0.2.99": "off", "a.home.example": "valid"}


@pytest.mark.parametrize("named_by", ["the network", "the administrator"])
def test_c12_a_verdict_without_a_certificate_is_never_that_on_a_relay_from_srv_records(named_by: str) -> None:
    """A forged record may lead to a host and port that another table, or the network itself, names, too."""
    sender = Sender(("*@home.example",), (SrvEntry("home.example"),))
    static = (RelayKey("mail.home.example", 25),) if named_by == "the administrator" else ()
    world = World(Settings(static_relays=static, senders=(sender,)))
    if named_by == "the network":
        world.mx("15.154.165.in-addr.arpa", mx("10:mail.home.example."))
    world.dns[STARTTLS, RRType.SRV] = srv("0:1:25:mail.home.example.")
    world.host("mail.home.example", at("203.0.113.5"))
    world.uncertified = {"mail.home.example"}
    world.start("165.154.15.1")
    assert [(one.relay.srv, one.verdict) for one in world.said.relays] == [("", "ok")]
    assert [(one.relay.srv, one.verdict) for one in world.said.senders[0].relays] == [("submission", "failed")]
    assert len(world.checked) == 2
    world.send(FailureReported(RelayKey("mail.home.example", 25), "554"))
    assert [(one.relay.srv, one.verdict) for one in world.said.senders[0].relays] == [("submission", "failed")]


def test_c12_what_the_network_names_has_the_administrators_rights_only_under_the_conditions_of_the_records() -> None:
    world = World(Settings(static_relays=(SrvEntry("home.example"),)))
    world.mx("15.154.165.in-addr.arpa", mx("10:mail.home.example."))
    world.dns[STARTTLS, RRType.SRV] = srv("0:1:25:mail.home.example.")
    world.host("mail.home.example", at("203.0.113.5"))
    world.uncertified = {"mail.home.example"}
    world.start("165.154.15.1")
    (listed,) = world.said.relays
    assert (listed.relay.source, listed.relay.administrator, listed.verdict) == ("dns", True, "failed")
