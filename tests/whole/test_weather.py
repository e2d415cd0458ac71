"""The whole program in bad weather: storms, floods, hostile answers, hostile relays, damaged files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa_agent.bus import message as wire
from tests.lab.bus import RawClient
from tests.lab.whole import (
    CONFIG,
    HOME,
    INTERFACE,
    NAME,
    NET24,
    NOC,
    PATH,
    SERVER,
    VERTEX,
    World,
    said,
    threads,
    until,
)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for relay in (NOC, VERTEX, HOME):
            made.relay(relay)
        yield made


# --- the kernel


def test_e1_a_repeated_address_costs_no_question_and_no_signal(world: World) -> None:
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    signals, asked = world.signals(), len(world.queries(""))
    before = len(world.queries())
    for lifetime in range(3000, 3020):  # as a router or a DHCP server does: only the lifetimes differ
        world.host.ip(
            "addr", "change", "165.154.15.1/24", "dev", "up0",
            "valid_lft", str(lifetime), "preferred_lft", str(lifetime),
        )  # fmt: skip
    world.call("Refresh")  # the events before it have been read by now
    assert len(world.queries()) == before + 3
    assert asked == 0
    assert said(signals, "PropertiesChanged") == []


@pytest.mark.timeout(120)
def test_e2_a_storm_of_addresses_ends_right(world: World) -> None:
    world.join("165.154.15.1")
    agent = world.agent()
    world.wait_for_best(NOC, "ready")
    storm = [f"10.{n >> 8}.{n & 255}.1/32" for n in range(4000)]
    for _ in range(2):
        world.host.batch([f"addr add {address} dev up0" for address in storm])
        world.host.batch([f"addr del {address} dev up0" for address in storm])
    world.publish(world.zone | {NET24: {"MX": [f"5 {VERTEX}."]}})
    world.leave()
    world.join("165.154.15.2")
    world.wait_for_best(VERTEX, "ready")
    assert [one["address"] for one in world.get("Addresses")] == ["165.154.15.2"]
    assert threads(agent.popen.pid) == 1
    assert "Traceback" not in agent.log


# --- the bus


async def test_clients_that_never_read_neither_end_it_nor_silence_it(world: World) -> None:
    world.join("165.154.15.1")
    agent = world.agent()
    world.wait_for_best(NOC, "ready")
    clients = [await RawClient.open(world.bus.address) for _ in range(40)]
    try:
        for client in clients:
            calls = b"".join(
                client.frame(PATH, "org.freedesktop.DBus.Introspectable", "Introspect", destination=NAME)
                for _ in range(128)
            )
            await client.send(calls)
        await asyncio.to_thread(world.publish, world.zone | {NET24: {"MX": [f"5 {VERTEX}."]}})
        await asyncio.to_thread(world.call, "Refresh")
        assert await asyncio.to_thread(lambda: world.best) == f"{VERTEX}:25"
    finally:
        for client in clients:
            client.sock.close()
    assert agent.popen.poll() is None
    assert "Traceback" not in agent.log


async def test_a_caller_that_hammers_is_told_and_others_do_not_suffer(world: World) -> None:
    world.publish(world.zone | {"1.0.0.10.in-addr.arpa": {"*": {"silent": True}}})
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    with await RawClient.open(world.bus.address, uid=65534) as client:
        call = {"destination": NAME}
        calls = [client.frame(PATH, INTERFACE, "Lookup", "s", "10.0.0.1", **call) for _ in range(40)]
        last = await client.send(b"".join(calls))
        replies = [(await client.reply(last - back))[0] for back in range(20)]
        assert {reply.error_name for reply in replies} == {"org.freedesktop.DBus.Error.LimitsExceeded"}
        assert all(reply.kind == wire.ERROR for reply in replies)
        await asyncio.to_thread(world.call, "Refresh")
        assert await asyncio.to_thread(lambda: world.best) == f"{NOC}:25"


# --- the DNS


@pytest.mark.parametrize(
    "entry",
    [
        {"silent": True},
        {"rcode": "SERVFAIL"},
        {"rcode": "REFUSED"},
        {"rcode": "FORMERR"},
        {"truncated": True, "tcp": "close", "answer": [f"5 {NOC}."]},
    ],
    ids=["silence", "servfail", "refused", "formerr", "truncated"],
)
def test_b5_a_failed_level_holds_nothing_back(world: World, entry: dict[str, object]) -> None:
    world.publish(world.zone | {NET24: {"MX": entry}})
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "degraded")
    world.publish(world.zone | {NET24: {"MX": [f"5 {VERTEX}."]}})  # and it is asked again by itself
    world.wait_for_best(VERTEX, "ready")


def test_hostile_exchanges_are_dropped_and_shown(world: World) -> None:
    hostile = ["localhost.", "127.0.0.1.", "a\\000b.example.", "\\$\\(reboot\\).example.", "x.in-addr.arpa.", "one."]
    records = [f"{n} {name}" for n, name in enumerate(hostile)]
    world.publish(world.zone | {NET24: {"MX": [*records, "7 loop.hookup.net.", f"50 {VERTEX}."]}}
                  | {"loop.hookup.net": {"A": ["127.0.0.1"]}})  # fmt: skip
    world.join("165.154.15.1")
    agent = world.agent(CONFIG, "--log-level", "debug")
    world.wait_for_best(VERTEX, "ready")
    explained = world.call("Explain")
    assert explained.count('"C2"') == len(hostile)
    assert explained.count('"C3"') == 1
    assert "Traceback" not in agent.log
    assert all(line.isprintable() for line in agent.log.splitlines())


def test_b7_null_mx_stops_the_climb(world: World) -> None:
    world.publish(world.zone | {NET24: {"MX": ["0 ."]}})
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(HOME, "ready")
    assert [one["outcome"] for one in world.get("Addresses")] == ["refused"]


def test_f2_one_bad_line_in_resolv_conf_does_not_cost_the_good_ones(world: World) -> None:
    conf = Path("/etc/netns", world.host.name, "resolv.conf")
    conf.write_text(f"nameserver nonsense\nnameserver 1.2.3.4.5\noptions bogus:x\nnameserver {SERVER}\n")
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")


def test_c4_the_host_is_the_relay_itself(world: World) -> None:
    world.publish(world.zone | {"self.hookup.net": {"A": ["165.154.15.1"]}}
                  | {NET24: {"MX": [f"5 {VERTEX}.", "10 self.hookup.net.", f"20 {NOC}."]}})  # fmt: skip
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(VERTEX, "ready")
    assert [one["host"] for one in world.get("Relays")] == [VERTEX, HOME]


# --- the relays


@pytest.mark.timeout(120)
def test_e5_what_a_captive_portal_said_is_asked_again_though_no_relay_is_listed(world: World) -> None:
    """Nothing but time tells this host that somebody has logged in."""
    network = world.zone
    world.publish({"": {"*": {"rcode": "NXDOMAIN", "soa": [10800, 10800]}}})
    world.join("165.154.15.1")
    agent = world.agent("")
    world.wait_for_best("", "ready")
    begun = time.monotonic()
    world.publish(network)
    until(lambda: world.best, lambda best: best == f"{NOC}:25", patience=45)
    assert 25 < time.monotonic() - begun < 40
    assert agent.log.count("round (no relay is ok)") == 1  # the one that changed something


@pytest.mark.parametrize(
    "behaviour", ["silent", "554", "421", "garbage", "flood", "flood-ehlo", "drip", "close", "rst", "hostile"]
)
def test_d1_a_bad_relay_is_failed_with_a_reason_and_the_next_one_is_used(world: World, behaviour: str) -> None:
    world.relay(NOC, behaviour)
    world.join("165.154.15.1")
    agent = world.agent(CONFIG + "[verify]\ntimeout = 2.0\n")
    world.wait_for_best(VERTEX, "ready")
    first = world.get("Relays")[0]
    assert (first["host"], first["verdict"]) == (NOC, "failed")
    assert 0 < len(first["reason"]) <= 200
    assert first["reason"].isascii()
    assert first["reason"].isprintable()
    assert "Traceback" not in agent.log


def test_d5_a_relay_that_comes_back_is_used_again(world: World) -> None:
    world.kill(NOC)
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(VERTEX, "ready")
    world.relay(NOC)
    until(lambda: world.best, lambda best: best == f"{NOC}:25", patience=60)
