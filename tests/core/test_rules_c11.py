"""Rule C11: senders, the administrator's table of relays for the mail of some envelope senders."""

import pytest

from salsa_agent.core.model import RelayKey, Source, SrvEntry
from salsa_agent.core.senders import entry_for
from salsa_agent.core.settings import Sender, Settings, Site
from tests.core.selecting import Selecting, drops, entry, keys, on, srv
from tests.core.sim import FAILED, at, mx

STATIC = (RelayKey("smtp.clear.net.nz", 25),)
OWN = (RelayKey("smtp.home.example", 587), RelayKey("backup.home.example", 587))
HOME = Sender(("*@home.example", "*@*.home.example"), OWN)
WORK = Sender(("joe@work.example",), (RelayKey("mail.work.example", 465),), "last")


def abroad(*senders: Sender) -> Selecting:
    """A host on a network that publishes a relay."""
    world = Selecting(Settings(static_relays=STATIC, senders=senders), on("165.154.15.1"))
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.1"))
    return world


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("me@home.example", 0),
        ("ME@Home.EXAMPLE", 0),
        ("me@mail.home.example", 0),
        ("me@nothome.example", None),
        ("me@home.example.evil.example", None),
        ("home.example", None),
        ("joe@work.example", 1),
        ("joe.b@work.example", None),
        ("xjoe@work.example", None),
        ("joe@work.example\n", None),
        ("root", None),
        ("", None),
        ("<>", None),
        ('"<>"', None),
    ],
)
def test_c11_an_entry_holds_for_the_addresses_that_match_whole(address: str, place: int | None) -> None:
    entries = (HOME, WORK)
    assert entry_for(address, entries) is (None if place is None else entries[place])


def test_c11_the_first_entry_that_holds_decides_and_none_holds_for_the_null_sender() -> None:
    everybody = Sender(("*",), STATIC)
    assert entry_for("me@home.example", (everybody, HOME)) is everybody
    assert entry_for("", (everybody,)) is None
    assert entry_for("<>", (everybody,)) is None


def test_c11_a_list_for_each_mode() -> None:
    senders = tuple(Sender((f"*@{mode}.example",), OWN, mode) for mode in ("never", "last", "first"))
    choice = abroad(*senders).run()
    own = ["sender smtp.home.example:587", "sender backup.home.example:587"]
    network, static = "dns noc.hookup.net:25", "static smtp.clear.net.nz:25"
    assert [keys(one.list.relays) for one in choice.senders] == [
        own,
        [*own, network, static],
        [network, *own, static],
    ]
    assert [one.sender for one in choice.senders] == list(senders)
    assert keys(choice.relays) == [network, static]


def test_c11_network_relays_are_those_of_sites_and_links_too() -> None:
    world = abroad(Sender(("*",), OWN[:1], "last"))
    site = Site("here", interface=("eth0",), relays=(RelayKey("mail.here.example", 25),))
    world.settings = Settings(static_relays=STATIC, senders=world.settings.senders, sites=(site,))
    assert keys(world.run().senders[0].list.relays) == [
        "sender smtp.home.example:587",
        "site mail.here.example:25",
        "dns noc.hookup.net:25",
        "static smtp.clear.net.nz:25",
    ]


def test_c11_the_last_resort_is_the_first_of_its_own() -> None:
    choice = abroad(HOME._replace(network="first")).run()
    assert choice.senders[0].list.last_resort == OWN[0]
    assert choice.last_resort == STATIC[0]


def test_c11_its_own_relays_are_the_administrators_word() -> None:
    choice = abroad(Sender(("*",), (RelayKey("localhost", 25), RelayKey("127.0.0.1", 26)))).run()
    relays = choice.senders[0].list.relays
    assert [relay.source for relay in relays] == [Source.SENDER, Source.SENDER]
    assert all(relay.administrator for relay in relays)
    assert all(question.hosts for question in choice.lookups[RelayKey("localhost", 25)])
    assert RelayKey("127.0.0.1", 26) not in choice.lookups


def test_c6_in_a_senders_list_too_the_first_of_two_entries_stays() -> None:
    shared = Sender(("*",), (RelayKey("noc.hookup.net", 25), STATIC[0]), "first")
    relays = abroad(shared).run().senders[0].list.relays
    assert keys(relays) == ["dns noc.hookup.net:25", "sender smtp.clear.net.nz:25"]
    assert relays[0].administrator


def test_c11_the_list_of_c6_does_not_wait_for_a_senders_records() -> None:
    world = abroad(Sender(("*",), (SrvEntry("home.example"),)))
    world.silent = {"_submissions._tcp.home.example"}
    choice = world.run()
    assert choice.settled
    assert not choice.senders[0].list.settled
    assert "_submissions._tcp.home.example" in {question.name for question in choice.wanted}


def test_c11_a_senders_failing_records_are_asked_again_but_do_not_degrade() -> None:
    world = abroad(Sender(("*",), (SrvEntry("home.example"),)))
    world.srv("_submissions._tcp.home.example", FAILED)
    choice = world.run()
    assert not choice.failing
    assert "_submissions._tcp.home.example" in {question.name for question in choice.depends_on}


def test_c11_a_sender_may_name_a_domain() -> None:
    world = abroad(Sender(("*@home.example",), (entry("srv:home.example"),)))
    world.srv("_submission._tcp.home.example", srv("0:1:587:mail.home.example.", "5:1:587:mail.evil.example."))
    world.host("mail.home.example", at("203.0.113.5"))
    choice = world.run()
    assert keys(choice.senders[0].list.relays) == ["sender mail.home.example:587"]
    assert ("mail.evil.example", "C12") in drops(choice)


def test_c11_a_senders_list_is_settled_when_the_networks_part_of_it_is() -> None:
    world = abroad(HOME, HOME._replace(network="first"), HOME._replace(network="last"))
    world.silent = {"15.154.165.in-addr.arpa"}
    lists = [one.list for one in world.run().senders]
    assert [(one.settled, one.firm) for one in lists] == [(True, 2), (False, 0), (False, 2)]
