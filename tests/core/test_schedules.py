"""The engine in worlds that move at random: by seeds, and driven by Hypothesis, which shrinks what fails."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.core.schedules import PAUSES, STEPS, Schedule, run_many

SCHEDULES = 20_000


@pytest.mark.timeout(900)
def test_schedules_end_in_what_the_oracle_works_out() -> None:
    found = run_many(SCHEDULES)
    assert found is None, f"replay it with: ./run simulate --seed {found}"


def test_a_schedule_replays_exactly() -> None:
    first, second = Schedule(4711), Schedule(4711)
    first.run()
    second.run()
    assert first.world.published == second.world.published
    assert first.world.asked == second.world.asked


class AnyOrder(RuleBasedStateMachine):
    """The same steps, chosen by Hypothesis."""

    @initialize(random=st.randoms(use_true_random=False))
    def begin(self, random: Random) -> None:
        self.schedule = Schedule(random)
        self.schedule.start()

    @rule(step=st.sampled_from(STEPS), pause=st.sampled_from(PAUSES))
    def step(self, step: Callable[[Schedule], None], pause: float) -> None:
        step(self.schedule)
        self.schedule.world.pass_time(pause)

    def teardown(self) -> None:
        if hasattr(self, "schedule"):
            self.schedule.end()


AnyOrder.TestCase.settings = settings(
    max_examples=100, stateful_step_count=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = pytest.mark.timeout(300)(AnyOrder.TestCase)
