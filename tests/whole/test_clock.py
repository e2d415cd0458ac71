"""The real process beside a realtime clock that somebody sets, in the middle of what it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.lab.whole import CONFIG, NOC, World

DAY = 86_400.0
# `time.time` as a clock that is ahead by what stands in a file; nothing else of Python's asks CLOCK_REALTIME here
AHEAD = """
import pathlib, sys, time
ahead, really = pathlib.Path(sys.argv.pop(1)), time.time
time.time = lambda: really() + float(ahead.read_text())
from salsa_agent.cli.agent import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.settle()
        yield made


def test_moments_follow_a_clock_that_is_set_while_the_agent_runs(world: World) -> None:
    ahead = world.directory / "ahead"

    def set_clock(seconds: float) -> None:
        (ahead.with_suffix(".new")).write_text(str(seconds))
        ahead.with_suffix(".new").replace(ahead)

    def moments() -> list[float]:
        """When the agent started, when the best relay changed, when the first relay expires; seconds."""
        [first, *_] = world.get("Relays")
        return [world.get("Statistics")["started"] / 1e6, world.get("LastChanged") / 1e6, first["expires"] / 1e6]

    set_clock(5.0 - time.time())  # 1970
    world.configure(CONFIG)
    agent = world.start(world.host, [sys.executable, "-c", AHEAD, str(ahead), "--config", str(world.config)])
    world.wait_for_best(NOC)
    assert all(0 <= moment < DAY + 100 for moment in moments())
    set_clock(0.0)
    started, changed, expires = moments()
    assert time.time() - 100 < started <= changed <= time.time() < expires < time.time() + DAY
    for step in (DAY, -DAY, 0.0):
        set_clock(step)
        assert moments() == pytest.approx([started + step, changed + step, expires + step], abs=2.0)
    set_clock(-time.time() - 1000.0)  # before 1970: D-Bus has no number for it
    assert moments() == [0, 0, pytest.approx(max(0.0, expires - time.time() - 1000.0), abs=2.0)]
    world.call("Refresh")
    world.wait_for_best(NOC)
    assert agent.popen.poll() is None
