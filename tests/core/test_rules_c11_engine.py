"""Rule C11 in the engine: the lists of the senders are verified and published beside that of C6."""

from __future__ import annotations

from dataclasses import replace

from salsa_agent.core.events import SettingsRead
from salsa_agent.core.model import RelayKey, RRType, SenderChoice, SrvEntry
from salsa_agent.core.settings import Network, Sender, Settings, Verify
from tests.core.selecting import srv
from tests.core.sim import DEAD, FAILED, OK, World, at, mx

STATIC = (RelayKey("smtp.clear.net.nz", 25),)
HOME = Sender(("*@home.example",), (RelayKey("smtp.home.example", 587), RelayKey("backup.home.example", 587)))
EITHER = Sender(("*@work.example",), (RelayKey("mail.work.example", 587),), "first")


def abroad(*senders: Sender, verified: bool = True) -> World:
    """A network with a relay; it has not been joined yet."""
    world = World(Settings(static_relays=STATIC, senders=senders, verify=Verify(enabled=verified)))
    world.mx("15.154.165.in-addr.arpa", mx("10:noc.hookup.net."))
    world.host("noc.hookup.net", at("203.0.113.1"))
    for number, (key, *_) in enumerate([(relay,) for sender in senders for relay in sender.relays], 10):
        if isinstance(key, RelayKey):
            world.host(key.host, at(f"203.0.113.{number}"))
    world.host(STATIC[0].host, at("203.0.113.2"))
    return world


def bests(world: World) -> list[str]:
    return [f"{one.best.source} {one.best.host}:{one.best.port}" for one in world.said.senders]


def test_c11_each_sender_has_its_best_relay_beside_that_of_c6() -> None:
    world = abroad(HOME, EITHER)
    world.start("165.154.15.1")
    assert world.best == "noc.hookup.net:25"
    assert bests(world) == ["sender smtp.home.example:587", "dns noc.hookup.net:25"]
    assert [(one.address, one.network, one.decided) for one in world.said.senders] == [
        (("*@home.example",), "never", True),
        (("*@work.example",), "first", True),
    ]
    assert [one.relay.key.host for one in world.said.senders[1].relays] == [
        "noc.hookup.net",
        "mail.work.example",
        "smtp.clear.net.nz",
    ]
    assert world.state == "ready"


def test_c11_verdicts_are_shared() -> None:
    world = abroad(EITHER, EITHER)
    world.start("165.154.15.1")
    assert [check.key.host for check in world.checked].count("noc.hookup.net") == 1
    assert [one.verdict for one in world.said.senders[1].relays][:1] == ["ok"]


def test_c11_the_next_of_its_own_where_the_first_fails_and_the_first_as_the_last_resort() -> None:
    world = abroad(HOME)
    world.relays["smtp.home.example"] = DEAD
    world.start("165.154.15.1")
    assert bests(world) == ["sender backup.home.example:587"]
    world = abroad(HOME)
    world.relays = {"smtp.home.example": DEAD, "backup.home.example": DEAD}
    world.start("165.154.15.1")
    assert bests(world) == ["sender smtp.home.example:587"]
    assert world.state == "ready", "the state is about the list of C6"


def test_c11_the_decision_does_not_wait_for_a_sender() -> None:
    world = abroad(HOME)
    world.mute = {"smtp.home.example", "backup.home.example"}
    world.start("165.154.15.1")
    assert (world.best, world.state) == ("noc.hookup.net:25", "ready")
    assert world.said.senders[0]._replace(relays=()) == SenderChoice(HOME.address)
    assert bests(world) == ["none :0"]
    world.speak("smtp.home.example")
    assert bests(world) == ["sender smtp.home.example:587"]


def test_c11_the_records_of_a_senders_domain_may_come_after_the_decision() -> None:
    world = abroad(Sender(("*@home.example",), (SrvEntry("home.example"),)))
    name = "_submissions._tcp.home.example"
    world.dns[name, RRType.SRV] = srv("0:1:465:mail.home.example.")
    world.host("mail.home.example", at("203.0.113.5"))
    world.silent = {name}
    world.start("165.154.15.1")
    assert (world.best, bests(world)) == ("noc.hookup.net:25", ["none :0"])
    world.speak(name)
    assert bests(world) == ["sender mail.home.example:465"]


def test_c11_records_that_never_come_end_with_the_dns_part() -> None:
    world = abroad(Sender(("*@home.example",), (SrvEntry("home.example"), RelayKey("smtp.home.example", 587))))
    world.host("smtp.home.example", at("203.0.113.6"))
    world.silent = {"_submissions._tcp.home.example"}
    world.start("165.154.15.1")
    assert bests(world) == ["none :0"]
    world.pass_time(10)
    assert bests(world) == ["sender smtp.home.example:587"]
    assert world.state == "ready"


