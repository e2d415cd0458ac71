"""Rule D11: a hostile network must not aim the agent; and D1, whose budgets belong to servers."""

from __future__ import annotations

from ipaddress import ip_address

from salsa_agent.core.events import Checked, ConversationsEnded, FactsRead, RefreshAsked, ServersRead, SettingsRead
from salsa_agent.core.model import CheckResult, Link, RelayKey, ServerResult, Verdict
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.core.verification.servers import Caller, MailServer, MailServers
from tests.core.sim import DEAD, ETH0, OK, VIEW, World, at, facts, host, mx
from tests.core.test_rules_d import HOME, NOC, VERTEX, checked, fleet, story, verdicts

NAME = "154.165.in-addr.arpa"
VICTIM = "198.51.100.25"


def spoken_to(world: World, address: str) -> int:
    """How many conversations with this address there were."""
    return sum(ip_address(address) in check.addresses for check in world.checked)


def hosts(count: int, stem: str = "r") -> list[str]:
    return [f"{stem}{i}.hookup.net" for i in range(count)]


def publish(world: World, names: list[str], *addresses: str, name: str = NAME, ttl: int = 60) -> None:
    """An MX set of these exchanges, all at these addresses (else each at one of its own)."""
    world.mx(name, mx(*(f"{i}:{one}." for i, one in enumerate(names)), ttl=ttl))
    for i, one in enumerate(names):
        world.host(one, at(*(addresses or (f"203.0.113.{i + 10}",)), ttl=ttl))


def test_d11_one_conversation_serves_all_names_of_a_server() -> None:
    world = World(HOME)
    publish(world, hosts(16), VICTIM)
    world.relays = dict.fromkeys(hosts(16), DEAD)
    world.start("165.154.15.1")
    assert spoken_to(world, VICTIM) == 1
    assert {verdicts(world)[one] for one in hosts(16)} == {"failed"}


def test_d1_it_serves_a_relay_that_has_other_addresses_too() -> None:
    world = World(HOME)
    world.mx(NAME, mx(f"1:{NOC}.", f"2:{VERTEX}."))
    world.host(NOC, at(VICTIM))
    world.host(VERTEX, at(VICTIM, "198.51.100.26"))
    world.mute = {NOC, VERTEX}
    world.start("165.154.15.1")
    assert checked(world).count(VERTEX) == 0  # a conversation with one of its servers is under way
    world.relays = {NOC: DEAD, VERTEX: DEAD}
    world.speak(NOC)
    assert [check.addresses for check in world.checked if check.key.host == VERTEX] == [(ip_address("198.51.100.26"),)]


def test_d1_what_came_of_each_address_is_shared_and_not_more() -> None:
    world = World(HOME)
    world.mx(NAME, mx(f"1:{NOC}.", f"2:{VERTEX}."))
    world.host(NOC, at(VICTIM, "198.51.100.26"))
    world.host(VERTEX, at(VICTIM))
    first, second = ip_address(VICTIM), ip_address("198.51.100.26")
    results = (ServerResult(first, DEAD), ServerResult(second, OK))
    world.relays[NOC] = OK._replace(servers=results)
    world.start("165.154.15.1")
    assert verdicts(world)[NOC] == "ok"
    assert verdicts(world)[VERTEX] == "failed"
    assert VERTEX not in checked(world)


def test_d1_under_valid_each_name_has_its_own_conversation_one_after_the_other() -> None:
    world = World(Settings(verify=Verify(tls="valid")))
    publish(world, [NOC, VERTEX], VICTIM)
    world.mute = {NOC, VERTEX}
    world.start("165.154.15.1")
    assert checked(world) == [NOC]
    world.speak(NOC)
    assert checked(world) == [NOC, VERTEX]


def test_d1_ports_are_different_servers() -> None:
    world = World(Settings(static_relays=(RelayKey("192.0.2.1", 25), RelayKey("192.0.2.1", 465))))
    world.start("165.154.15.1")
    assert [(check.key.port, check.implicit_tls) for check in world.checked] == [(25, False), (465, True)]


def test_d1_a_server_is_busy_until_all_conversations_with_it_are_over() -> None:
    world = World(Settings(verify=Verify(tls="valid")))
    publish(world, [NOC, VERTEX], VICTIM)
    world.mute = {NOC, VERTEX}
    world.start("165.154.15.1")
    (check,) = world.checked
    world.conversing.clear()
    world.send(Checked(check, OK, check.addresses))
    assert checked(world) == [NOC]
    world.send(ConversationsEnded(check))
    assert checked(world) == [NOC, VERTEX]


