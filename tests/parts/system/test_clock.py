"""Moments of the engine by a realtime clock that somebody sets."""

from __future__ import annotations

import pytest

from salsa_agent.system.clock import Realtime

DAY = 86_400.0
NOW = 1_800_000_000.0


class Clocks:
    """A realtime clock and the engine's."""

    def __init__(self, realtime: float) -> None:
        self.realtime, self.engine = realtime, 1000.0
        self.made = Realtime(lambda: self.realtime, lambda: self.engine)

    def pass_time(self, seconds: float) -> None:
        self.realtime += seconds
        self.engine += seconds


def test_a_moment_stays_where_it_is_while_the_clocks_only_waver() -> None:
    clocks = Clocks(NOW)
    before = clocks.made.us(900.0)
    assert before == (NOW - 100.0) * 1e6
    for waver in (0.4, -0.3, 0.9, -0.9):
        clocks.pass_time(3600.0)
        clocks.realtime += waver
        assert clocks.made.us(900.0) == before
        clocks.realtime -= waver


@pytest.mark.parametrize("step", [DAY, -DAY, 1.0, -1.0, 5e8])
def test_a_moment_moves_with_a_clock_that_is_set(step: float) -> None:
    clocks = Clocks(NOW)
    before = clocks.made.us(900.0)
    clocks.realtime += step
    assert clocks.made.us(900.0) - before == step * 1e6
    clocks.pass_time(DAY)
    assert clocks.made.us(900.0) - before == step * 1e6


def test_no_moment_lies_before_1970() -> None:
    """D-Bus has no number for it; a clock without a battery begins there."""
    clocks = Clocks(5.0)
    assert clocks.made.us(900.0) == 0
    clocks.realtime = NOW
    assert clocks.made.us(900.0) == (NOW - 100.0) * 1e6
