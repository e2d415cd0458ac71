"""Rules B: how the reverse tree is asked."""

from ipaddress import ip_address

import pytest

from salsa_agent.core.cache import null_mx_refuses
from salsa_agent.core.model import Address, Answer, Mx, Outcome, Question, RRType
from salsa_agent.core.reverse_names import levels_of, name_at
from salsa_agent.core.settings import Dns, Network, Settings
from tests.core.sim import FAILED, NXDOMAIN, World, at, host, mx

IPV4 = (32, 24, 16)
IPV6 = (128, 64, 56, 48, 32)


@pytest.mark.parametrize(
    ("level", "name"),
    [(32, "1.15.154.165.in-addr.arpa"), (24, "15.154.165.in-addr.arpa"), (16, "154.165.in-addr.arpa"),
     (8, "165.in-addr.arpa")],
)  # fmt: skip
def test_b1_names_of_ipv4_levels(level: int, name: str) -> None:
    assert name_at(ip_address("165.154.15.1"), level) == name


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (128, "5.b.f.d.9.2.4.4.3.9.a.3.4.e.8.2.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        (64, "0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        (56, "0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        (48, "0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        (32, "8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_b1_names_of_ipv6_levels_as_in_rfc_7216(level: int, name: str) -> None:
    assert name_at(ip_address("2001:db8::28e4:3a93:4429:dfb5"), level) == name


def test_b1_a_temporary_address_starts_at_64() -> None:
    ip = ip_address("2001:db8::1")
    assert levels_of(Address(ip, 2, "eth0"), IPV4, IPV6) == IPV6
    assert levels_of(Address(ip, 2, "eth0", temporary=True), IPV4, IPV6) == (64, 56, 48, 32)


def test_b1_levels_are_configurable_and_an_empty_list_turns_the_family_off() -> None:
    world = World(Settings(network=Network(ipv4_levels=(16, 32), ipv6_levels=())))
    world.start("165.154.15.1", "2001:db8::1")
    assert world.questions() == ["1.15.154.165.in-addr.arpa", "154.165.in-addr.arpa"]
    assert [str(one.address.ip) for one in world.said.evidence] == ["165.154.15.1"]  # nothing is known of the other


def test_b2_all_levels_of_all_addresses_are_asked_at_once() -> None:
    world = World()
    world.silent = {name_at(ip_address(ip), level) for ip in ("165.154.15.1", "165.154.16.1") for level in IPV4}
    world.start("165.154.15.1", "165.154.16.1")
    assert len(world.in_flight) == 5  # the /16 is one name
    assert len(world.asked) == 5


def test_b2_at_most_64_questions_in_flight() -> None:
    world = World()
    ips = [f"10.{i}.1.1" for i in range(1, 61)]
    world.silent = {name_at(ip_address(ip), level) for ip in ips for level in IPV4}
    world.start(*ips)
    assert world.most_in_flight == 64
    world.speak("1.1.1.10.in-addr.arpa")
    assert len(world.in_flight) == 64


def test_b3_the_most_specific_set_decides() -> None:
    world = World()
    world.mx("1.15.154.165.in-addr.arpa", mx("10:special.hookup.net."))
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("special.hookup.net", at("203.0.113.1"))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["special.hookup.net"]
    assert world.said.evidence[0].level == 32
    assert world.said.evidence[0].name == "1.15.154.165.in-addr.arpa"


def test_b3_the_climb_ends_at_a_set_of_which_nothing_is_usable() -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", mx("10:gone.hookup.net."))
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.relay_hosts == []
    assert world.outcomes == ["found"]


def test_b3_a_level_decides_without_waiting_for_less_specific_ones() -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.silent = {"154.165.in-addr.arpa"}
    world.start("165.154.15.1")
    assert world.best == "noc.hookup.net:25"


def test_b3_a_level_waits_for_the_more_specific_ones() -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.silent = {"1.15.154.165.in-addr.arpa"}
    world.start("165.154.15.1")
    assert world.state == "starting"
    world.speak("1.15.154.165.in-addr.arpa")
    assert world.best == "noc.hookup.net:25"


@pytest.mark.parametrize("negative", [NXDOMAIN, NXDOMAIN._replace(rcode="NOERROR")])
def test_b4_nxdomain_and_nodata_say_nothing_of_other_levels(negative: Answer) -> None:
    world = World()
    world.mx("168.192.in-addr.arpa", negative)
    world.mx("1.168.192.in-addr.arpa", negative)
    world.mx("7.1.168.192.in-addr.arpa", mx("10:mail.corp.example."))
    world.host("mail.corp.example", at("192.168.1.25"))
    world.start("192.168.1.7")
    assert world.best == "mail.corp.example:25"


def test_b5_a_failed_level_holds_nothing_back_and_the_state_is_degraded() -> None:
    world = World()
    world.mx("1.15.154.165.in-addr.arpa", FAILED)
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.best == "noc.hookup.net:25"
    assert world.state == "degraded"


def test_b5_failed_levels_are_asked_again_after_2_8_and_30_seconds_then_every_5_minutes() -> None:
    world = World()
    name = "1.15.154.165.in-addr.arpa"
    world.mx(name, FAILED)
    world.start("165.154.15.1")
    times = [0.0]
    start = world.now
    for _ in range(1200):
        seen = world.questions().count(name)
        world.pass_time(1)
        if world.questions().count(name) > seen:
            times.append(world.now - start)
    assert times[:6] == [0, 2, 10, 40, 340, 640]


def test_b5_an_answer_ends_the_retries() -> None:
    world = World()
    world.mx("1.15.154.165.in-addr.arpa", FAILED)
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.host("special.hookup.net", at("203.0.113.3"))
    world.start("165.154.15.1")
    world.mx("1.15.154.165.in-addr.arpa", mx("10:special.hookup.net."))
    world.pass_time(2)
    assert world.best == "special.hookup.net:25"
    assert world.state == "ready"
    asked = len(world.asked)
    world.pass_time(50)
    assert len(world.asked) == asked


def test_b5_failed_levels_less_specific_than_the_deciding_one_do_not_matter() -> None:
    world = World()
    world.mx("1.15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.mx("154.165.in-addr.arpa", FAILED)
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.state == "ready"
    world.pass_time(40)
    assert world.questions().count("154.165.in-addr.arpa") == 1


def test_b5_an_exchange_whose_address_lookup_failed_is_left_out_and_retried() -> None:
    world = World()
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net.", "20:vertex.hookup.net."))
    world.host("noc.hookup.net", FAILED)
    world.host("vertex.hookup.net", at("203.0.113.3"))
    world.start("165.154.15.1")
    assert world.relay_hosts == ["vertex.hookup.net"]
    assert world.state == "degraded"
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.pass_time(2)
    assert world.best == "noc.hookup.net:25"
    assert world.state == "ready"


def test_words_an_address_where_no_level_decided_and_any_failed_is_failed() -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", FAILED)
    world.start("165.154.15.1")
    assert world.outcomes == ["failed"]


def test_b6_an_address_record_at_a_reverse_name_is_no_relay() -> None:
    world = World()
    world.host("1.15.154.165.in-addr.arpa", at("203.0.113.9"))
    world.start("165.154.15.1")
    assert world.relay_hosts == []
    assert world.questions(RRType.A) == []


def test_b7_null_mx_stops_the_climb() -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", mx("0:."))
    world.mx("154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.outcomes == ["refused"]
    assert world.relay_hosts == []
    assert world.state == "ready"


@pytest.mark.parametrize("records", [("10:.",), ("0:.", "10:noc.hookup.net.")])
def test_b7_any_other_root_exchange_is_dropped(records: tuple[str, ...]) -> None:
    world = World()
    world.mx("15.154.165.in-addr.arpa", mx(*records))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1")
    assert world.outcomes == ["found"]
    assert "." not in world.relay_hosts
    assert (".", "B7") in world.dropped()


def test_b7_only_an_mx_question_is_refused() -> None:
    answer = Answer(Outcome.FOUND, mx=(Mx(0, "."),))
    assert null_mx_refuses(Question("x", RRType.A, ()), answer).outcome is Outcome.FOUND
    assert null_mx_refuses(Question("x", RRType.MX, ()), answer).outcome is Outcome.REFUSED


def test_b2_each_pair_of_name_and_server_list_is_asked_once_a_round() -> None:
    world = World(Settings(dns=Dns(timeout=1.0)))
    for ip in ("165.154.15.1", "165.154.15.2"):
        world.mx(name_at(ip_address(ip), 32), mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.2"))
    world.start("165.154.15.1", host("165.154.15.2"))
    assert len(world.asked) == len(set(world.asked))
    assert world.questions(RRType.A) == ["noc.hookup.net"]


def test_b1_the_relay_does_not_flap_when_temporary_addresses_rotate() -> None:
    world = World()
    world.mx("0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", mx("10:noc.hookup.net."))
    world.host6("noc.hookup.net", at("2001:db8:9::25"))
    world.start("2001:db8::1", host("2001:db8::aaaa", flags=0x01))
    assert world.best == "noc.hookup.net:25"
    said = len(world.published)
    world.move("2001:db8::1", host("2001:db8::aaaa", flags=0x01), host("2001:db8::bbbb", flags=0x01))
    world.move("2001:db8::1", host("2001:db8::aaaa", flags=0x21), host("2001:db8::bbbb", flags=0x01))
    assert {publication.best.host for publication in world.published[said:]} == {"noc.hookup.net"}
    assert not any(name.startswith(("a.a.a.a", "b.b.b.b")) for name in world.questions())