def test_d1_what_lingers_at_a_network_change_stands_in_nobodys_way() -> None:
    world = World(HOME)
    publish(world, [NOC], VICTIM)
    world.mute = {NOC}
    world.start("165.154.15.1")
    (check,) = [one for one in world.checked if one.key.host == NOC]
    world.conversing.clear()
    world.send(Checked(check, OK, check.addresses))
    world.move("165.154.15.2")
    assert spoken_to(world, VICTIM) == 2


def test_d11_fresh_names_do_not_refill_a_servers_budget() -> None:
    world = World(HOME)
    start = world.now
    for turn in range(30):
        publish(world, hosts(4, f"n{turn}-"), VICTIM)
        if turn == 0:
            world.start("165.154.15.1")
        world.refresh()
        world.pass_time(2)
    # the last 5 of its budget are not for relays that the network names
    assert spoken_to(world, VICTIM) <= 5 + (world.now - start) / 5 + 1


def test_d11_budgets_outlive_network_changes() -> None:
    world = World(HOME)
    publish(world, [NOC], VICTIM)
    world.start("165.154.15.1")
    start = world.now
    for turn in range(100):
        world.move(f"165.154.15.{turn % 2 + 1}")
        world.pass_time(0.3)
    assert spoken_to(world, VICTIM) <= 5 + (world.now - start) / 5 + 1


def test_d11_the_last_5_of_a_budget_are_for_the_administrators_relays() -> None:
    servers, victim = MailServers(), MailServer(ip_address(VICTIM), 25)
    guest, administrator = Caller(administrator=False, bounded_by="link:eth0"), Caller(administrator=True)
    for serial in range(5):
        assert servers.ready_at([victim], guest, 0.0) == 0.0
        servers.reserve(serial, (victim,), guest, 0.0)
    assert servers.ready_at([victim], guest, 0.0) == 5.0
    for serial in range(5, 10):
        assert servers.ready_at([victim], administrator, 0.0) == 0.0
        servers.reserve(serial, (victim,), administrator, 0.0)
    assert servers.ready_at([victim], administrator, 0.0) == 5.0


def test_d11_a_conversation_that_was_not_needed_costs_nothing() -> None:
    servers, guest = MailServers(), Caller(administrator=False, bounded_by="link:eth0")
    first, second = (MailServer(ip_address(ip), 25) for ip in (VICTIM, "198.51.100.26"))
    for serial in range(5):
        servers.reserve(serial, (first, second), guest, 0.0)
        servers.settle(serial, [first], [])
    assert servers.ready_at([first], guest, 0.0) > 0.0
    assert servers.ready_at([second], guest, 0.0) == 0.0


def storm(world: World, seconds: float) -> float:
    """Each half second another address of the host, for so long; how long it took."""
    begun = world.now
    while world.now < begun + seconds:
        world.move("165.154.15.1", f"165.154.15.{int(world.now * 2) % 200 + 2}")
        world.pass_time(0.5)
    return world.now - begun


def test_d11_the_addresses_of_one_machine_share_a_budget() -> None:
    """An IPv6 host has a /64 to itself, and a network can name any address of it."""
    world = World(HOME)
    names = hosts(8)
    world.mx(NAME, mx(*(f"{i}:{one}." for i, one in enumerate(names))))
    for i, one in enumerate(names):
        world.host6(one, at(f"2001:db8:666::{i + 1}"))
    world.relays = dict.fromkeys(names, DEAD)
    world.start("165.154.15.1")
    took = storm(world, 120)
    hit = sum(not check.administrator for check in world.checked)
    assert hit <= 10 + took / 2.5 + 1


def test_d11_behind_a_translator_it_is_the_ipv4_address_that_is_hit() -> None:
    servers, guest = MailServers(), Caller(administrator=False, bounded_by="link:eth0")
    first, second, victim = (MailServer(ip_address(f"64:ff9b::198.51.100.{n}"), 25) for n in (1, 2, 25))
    for serial in range(10):
        servers.reserve(serial, (MailServer(ip_address(VICTIM), 25 + serial),), guest, 0.0)
    assert servers.ready_at([first, second], guest, 0.0) == 0.0
    assert servers.ready_at([victim], guest, 0.0) == 2.5


def test_d11_on_the_word_of_one_link_60_conversations_at_once_and_then_one_a_second() -> None:
    world = World(HOME)
    names = hosts(8)
    publish(world, names)
    world.relays = dict.fromkeys(names, DEAD)
    world.start("165.154.15.1")
    took = storm(world, 300)
    assert sum(not check.administrator for check in world.checked) <= 60 + took + 1
    assert world.best == "smtp.clear.net.nz:25"


def test_d11_the_budget_of_a_link_is_no_other_links() -> None:
    servers = MailServers()
    first, second = (Caller(administrator=False, bounded_by=f"link:{name}") for name in ("eth0", "wlan0"))
    for serial in range(60):
        servers.reserve(serial, (MailServer(ip_address(f"198.51.100.{serial}"), 25),), first, 0.0)
    other = [MailServer(ip_address("203.0.113.1"), 25)]
    assert servers.ready_at(other, first, 0.0) == 1.0
    assert servers.ready_at(other, second, 0.0) == 0.0
    assert servers.ready_at(other, Caller(administrator=True), 0.0) == 0.0


