"""Rules C: the relay list."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.core import admission as names
from salsa_agent.core.model import Answer, Mx, Outcome, Question, RelayKey, RRType, Source
from salsa_agent.core.settings import Policy, Settings, Site
from salsa_agent.text import sanitize
from tests.core.sim import FAILED, World, at, host, mx

SMTP = RelayKey("smtp.clear.net.nz", 25)


def world_with(*exchanges: str, settings: Settings | None = None, identity: bytes = b"machine") -> World:
    """A world whose /24 has these exchanges, each with an address of its own."""
    world = World(settings, identity=identity)
    world.mx("15.154.165.in-addr.arpa", mx(*exchanges))
    for number, word in enumerate(exchanges, 1):
        world.host(names.canonical(word.split(":")[1]), at(f"203.0.113.{number}"))
    return world


def test_c1_ascending_preference() -> None:
    world = world_with("20:vertex.hookup.net.", "10:noc.hookup.net.", "5:a.hookup.net.")
    world.start("165.154.15.1")
    assert world.relay_hosts == ["a.hookup.net", "noc.hookup.net", "vertex.hookup.net"]


def test_c1_equal_preferences_spread_over_machines_and_stay_on_one() -> None:
    words = [f"10:r{i}.hookup.net." for i in range(4)]
    firsts = set()
    for machine in range(40):
        orders = []
        for order in (words, words[::-1]):
            world = world_with(*order, identity=str(machine).encode())
            world.start("165.154.15.1")
            orders.append(world.relay_hosts)
        assert orders[0] == orders[1]
        firsts.add(orders[0][0])
    assert len(firsts) == 4


@pytest.mark.parametrize(
    "exchange",
    [
        "localhost.", "relay.", "a.localhost.", "x.invalid.", "1.2.0.192.in-addr.arpa.", "x.ip6.arpa.", "in-addr.arpa.",
        "192.0.2.1.", "host.123.", "-a.example.net.", "a-.example.net.", "a_b.example.net.", "a..example.net.",
        "exa mple.net.", "a\\000b.example.net.", "ex\u00e4mple.net.", "a/b.example.net.", "$(reboot).example.net.",
        "a.example.net\n.", f"{'a' * 64}.example.net.", ".".join(["a" * 63] * 4) + ".net.", "*.example.net.",
    ],
)  # fmt: skip
def test_c2_anything_but_a_host_name_is_dropped_and_seen(exchange: str) -> None:
    world = World()
    records = (Mx(10, exchange), Mx(20, "noc.hookup.net."))
    world.mx("15.154.165.in-addr.arpa", Answer(Outcome.FOUND, mx=records, ttl=600))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net"]
    drops = [drop for drop in world.said.dropped if drop.rule == "C2"]
    assert all(drop.host == sanitize(names.canonical(exchange)) for drop in drops)
    assert len(drops) == 1
    assert all(" " <= c <= "~" for c in drops[0].host)
    assert len(drops[0].host) <= 200


@pytest.mark.parametrize("name", ["127.0.0.0x1", "127.0x1", "0x7f.0.0x1", "0x7f.0x0.0x0.0x1", "10.0x5", "0177.0.0x1"])
def test_c2_what_getaddrinfo_takes_for_an_address_is_no_host_name(name: str) -> None:
    """A mail program would go there, and not where the relay was verified."""
    assert socket.inet_aton(name)
    world = world_with(f"10:{name.upper()}.")
    world.start("165.154.15.1")
    assert (world.relay_hosts, world.dropped()) == ([], {(name, "C2")})
    assert not world.questions(RRType.A)


@given(st.from_regex(r"[0-9a-fx]{1,4}(\.[0-9a-fx]{1,4}){1,4}", fullmatch=True))
def test_c2_no_host_name_is_an_address(name: str) -> None:
    try:
        socket.inet_aton(name)
    except OSError:
        return
    assert names.hostname_error(name)


@pytest.mark.parametrize(
    "name", ["noc.tor.hookup.net", "a.b", "3com.example", "x1--2.example", ".".join(["a" * 61] * 4) + ".ab.cd"]
)
def test_c2_host_names_are_let_in(name: str) -> None:
    assert names.hostname_error(name) == ""


def test_c2_names_are_published_in_lower_case_without_trailing_dot() -> None:
    world = world_with("10:NOC.Tor.Hookup.NET.")
    world.start("165.154.15.1")
    assert world.best == "noc.tor.hookup.net:25"


def test_c3_an_exchange_without_address_is_dropped() -> None:
    world = world_with("20:vertex.hookup.net.")
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net.", "20:vertex.hookup.net."))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["vertex.hookup.net"]
    assert world.dropped() == {("noc.hookup.net", "C3")}


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "169.254.1.1", "255.255.255.255",
     "::1", "::", "ff02::1", "fe80::1", "::ffff:192.0.2.1", "::192.0.2.1"],
)  # fmt: skip
def test_c3_addresses_that_no_relay_can_have(ip: str) -> None:
    world = world_with("10:noc.hookup.net.", "20:vertex.hookup.net.")
    (world.host6 if ":" in ip else world.host)("noc.hookup.net", at(ip))
    if ":" in ip:
        del world.dns["noc.hookup.net", RRType.A]
    world.start("165.154.15.1")
    assert world.relay_hosts == ["vertex.hookup.net"]
    assert world.dropped() == {("noc.hookup.net", "C3")}


def test_c3_private_addresses_are_let_in() -> None:
    world = world_with("10:noc.hookup.net.")
    world.host("noc.hookup.net", at("192.168.1.25", "127.0.0.1"))
    world.start("192.168.1.7", "165.154.15.1")
    assert [str(ip) for ip in world.said.relays[0].relay.addresses] == ["192.168.1.25"]


def test_c3_one_family_failed_the_exchange_stands_and_the_state_is_degraded() -> None:
    world = world_with("10:noc.hookup.net.")
    world.host6("noc.hookup.net", FAILED)
    world.start("165.154.15.1")
    assert world.best == "noc.hookup.net:25"
    assert world.state == "degraded"


def test_c4_an_exchange_of_this_host_bars_the_same_and_worse_preferences() -> None:
    world = world_with("5:best.hookup.net.", "10:me.hookup.net.", "10:peer.hookup.net.", "20:worse.hookup.net.")
    world.host("me.hookup.net", at("165.154.15.1"))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["best.hookup.net"]
    assert world.dropped() == {(f"{name}.hookup.net", "C4") for name in ("me", "peer", "worse")}


def test_c4_an_address_that_does_not_count_makes_it_this_host_too() -> None:
    world = world_with("10:me.hookup.net.")
    world.host("me.hookup.net", at("172.17.0.1"))
    world.start("165.154.15.1", host("172.17.0.1", flags=0x40))
    assert world.relay_hosts == []


def test_c4_noticed_when_an_own_address_comes_that_does_not_count() -> None:
    world = world_with("10:noc.hookup.net.")
    world.start("165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net"]
    asked = len(world.asked)
    world.move("165.154.15.1", host("203.0.113.1", flags=0x40))
    assert world.relay_hosts == []
    assert len(world.asked) == asked


def test_c4_nothing_it_could_rule_out_is_published_before_both_lookups_ended() -> None:
    world = world_with("10:me.hookup.net.", "20:worse.hookup.net.")
    world.silent = {"me.hookup.net"}
    world.start("165.154.15.1")
    assert world.published == []
    world.host("me.hookup.net", at("165.154.15.1"))
    world.speak("me.hookup.net")
    assert world.relay_hosts == []


def test_c4_a_failed_lookup_rules_nothing_out() -> None:
    world = world_with("10:me.hookup.net.", "20:worse.hookup.net.")
    world.host("me.hookup.net", FAILED)
    world.start("165.154.15.1")
    assert world.relay_hosts == ["worse.hookup.net"]


def test_c5_of_a_set_the_32_best() -> None:
    words = [f"{i}:r{i}.hookup.net." for i in range(1, 41)]
    world = world_with(*reversed(words))
    world.start("165.154.15.1")
    assert world.relay_hosts == [f"r{i}.hookup.net" for i in range(1, 33)]
    assert world.dropped() == {(f"r{i}.hookup.net", "C5") for i in range(33, 41)}


def test_c5_names_that_are_no_host_names_take_no_place_among_the_32() -> None:
    words = [f"{i}:bad_{i}.hookup.net." for i in range(40)] + ["50:noc.hookup.net."]
    world = world_with(*words)
    world.start("165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net"]


def test_c5_at_most_16_addresses_of_an_exchange_both_families_among_them() -> None:
    world = world_with("10:noc.hookup.net.")
    world.host("noc.hookup.net", at(*(f"203.0.113.{i}" for i in range(1, 31))))
    world.host6("noc.hookup.net", at(*(f"2001:db8::{i}" for i in range(1, 31))))
    world.start("165.154.15.1")
    addresses = world.said.relays[0].relay.addresses
    assert len(addresses) == 16
    assert {ip.version for ip in addresses} == {4, 6}


def test_c5_at_most_64_relays_besides_the_static_ones() -> None:
    world = World(Settings(static_relays=(SMTP,)))
    for net in range(1, 4):
        hosts = [f"r{net}-{i}.hookup.net" for i in range(30)]
        world.mx(f"{net}.154.165.in-addr.arpa", mx(*(f"10:{name}." for name in hosts)))
        for i, name in enumerate(hosts):
            world.host(name, at(f"203.0.{net}.{i + 1}"))
    world.start("165.154.1.1", "165.154.2.1", "165.154.3.1")
    assert len(world.relay_hosts) == 65
    assert world.relay_hosts[-1] == SMTP.host
    assert len([rule for _, rule in world.dropped() if rule == "C5"]) == 26


def test_c6_by_address_then_the_static_ones_as_written() -> None:
    second = RelayKey("backup.clear.net.nz", 587)
    world = world_with("10:noc.hookup.net.", settings=Settings(static_relays=(second, SMTP)))
    world.mx("16.154.165.in-addr.arpa", mx("5:other.hookup.net."))
    world.host("other.hookup.net", at("203.0.113.77"))
    world.start("165.154.16.1", "165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net", "other.hookup.net", "backup.clear.net.nz", "smtp.clear.net.nz"]
    assert [listed.relay.source for listed in world.said.relays] == [
        Source.DNS,
        Source.DNS,
        Source.STATIC,
        Source.STATIC,
    ]


def test_c6_of_two_entries_with_the_same_host_and_port_the_first_stays() -> None:
    world = world_with("10:noc.hookup.net.", settings=Settings(static_relays=(RelayKey("noc.hookup.net", 25),)))
    world.mx("16.154.165.in-addr.arpa", mx("5:noc.hookup.net."))
    world.start("165.154.16.1", "165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net"]
    assert world.said.relays[0].relay.address == "165.154.15.1"
    assert world.said.best.source is Source.DNS


def test_c6_the_same_host_at_another_port_is_another_relay() -> None:
    world = world_with("10:noc.hookup.net.", settings=Settings(static_relays=(RelayKey("noc.hookup.net", 587),)))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["noc.hookup.net", "noc.hookup.net"]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(), ["noc.hookup.net", "noc.evil.example"]),
        (Policy(allow=("*.hookup.net",)), ["noc.hookup.net"]),
        (Policy(deny=("*.evil.example",)), ["noc.hookup.net"]),
        (Policy(allow=("*",), deny=("*",)), []),
        (Policy(require="dnssec"), []),
    ],
)
def test_c7_policy_deny_wins(policy: Policy, kept: list[str]) -> None:
    world = world_with("10:noc.hookup.net.", "20:noc.evil.example.", settings=Settings(policy=policy))
    world.start("165.154.15.1")
    assert world.relay_hosts == kept
    assert len([rule for _, rule in world.dropped() if rule == "C7"]) == 2 - len(kept)


def test_c7_require_dnssec_takes_both_the_set_and_the_addresses() -> None:
    world = World(Settings(policy=Policy(require="dnssec")))
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net.", "20:vertex.hookup.net.", ad=True))
    world.host("noc.hookup.net", at("203.0.113.1"))
    world.host("vertex.hookup.net", at("203.0.113.2", ad=True))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["vertex.hookup.net"]
    assert world.said.relays[0].relay.authenticated is True


def test_c8_a_static_relay_is_the_administrators_word() -> None:
    statics = (RelayKey("smtp", 25), RelayKey("localhost", 2525), RelayKey("127.0.0.1", 26), RelayKey("x.invalid", 25))
    world = World(Settings(static_relays=statics, policy=Policy(allow=(), deny=("*",), require="dnssec")))
    world.host("smtp", at("165.154.15.1"))
    world.host("localhost", at("127.0.0.1"))
    world.start("165.154.15.1")
    assert [listed.relay.key for listed in world.said.relays] == list(statics)
    assert world.best == "smtp:25"


def test_c8_its_name_is_looked_up_in_the_hosts_file_first_and_a_literal_not_at_all() -> None:
    world = World(Settings(static_relays=(SMTP, RelayKey("192.0.2.25", 25))))
    world.host(SMTP.host, at("203.0.113.25"))
    world.start("165.154.15.1")
    lookups = [q for q in world.asked if q.name == SMTP.host]
    assert len(lookups) == 2
    assert all(q.hosts for q in lookups)
    assert {check.key.host: check.addresses for check in world.checked} == {
        SMTP.host: (ip_address("203.0.113.25"),),
        "192.0.2.25": (ip_address("192.0.2.25"),),
    }
    assert not [q for q in world.asked if q.name == "192.0.2.25"]


class WithHostsFile(World):
    """The hosts file has one address for every name."""

    def answer(self, question: Question) -> Answer:
        return at("203.0.113.99") if question.hosts and question.rtype is RRType.A else super().answer(question)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(static_relays=(RelayKey("noc.hookup.net", 25),)),
        Settings(sites=(Site("here", interface=("eth0",), relays=(RelayKey("noc.hookup.net", 25),), use="last"),)),
    ],
    ids=["static", "site"],
)
def test_c6_what_the_network_names_is_looked_up_as_the_administrators_where_it_is_his_too(settings: Settings) -> None:
    """C8: or else a network that names his relay says where it is looked for, whatever his hosts file says."""
    world = WithHostsFile(settings)
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.1"))
    world.start("165.154.15.1")
    assert [(listed.relay.key.host, listed.relay.source) for listed in world.said.relays] == [("noc.hookup.net", "dns")]
    assert [check.addresses for check in world.checked] == [(ip_address("203.0.113.99"),)]


def test_c6_the_evidence_is_complete() -> None:
    world = world_with("10:noc.hookup.net.")
    world.start("165.154.15.1")
    relay = world.said.relays[0].relay
    assert (relay.name, relay.level, relay.address, relay.interface, relay.preference) == (
        "15.154.165.in-addr.arpa", 24, "165.154.15.1", "eth0", 10)  # fmt: skip