def test_d6_a_report_counts_for_every_list_that_has_the_relay() -> None:
    world = abroad(HOME, EITHER)
    world.start("165.154.15.1")
    world.mute = {"noc.hookup.net", "smtp.home.example", "smtp.clear.net.nz", "mail.work.example"}
    world.report("noc.hookup.net")
    assert world.best == "smtp.clear.net.nz:25"
    assert bests(world) == ["sender smtp.home.example:587", "sender mail.work.example:587"]
    world.report("smtp.home.example", 587)
    assert world.best == "smtp.clear.net.nz:25"
    assert bests(world)[0] == "sender backup.home.example:587"


def test_c11_on_the_next_network_a_sender_is_undecided_until_its_relay_is_verified() -> None:
    world = abroad(HOME)
    world.start("165.154.15.1")
    world.mute = {"smtp.home.example", "backup.home.example"}
    world.move("165.154.15.2")
    assert world.best == "noc.hookup.net:25"
    assert bests(world) == ["none :0"]
    world.speak("smtp.home.example")
    assert bests(world) == ["sender smtp.home.example:587"]


def test_c11_on_the_same_network_what_was_decided_stands_until_it_is_decided_anew() -> None:
    world = abroad(HOME)
    world.start("165.154.15.1")
    world.mute = {"smtp.home.example", "backup.home.example"}
    world.refresh()
    assert bests(world) == ["sender smtp.home.example:587"]


def test_c11_a_reload_changes_the_senders() -> None:
    world = abroad(HOME)
    world.start("165.154.15.1")
    world.host("mail.work.example", at("203.0.113.20"))
    world.send(SettingsRead(Settings(static_relays=STATIC, senders=(EITHER._replace(network="never"),))))
    assert bests(world) == ["sender mail.work.example:587"]


def test_c11_without_verification_the_first_that_is_not_reported() -> None:
    world = abroad(HOME, verified=False)
    world.start("165.154.15.1")
    assert bests(world) == ["sender smtp.home.example:587"]
    world.report("smtp.home.example", 587)
    assert bests(world) == ["sender backup.home.example:587"]


def test_e6_without_a_network_a_sender_has_the_first_of_its_own() -> None:
    world = abroad(HOME, EITHER)
    world.relays["smtp.home.example"] = DEAD
    world.start("165.154.15.1")
    world.move()
    world.pass_time(3)
    assert world.state == "offline"
    assert bests(world) == ["sender smtp.home.example:587", "sender mail.work.example:587"]


def test_d5_a_senders_failed_relay_is_verified_again() -> None:
    world = abroad(HOME)
    world.relays["smtp.home.example"] = DEAD
    world.start("165.154.15.1")
    world.relays["smtp.home.example"] = OK
    world.pass_time(40)
    assert bests(world) == ["sender smtp.home.example:587"]


def test_h2_a_senders_failing_lookup_does_not_degrade_the_state() -> None:
    world = abroad(HOME)
    for key in ("smtp.home.example", "backup.home.example"):
        world.host(key, FAILED)
    world.start("165.154.15.1")
    assert (world.best, world.state) == ("noc.hookup.net:25", "ready")
    world.host("smtp.home.example", at("203.0.113.9"))
    world.pass_time(3)  # but it is asked again (B5)
    assert bests(world) == ["sender smtp.home.example:587"]


def test_d6_a_relay_without_a_verdict_is_published_without_waiting() -> None:
    third = RelayKey("third.home.example", 587)
    world = abroad(HOME._replace(relays=(*HOME.relays, third)))
    world.mute = {"third.home.example"}
    world.start("165.154.15.1")
    world.mute = {"smtp.home.example", "backup.home.example", "third.home.example"}
    world.report("smtp.home.example", 587)
    world.report("backup.home.example", 587)
    assert bests(world) == ["sender third.home.example:587"]


def test_d5_a_senders_best_relay_is_verified_again_at_the_interval() -> None:
    world = abroad(HOME)
    world.start("165.154.15.1")
    world.pass_time(1900)
    assert [check.key.host for check in world.checked].count("smtp.home.example") == 2
    assert [check.key.host for check in world.checked].count("backup.home.example") == 1


def test_g1_a_sender_waits_for_the_external_address_no_longer_than_the_dns_part() -> None:
    world = abroad(HOME._replace(network="first"))
    world.send(SettingsRead(replace(world.engine.settings, network=Network(nat="nat-pmp"))))
    world.nat_silent = True
    world.mute = {"noc.hookup.net"}
    world.start("165.154.15.1")
    assert "dns noc.hookup.net:25" not in bests(world)
    world.pass_time(9)
    world.speak("noc.hookup.net")
    assert bests(world) == ["dns noc.hookup.net:25"]
