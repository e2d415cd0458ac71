"""What scripts and people are told while the host roams: `best --wait`, `watch --events`, `status` of the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.lab.bus import PROJECT
from tests.lab.whole import CONFIG, NOC, VERTEX, ZONE, World, until

TORONTO, PARIS = "165.154.15.1", "198.51.100.7"
SALSACTL = [sys.executable, "-m", "salsa_agent.cli.salsactl.main"]


@pytest.fixture
def world() -> Iterator[World]:
    """The agent is in Toronto, whose relay is NOC; that of Paris is VERTEX."""
    with World(ZONE | {"100.51.198.in-addr.arpa": {"MX": [f"10 {VERTEX}."]}}) as made:
        made.relay(NOC)
        made.relay(VERTEX)
        made.join(TORONTO)
        made.agent(CONFIG)
        made.wait_for_best(NOC, "ready")
        yield made


def ctl(world: World, *argv: str) -> tuple[int, str]:
    """Run a command to its end; its status, and what it printed."""
    done = subprocess.run(
        [*SALSACTL, *argv], check=False, capture_output=True, text=True, timeout=60, cwd=PROJECT,
        env=world.bus.environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_best_wait_right_after_a_move_names_the_relay_of_the_new_network(world: World) -> None:
    for address, relay in ((PARIS, VERTEX), (TORONTO, NOC)):
        world.leave()
        world.join(address)
        assert ctl(world, "best", "--wait") == (0, f"{relay}:25\n")


def test_status_says_by_its_exit_status_whether_mail_can_leave(world: World) -> None:
    assert ctl(world, "status")[0] == 0
    world.leave()
    world.kill(NOC)
    world.join(TORONTO)
    world.kill(VERTEX)
    world.call("Refresh")
    until(lambda: ctl(world, "status")[0], lambda status: status == 1)


def test_watch_events_tells_a_roam(world: World) -> None:
    plain = world.start(world.host, [*SALSACTL, "watch", "--events"])
    as_json = world.start(world.host, [*SALSACTL, "watch", "--events", "--json"])
    for watch in (plain, as_json):
        watch.wait_for(NOC, where="out")
        until(lambda watch=watch: watch.out.count("best"), lambda count: count == 1)  # type: ignore[misc]
    begun = len(plain.out.splitlines())
    world.leave()
    world.join(PARIS)
    world.wait_for_best(VERTEX, "ready")
    plain.wait_for(f"best: {VERTEX}:25 (dns)", where="out")
    lines = plain.out.splitlines()[begun:]
    assert lines[-4:-2] == ["state: resolving", "state: ready"]
    assert lines[-2].startswith(f"list: {VERTEX}:25 ")
    world.kill(VERTEX)
    world.call("Refresh")
    plain.wait_for(f"verdict: {VERTEX}:25 failed: ", where="out")
    until(lambda: as_json.out.count("\n"), lambda count: count == len(plain.out.splitlines()))
    objects = [json.loads(line) for line in as_json.out.splitlines()]
    assert [one["event"] for one in objects] == [line.partition(":")[0] for line in plain.out.splitlines()]
    failed = [one for one in objects if one.get("verdict") == "failed" and one["host"] == VERTEX]
    assert failed
    assert failed[0]["reason"]
