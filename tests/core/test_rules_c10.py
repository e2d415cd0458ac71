"""Rule C10: sites, the administrator's table of networks."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from salsa_agent.core.model import Address, LinkInfo, LinkRelays, Outcome, RelayKey, RRType, Source
from salsa_agent.core.selection import site_of
from salsa_agent.core.settings import Policy, Settings, Site
from tests.core.selecting import Selecting, drops, entry, keys, on, srv
from tests.core.sim import at, mx

OFFICE = Site("office", prefix=(ip_network("192.0.2.0/24"),), relays=(RelayKey("mail.office.example", 25),))
HOME = (RelayKey("smtp.home.example", 587),)
ETH0 = Address(ip_address("192.0.2.7"), 2, "eth0")


def office(**changes: object) -> Selecting:
    """A host at the office, whose network publishes a relay, too."""
    site = OFFICE._replace(**changes)  # type: ignore[arg-type]  # the fields of Site
    world = Selecting(Settings(static_relays=HOME, sites=(site,)), on("192.0.2.7"))
    world.mx("2.0.192.in-addr.arpa", mx("10:noc.office.example."))
    world.host("noc.office.example", at("192.0.2.25"))
    return world


# --- criteria


@pytest.mark.parametrize(
    ("site", "holds"),
    [
        (Site("x", prefix=(ip_network("192.0.2.0/24"),)), True),
        (Site("x", prefix=(ip_network("198.51.100.0/24"), ip_network("192.0.2.7/32"))), True),
        (Site("x", prefix=(ip_network("192.0.3.0/24"),)), False),
        (Site("x", prefix=(ip_network("2001:db8::/32"),)), False),
        (Site("x", interface=("wlan*", "eth?")), True),
        (Site("x", interface=("wlan*",)), False),
        (Site("x", domain=("corp.example",)), True),
        (Site("x", domain=("CORP.example.",)), True),
        (Site("x", domain=("example",)), False),
        (Site("x", domain=("a.corp.example",)), False),
        (Site("x", connection=("Office Wi-Fi",)), True),
        (Site("x", connection=("office wi-fi",)), False),
        (Site("x", connection=("0F3C62AA-9B1E-4d5a-8b9b-2f0f0a4a5c11",)), True),
        (Site("x", connection=("0f3c62aa",)), False),
        (Site("x", prefix=(ip_network("192.0.2.0/24"),), domain=("corp.example",)), True),
        (Site("x", prefix=(ip_network("192.0.2.0/24"),), domain=("other.example",)), False),
        (Site("x", interface=("wlan0",), connection=("Office Wi-Fi",)), False),
        (Site("x"), False),
    ],
)
def test_c10_a_site_holds_when_every_criterion_that_it_gives_holds(site: Site, holds: bool) -> None:
    info = LinkInfo(2, ("lan", "Corp.Example."), "Office Wi-Fi", "0f3c62aa-9b1e-4d5a-8b9b-2f0f0a4a5c11")
    assert (site_of("eth0", info, [ETH0], [site]) is site) == holds


def test_c10_the_root_domain_counts_only_where_it_is_given() -> None:
    vpn = LinkInfo(2, (".",))
    assert site_of("eth0", vpn, [ETH0], [Site("x", domain=("corp.example",))]) is None
    assert site_of("eth0", vpn, [ETH0], [Site("x", domain=(".",))]) is not None
    assert site_of("eth0", LinkInfo(2, ("corp.example",)), [ETH0], [Site("x", domain=(".",))]) is None


def test_c10_a_link_without_connection_is_none_that_is_named() -> None:
    assert site_of("eth0", LinkInfo(2), [ETH0], [Site("x", connection=("",))]) is None


def test_c10_what_a_nat_told_is_no_criterion() -> None:
    address = ETH0._replace(origin="nat")
    assert site_of("eth0", LinkInfo(2), [address], [OFFICE]) is None


def test_c10_the_first_site_of_the_file_that_holds_is_the_one() -> None:
    other = OFFICE._replace(name="other", relays=())
    assert site_of("eth0", LinkInfo(2), [ETH0], [Site("never"), OFFICE, other]) is OFFICE


def test_c10_the_facts_of_a_link_are_its_own() -> None:
    site = Site("vpn", domain=("corp.example",), relays=(RelayKey("mail.corp.example", 25),))
    world = Selecting(Settings(sites=(site,)), on("192.0.2.7"), on("198.51.100.9", 3))
    world.infos = (LinkInfo(3, ("corp.example",)),)
    choice = world.run()
    assert keys(choice.relays) == ["site mail.corp.example:25"]
    assert choice.relays[0].interface == "wlan0"
    assert [evidence.site for evidence in choice.evidence] == ["", "vpn"]


# --- where its relays stand


@pytest.mark.parametrize(
    ("use", "order"),
    [
        ("first", ["site mail.office.example:25", "link given.office.example:25", "dns noc.office.example:25"]),
        ("last", ["link given.office.example:25", "dns noc.office.example:25", "site mail.office.example:25"]),
        ("only", ["site mail.office.example:25"]),
    ],
)
def test_c10_its_relays_stand_first_last_or_alone(use: str, order: list[str]) -> None:
    world = office(use=use)
    world.links = (LinkRelays(2, "eth0", (RelayKey("given.office.example", 0),)),)
    world.host("given.office.example", at("192.0.2.26"))
    assert keys(world.run().relays) == [*order, "static smtp.home.example:587"]


def test_c10_a_site_with_only_asks_nothing_of_the_reverse_tree() -> None:
    world = office(use="only")
    choice = world.run()
    assert world.names(RRType.MX) == []
    assert [(str(e.address.ip), e.outcome, e.site) for e in choice.evidence] == [("192.0.2.7", Outcome.SITE, "office")]
    assert choice.settled


def test_c10_a_site_with_only_and_no_relays_takes_nothing_from_this_network() -> None:
    choice = office(use="only", relays=()).run()
    assert keys(choice.relays) == ["static smtp.home.example:587"]


def test_c10_once_at_the_first_address_of_the_link() -> None:
    world = Selecting(Settings(sites=(OFFICE._replace(use="last"),)), on("192.0.2.7"), on("192.0.3.7"))
    for net in "23":
        world.mx(f"{net}.0.192.in-addr.arpa", mx(f"10:r{net}.office.example."))
        world.host(f"r{net}.office.example", at(f"203.0.113.{net}"))
    choice = world.run()
    assert keys(choice.relays) == [
        "dns r2.office.example:25",
        "dns r3.office.example:25",
        "site mail.office.example:25",
    ]
    assert choice.relays[-1].address == "192.0.2.7"
    assert [evidence.site for evidence in choice.evidence] == ["office", "office"]


def test_c10_the_site_is_that_of_the_external_address_too() -> None:
    world = office(use="only")
    world.nat = (Address(ip_address("203.0.113.9"), 2, "eth0", origin="nat"),)
    choice = world.run()
    assert world.names(RRType.MX) == []
    assert [evidence.outcome for evidence in choice.evidence] == [Outcome.SITE, Outcome.SITE]


def test_c10_an_external_address_alone_makes_no_site() -> None:
    world = Selecting(Settings(sites=(OFFICE,)), on("10.0.0.9"))
    world.nat = (Address(ip_address("192.0.2.7"), 2, "eth0", origin="nat"),)
    assert keys(world.run().relays) == []


# --- the administrator's word


def test_c10_its_relays_are_used_as_configured() -> None:
    relays = (RelayKey("smtp", 25), RelayKey("127.0.0.1", 2525), RelayKey("192.0.2.7", 25))
    world = office(relays=relays, use="only")
    world.settings = replace(world.settings, policy=Policy(allow=(), deny=("*",), require="dnssec", internal=False))
    choice = world.run()
    assert [relay.key for relay in choice.relays] == [*relays, *HOME]
    assert all(relay.administrator for relay in choice.relays)
    assert {relay.site for relay in choice.relays if relay.source is Source.SITE} == {"office"}
    assert drops(choice) == set()


def test_c10_its_names_are_looked_up_at_the_servers_of_its_link_after_the_hosts_file() -> None:
    world = Selecting(Settings(static_relays=HOME, sites=(OFFICE,)), on("10.0.0.1"), on("192.0.2.7", 3))
    here, there = world.view.default[0], world.view.default[0]._replace(address="192.0.2.1", ifindex=3)
    world.view = world.view._replace(links=((3, (there,)),))
    lookups = world.run().lookups
    questions = lookups[RelayKey("mail.office.example", 25)]
    assert {question.servers for question in questions} == {(there,)}
    assert all(question.hosts for question in questions)
    assert {question.servers for question in lookups[HOME[0]]} == {(here,)}


def test_c10_a_site_may_name_a_domain() -> None:
    world = office(relays=(entry("srv:office.example"),), use="only")
    world.srv("_submissions._tcp.office.example", srv("0:1:465:mail.office.example."))
    world.host("mail.office.example", at("192.0.2.25"))
    choice = world.run()
    assert keys(choice.relays) == ["site mail.office.example:465", "static smtp.home.example:587"]
    assert (choice.relays[0].site, choice.relays[0].srv, choice.relays[0].interface) == (
        "office",
        "submissions",
        "eth0",
    )


def test_c6_a_network_relay_that_is_a_sites_as_well_stays_the_networks_and_is_the_administrators() -> None:
    world = office(use="last", relays=(RelayKey("noc.office.example", 25),))
    relay = world.run().relays[0]
    assert (relay.source, relay.administrator, relay.site) == (Source.DNS, True, "")