def test_d11_what_was_not_spoken_to_costs_neither_machine_nor_link() -> None:
    servers, guest = MailServers(), Caller(administrator=False, bounded_by="link:eth0")
    both = tuple(MailServer(ip_address(f"2001:db8:666::{n}"), 25) for n in (1, 2))
    for serial in range(5):
        servers.reserve(serial, both, guest, 0.0)
        servers.settle(serial, [], [])
    assert servers.ready_at([MailServer(ip_address("2001:db8:666::3"), 25)] * 10, guest, 0.0) == 0.0


def test_d11_delays_belong_to_servers_a_new_name_does_not_shorten_them() -> None:
    world = World(HOME)
    start = world.now
    for turn in range(60):
        names = hosts(2, f"n{turn}-")
        publish(world, names, VICTIM)
        world.relays |= dict.fromkeys(names, DEAD)
        if turn == 0:
            world.start("165.154.15.1")
        world.pass_time(61)  # the TTL
    assert world.now - start > 3600
    assert spoken_to(world, VICTIM) <= 9  # at once, then after 30, 60, 120, ... 1800 s


def test_d11_of_one_link_8_servers_in_a_round_the_others_count_as_failed_at_once() -> None:
    world = fleet(12)
    world.relays = dict.fromkeys(hosts(12), DEAD)
    world.start("165.154.15.1")
    assert [one for one in checked(world) if one.startswith("r")] == hosts(8)
    assert world.best == "smtp.clear.net.nz:25"
    listed = {one.relay.key.host: one for one in world.said.relays}
    assert {listed[one].verdict for one in hosts(12)[8:]} == {Verdict.UNVERIFIED}
    assert {listed[one].reason for one in hosts(12)[8:]} == {"D11"}


def test_d11_a_relay_that_was_held_back_is_checked_in_a_later_round() -> None:
    world = fleet(12)
    world.relays = dict.fromkeys(hosts(8), DEAD)
    world.start("165.154.15.1")
    assert verdicts(world)["r8.hookup.net"] == "unverified"
    world.pass_time(3601)  # the TTL
    assert verdicts(world)["r8.hookup.net"] == "ok"
    assert next(one.reason for one in world.said.relays if one.relay.key.host == "r8.hookup.net") == ""


def test_d11_30_servers_in_any_ten_minutes_however_often_sets_change() -> None:
    world = World(HOME)
    times: dict[str, float] = {}
    count = 0
    for turn in range(40):
        names = [f"n{turn}-{i}.hookup.net" for i in range(8)]
        world.mx(NAME, mx(*(f"{i}:{one}." for i, one in enumerate(names)), ttl=60))
        for i, one in enumerate(names):
            world.host(one, at(f"198.51.{turn}.{i + 1}", ttl=60))
        world.relays |= dict.fromkeys(names, DEAD)
        if turn == 0:
            world.start("165.154.15.1")
        for _ in range(61):
            world.pass_time(1)
            for check in world.checked[count:]:
                if not check.administrator:
                    times |= {str(ip): world.now for ip in check.addresses}
            count = len(world.checked)
            assert len([when for when in times.values() if when > world.now - 599]) <= 30
    assert len(times) > 60  # yet it goes on


def two_links(world: World, first: list[str], second: list[str]) -> None:
    """The host is on two links, each of which names relays of its own."""
    world.mx(NAME, mx(*(f"{i}:{one}." for i, one in enumerate(first))))
    world.mx("100.51.198.in-addr.arpa", mx(*(f"{i}:{one}." for i, one in enumerate(second))))
    for i, one in enumerate([*first, *second]):
        world.host(one, at(f"203.0.113.{i + 1}"))
    links = (ETH0, Link(3, "wlan0", usable=True))
    world.send(ServersRead(VIEW), FactsRead(facts("165.154.15.1", host("198.51.100.7", 3), links=links)))


def test_d11_while_relays_of_another_link_wait_none_holds_more_than_two_places() -> None:
    world = World(Settings())
    tarpits = hosts(8, "tarpit")
    world.mute = {*tarpits}
    two_links(world, tarpits, [NOC])
    assert [one for one in checked(world) if one != NOC][:2] == tarpits[:2]
    assert NOC in checked(world)
    assert len(world.conversing) <= 4


def test_d11_where_no_other_link_waits_all_four_places_are_used() -> None:
    world = World(Settings())
    tarpits = hosts(8, "tarpit")
    world.mute = {*tarpits, NOC}
    two_links(world, tarpits, [NOC])
    assert len(world.conversing) == 4
    assert checked(world) == [*tarpits[:2], NOC, tarpits[2]]


