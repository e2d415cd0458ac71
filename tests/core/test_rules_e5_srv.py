"""Rule E5 for SRV sets: they are their domain's, so they stand on the next network, too, while lookups fail there."""

from salsa_agent.core.model import RRType, SrvEntry
from salsa_agent.core.settings import Settings
from tests.core.selecting import srv
from tests.core.sim import FAILED, NXDOMAIN, World, at

TLS, MAIL = "_submissions._tcp.home.example", "mail.home.example"


def at_home(ttl: int = 3600) -> World:
    world = World(Settings(static_relays=(SrvEntry("home.example"),)))
    world.dns[TLS, RRType.SRV] = srv(f"0:1:465:{MAIL}.", ttl=ttl)
    world.host(MAIL, at("203.0.113.1", ttl=3600))
    world.start("165.154.15.1")
    assert world.best == f"{MAIL}:465"
    assert world.state == "ready"
    return world


def test_e5_an_srv_set_stands_on_the_next_network_while_its_lookup_fails() -> None:
    world = at_home()
    world.dns[TLS, RRType.SRV] = FAILED
    world.host(MAIL, at("203.0.113.2"))
    world.move("198.51.100.7")
    assert world.best == f"{MAIL}:465"
    assert world.state == "degraded"
    assert [str(ip) for ip in world.said.relays[0].relay.addresses] == ["203.0.113.2"], "asked anew"
    asked = world.questions(RRType.SRV).count(TLS)
    world.pass_time(3)  # B5: it is tried again
    assert world.questions(RRType.SRV).count(TLS) > asked


def test_e5_so_it_does_over_several_networks_and_being_offline() -> None:
    world = at_home()
    world.dns[TLS, RRType.SRV] = FAILED
    for ip in ("198.51.100.7", "165.154.16.1"):
        world.move()
        world.pass_time(5)
        world.move(ip)
        world.pass_time(1)
        assert world.best == f"{MAIL}:465"


def test_e5_the_addresses_of_its_targets_do_not_stand() -> None:
    world = at_home()
    world.host(MAIL, FAILED)
    world.host6(MAIL, FAILED)
    world.move("198.51.100.7")
    assert world.best == ""
    assert (MAIL, "C3") in world.dropped()


def test_e5_another_answer_takes_its_place() -> None:
    world = at_home()
    world.dns[TLS, RRType.SRV] = NXDOMAIN
    world.move("198.51.100.7")
    assert world.best == ""
    world.dns[TLS, RRType.SRV] = FAILED
    world.move("165.154.15.1")
    assert world.best == ""


def test_e5_not_for_longer_than_a_day_after_it_was_received() -> None:
    world = at_home(ttl=30)
    world.dns[TLS, RRType.SRV] = FAILED
    world.move("198.51.100.7")
    world.pass_time(23 * 3600)
    assert world.best == f"{MAIL}:465"
    world.move("165.154.15.1")
    world.pass_time(2 * 3600)
    assert world.best == ""
