"""What users of the machine may have the real agent do, and how often; what it counts, and what it says of senders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.bus import NOBODY, STRANGERS, Done
from tests.lab.whole import CONFIG, HOME, INTERFACE, NAME, NOC, PATH, VERTEX, World, until

ONE, TWO, THREE = STRANGERS
EXCEEDED = "LimitsExceeded"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def call(world: World, uid: int, method: str, *args: str) -> Done:
    """A call of a user, by `busctl`."""
    return asyncio.run(world.bus.busctl("call", NAME, PATH, INTERFACE, method, *args, uid=uid))


def report(world: World, uid: int, relay: str) -> Done:
    return call(world, uid, "ReportFailure", "sqs", relay, "25", "554 no")


def test_d6_a_reported_relay_that_is_ok_is_reported_by_root_alone_for_an_hour(world: World) -> None:
    """Two users' reports held a good relay down for 80 % of the time."""
    for relay in (NOC, VERTEX):
        world.relay(relay)
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC)
    assert report(world, NOBODY, NOC).status == 0
    until(lambda: world.best, lambda best: best == f"{NOC}:25", patience=60)
    for uid in (NOBODY, ONE):
        refused = report(world, uid, NOC)
        assert refused.status == 1
        assert "found to answer" in refused.err
    assert world.best == f"{NOC}:25"
    assert report(world, 0, NOC).status == 0


def test_d6_of_one_relay_six_reports_an_hour_from_all_users_and_of_one_user_six(world: World) -> None:
    world.agent('[static]\nrelays = ["a.example.net", "b.example.net"]\n')
    until(lambda: world.best, lambda best: best == "a.example.net:25")
    accepted = [report(world, uid, "a.example.net").status == 0 for uid in (NOBODY, ONE, TWO) for _ in range(3)]
    assert accepted == [True] * 6 + [False] * 3
    assert [report(world, TWO, "b.example.net").status == 0 for _ in range(7)] == [True] * 6 + [False]
    assert report(world, 0, "a.example.net").status == 0
    assert world.get("Statistics")["reports"] == 13


def test_lookups_ten_a_minute_of_one_user_thirty_of_all_and_root_s_are_free(world: World) -> None:
    """Any user had 50,000 queries in ten seconds sent."""
    world.join("165.154.15.1")
    world.agent()
    until(lambda: world.best, bool)
    started = time.monotonic()
    allowed = {uid: [call(world, uid, "Lookup", "s", "192.0.2.1").status == 0 for _ in range(12)]
               for uid in (NOBODY, ONE, TWO, THREE)}  # fmt: skip
    if time.monotonic() - started < 50:  # else the minute is over for the first
        assert [done.count(True) for done in allowed.values()] == [10, 10, 10, 0]
        refused = call(world, THREE, "Lookup", "s", "192.0.2.1")
        assert "30 lookups" in refused.err
    assert all(call(world, 0, "Lookup", "s", "192.0.2.1").status == 0 for _ in range(12))


def test_statistics_count_what_the_agent_did(world: World) -> None:
    world.relay(NOC)
    before = time.time() * 1e6
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC, "ready")
    seen: dict[str, Any] = world.get("Statistics")
    assert before < seen["started"] < time.time() * 1e6
    assert seen["rounds"] >= 1
    assert seen["questions"] >= 3
    assert seen["checks"] >= 1
    assert seen["best_changes"] >= 1
    assert seen["reports"] == 0
    world.call("Refresh")
    again = world.get("Statistics")
    assert again["rounds"] > seen["rounds"]
    assert again["questions"] > seen["questions"]
    assert again["started"] == seen["started"]
    world.leave()
    until(lambda: world.get("Statistics")["network_changes"], lambda count: count > again["network_changes"])


@pytest.mark.parametrize("sender", ["", "<>", "somebody@elsewhere.example"])
def test_c11_who_has_no_entry_has_the_best_relay(world: World, sender: str) -> None:
    world.agent(CONFIG)
    world.wait_for_best(HOME)
    done = call(world, NOBODY, "RelayFor", "s", sender)
    assert done.status == 0, done
    assert done.out.startswith(f'sqssaa{{sv}} "{HOME}" 25 "static" "" 1 ')


def test_c11_a_sender_with_an_entry_has_a_relay_of_its_own(world: World) -> None:
    for relay in (NOC, VERTEX):
        world.relay(relay)
    world.join("165.154.15.1")
    world.agent(f'{CONFIG}[[sender]]\naddress = ["*@home.example"]\nrelays = ["{VERTEX}:25"]\n')
    world.wait_for_best(NOC, "ready")
    until(lambda: world.get("Senders"), lambda senders: senders[0]["host"] == VERTEX)
    assert world.get("Senders") == [
        {
            "address": ["*@home.example"],
            "network": "never",
            "host": VERTEX,
            "port": 25,
            "source": "sender",
            "tls": "none",
        }
    ]
    assert world.get("BestRelayTls") == "none"
    done = call(world, NOBODY, "RelayFor", "s", "Me@Home.Example")
    assert done.status == 0, done
    assert done.out.startswith(f'sqssaa{{sv}} "{VERTEX}" 25 "sender" "none" 1 ')
    assert call(world, NOBODY, "RelayFor", "s", "").out.startswith(f'sqssaa{{sv}} "{NOC}" 25 "dns" "none" ')
    assert report(world, NOBODY, VERTEX).status == 0
