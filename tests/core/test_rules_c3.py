"""Rules C3 and D11: at which private addresses a relay that the network names may be."""

import pytest

from salsa_agent.core.model import HostAddress, LinkRelays, RelayKey
from salsa_agent.core.settings import Policy, Settings
from tests.core.selecting import Selecting, drops, keys, on
from tests.core.sim import at, mx

WIFI, VPN, V6 = on("165.154.15.1"), on("10.1.0.7", 3, 16), on("fd00:1::7", 3, 64)


def named(relay: str, *hosts: HostAddress, internal: bool = True) -> Selecting:
    """A network on eth0 names a relay at this address."""
    world = Selecting(Settings(policy=Policy(internal=internal)), *hosts)
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at(relay))
    return world


@pytest.mark.parametrize(
    ("relay", "kept"),
    [
        ("10.1.0.25", False),
        ("10.1.255.25", False),
        ("10.2.0.25", True),
        ("fd00:1::25", False),
        ("fd00:1:0:1::25", True),
        ("203.0.113.25", True),
    ],
)
def test_c3_a_private_address_of_another_link_is_dropped(relay: str, kept: bool) -> None:
    choice = named(relay, WIFI, VPN, V6).run()
    assert [r.key.host for r in choice.relays] == ["noc.hookup.net"] * kept
    assert drops(choice) == (set() if kept else {("noc.hookup.net", "C3")})
    assert all("other link's" in drop.reason for drop in choice.dropped)


@pytest.mark.parametrize("relay", ["100.64.0.25", "172.16.3.25", "192.168.7.25"])
def test_c3_shared_and_all_private_addresses_are_looked_at(relay: str) -> None:
    other = on(relay.rpartition(".")[0] + ".1", 3)
    assert keys(named(relay, WIFI, other).run().relays) == []
    assert keys(named(relay, WIFI, on(relay.rpartition(".")[0] + ".1", 2)).run().relays) == ["dns noc.hookup.net:25"]


def test_c3_a_public_address_of_another_link_is_none_of_this() -> None:
    assert keys(named("203.0.113.25", WIFI, on("203.0.113.7", 3)).run().relays) == ["dns noc.hookup.net:25"]


def test_c3_an_address_of_another_link_that_does_not_count_makes_its_prefix_too() -> None:
    docker = HostAddress(on("172.17.0.1").ip, 9, 0, 0x80, prefixlen=16)
    assert keys(named("172.17.0.25", WIFI, docker).run().relays) == []


def test_c3_only_the_addresses_of_the_other_link_are_dropped() -> None:
    world = named("10.1.0.25", WIFI, VPN)
    world.host("noc.hookup.net", at("10.1.0.25", "203.0.113.25"))
    assert [str(ip) for ip in world.run().relays[0].addresses] == ["203.0.113.25"]


def test_c3_an_unknown_prefix_length_is_that_of_the_address_alone() -> None:
    unknown = HostAddress(VPN.ip, 3, 0, 0x80)
    assert keys(named("10.1.0.25", WIFI, unknown).run().relays) == ["dns noc.hookup.net:25"]


@pytest.mark.parametrize(
    ("relay", "kept"),
    [("10.9.0.25", False), ("192.168.1.25", True), ("203.0.113.25", True), ("fd00:9::25", False)],
)
def test_d11_policy_internal_false_leaves_the_private_addresses_of_the_link_itself(relay: str, kept: bool) -> None:
    choice = named(relay, WIFI, on("192.168.1.7", 2), internal=False).run()
    assert [r.key.host for r in choice.relays] == ["noc.hookup.net"] * kept


STANDS_FOR = {
    "64:ff9b::7f00:1": "127.0.0.1",
    "2002:7f00:1::1": "127.0.0.1",
    "::ffff:0:127.0.0.1": "127.0.0.1",
    "64:ff9b::169.254.169.254": "169.254.169.254",
    "2002:a9fe:a9fe::1": "169.254.169.254",
    "64:ff9b::224.0.0.1": "224.0.0.1",
    "64:ff9b::255.255.255.255": "255.255.255.255",
    "2002::1": "0.0.0.0",
    "64:ff9b::10.1.0.25": "10.1.0.25",
    "2002:a01:19::1": "10.1.0.25",
}


@pytest.mark.parametrize("relay", STANDS_FOR)
def test_c3_an_address_that_stands_for_an_ipv4_one_is_judged_as_that_one(relay: str) -> None:
    """A translator (RFC 6052) or a tunnel (RFC 3056) leads there."""
    translated, plain = named(relay, WIFI, VPN, V6).run(), named(STANDS_FOR[relay], WIFI, VPN, V6).run()
    assert keys(plain.relays) == []
    assert keys(translated.relays) == []
    assert drops(translated) == {("noc.hookup.net", "C3")}


@pytest.mark.parametrize("relay", ["64:ff9b::203.0.113.25", "2002:cb00:7119::1", "64:ff9b::10.2.0.25", "2001:db8::25"])
def test_c3_a_translated_address_that_may_be_spoken_to_stands(relay: str) -> None:
    assert keys(named(relay, WIFI, VPN, V6).run().relays) == ["dns noc.hookup.net:25"]


@pytest.mark.parametrize("relay", ["64:ff9b::165.154.15.1", "2002:a59a:f01::25"])
def test_c4_this_hosts_own_ipv4_address_behind_a_translator_is_this_host(relay: str) -> None:
    choice = named(relay, WIFI).run()
    assert keys(choice.relays) == []
    assert drops(choice) == {("noc.hookup.net", "C4")}


@pytest.mark.parametrize("given", ["10.1.0.25", "inside.hookup.net"])
def test_c9_a_relay_of_the_links_configuration_is_not_aimed_at_another_link(given: str) -> None:
    world = named("203.0.113.25", WIFI, VPN)
    world.host("inside.hookup.net", at("10.1.0.25"))
    world.links = (LinkRelays(2, "eth0", (RelayKey(given, 25),)),)
    choice = world.run()
    assert keys(choice.relays) == ["dns noc.hookup.net:25"]
    assert drops(choice) == {(given, "C3")}


def test_c8_the_administrators_relays_may_be_at_any_address() -> None:
    world = named("203.0.113.25", WIFI, VPN, internal=False)
    world.settings = Settings(static_relays=(RelayKey("10.1.0.25", 25),), policy=Policy(internal=False))
    assert keys(world.run().relays)[-1] == "static 10.1.0.25:25"