def test_d11_a_private_address_is_spoken_to_through_the_link_that_named_it() -> None:
    world = World(Settings())
    world.host(NOC, at("10.9.8.7"))
    links = (ETH0, Link(3, "wlan0", usable=True))
    world.mx("100.51.198.in-addr.arpa", mx(f"1:{NOC}."))
    world.send(ServersRead(VIEW), FactsRead(facts("165.154.15.1", host("198.51.100.7", 3), links=links)))
    (check,) = world.checked
    assert check.link_for(ip_address("10.9.8.7")) == 3
    assert check.link_for(ip_address("203.0.113.1")) == 0


def test_d11_of_the_administrators_relays_the_routing_table_decides() -> None:
    world = World(Settings(static_relays=(RelayKey("10.9.8.7", 25),)))
    world.start("165.154.15.1")
    assert world.checked[0].link_for(ip_address("10.9.8.7")) == 0


def test_d1_a_family_without_address_and_default_route_is_not_waited_for() -> None:
    world = story()
    world.start("165.154.15.1")
    assert {check.route_versions for check in world.checked} == {(4,)}
    world.move("165.154.15.1", "2001:db8::7")
    assert world.checked[-1].route_versions == (4, 6)


def test_d11_refresh_of_anyone_but_root_leaves_young_verdicts() -> None:
    world = story()
    world.start("165.154.15.1")
    seen = checked(world).count(NOC)
    world.pass_time(29)
    world.send(RefreshAsked(1, root=False))
    assert checked(world).count(NOC) == seen
    assert world.refreshed == [1]
    world.pass_time(2)
    world.send(RefreshAsked(2, root=False))
    assert checked(world).count(NOC) == seen + 1
    world.pass_time(2)
    world.send(RefreshAsked(3, root=True))
    assert checked(world).count(NOC) == seen + 2


def test_d11_the_table_of_servers_is_bounded_whatever_names_a_network_invents() -> None:
    world = World(HOME)
    for turn in range(300):
        publish(world, hosts(8, f"n{turn}-"))
        for i, one in enumerate(hosts(8, f"n{turn}-")):
            world.host(one, at(*(f"198.{turn % 200}.{i}.{j}" for j in range(1, 9)), ttl=60))
            world.relays[one] = DEAD
        if turn == 0:
            world.start("165.154.15.1")
        world.pass_time(61)
    checks = world.engine._checks
    assert len(checks._servers) <= 60
    assert len(checks._failures) <= 512
    assert len(checks._records) <= 65
    assert len(checks._servers._busy) == len(checks._servers._reserved) == 0


def test_d1_settings_of_the_check_come_with_it() -> None:
    world = story()
    world.start("165.154.15.1")
    assert {check.tls for check in world.checked} == {"off"}
    world.send(SettingsRead(Settings(verify=Verify(tls="offered"))))
    assert world.checked[-1].tls == "offered"


def test_d11_an_address_that_had_no_route_was_not_spoken_to() -> None:
    world = World(HOME)
    world.mx(NAME, mx(f"1:{NOC}."))
    world.host(NOC, at(VICTIM, "198.51.100.26"))
    nowhere = CheckResult(Verdict.FAILED, "connect: Network is unreachable")
    results = (
        ServerResult(ip_address(VICTIM), nowhere, contacted=False),
        ServerResult(ip_address("198.51.100.26"), OK),
    )
    world.relays[NOC] = OK._replace(servers=results)
    world.start("165.154.15.1")
    servers = world.engine._checks._servers
    assert set(servers._spoken) == {MailServer(ip_address("198.51.100.26"), 25)}


def test_d5_on_another_network_a_servers_failure_says_nothing() -> None:
    world = World(HOME)
    publish(world, [NOC], VICTIM)
    world.relays |= dict.fromkeys((NOC, VERTEX), DEAD)
    world.start("165.154.15.1")
    world.pass_time(20)
    publish(world, [VERTEX], VICTIM)
    world.move("165.154.15.2")
    assert spoken_to(world, VICTIM) == 2


def test_d6_a_conversation_for_another_name_does_not_take_the_report_back() -> None:
    world = World(HOME)
    publish(world, [NOC, VERTEX], VICTIM)
    world.start("165.154.15.1")
    world.pass_time(60)
    world.mute = {NOC, VERTEX}
    world.refresh()
    (running,) = world.conversing.values()
    world.report(VERTEX)
    del world.conversing[running.serial]
    world.send(Checked(running, OK))
    assert verdicts(world)[NOC] == "ok"
    assert verdicts(world)[VERTEX] == "failed"
    world.speak(VERTEX)
    assert verdicts(world)[VERTEX] == "ok"
