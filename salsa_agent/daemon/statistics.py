"""The counters of the property `Statistics`: what the agent did since it started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from salsa_agent.core.events import Answered, Ask, Check, Checked, Command, Event, NetworkChanged, Publish, RoundEnded
from salsa_agent.core.model import Best, Outcome, Verdict


class Statistics:
    """Counts events and commands of the engine as they pass, and the reports that were accepted."""

    def __init__(self, started_us: Callable[[], int]) -> None:
        """`started_us`: when the agent started, in microseconds of the realtime clock as it is now."""
        self._started_us = started_us
        self._counters: Counter[str] = Counter()
        self._best = Best()

    @property
    def counters(self) -> Mapping[str, int]:
        """By their names in `Statistics`."""
        return self._counters | {"started": self._started_us()}

    def count(self, name: str) -> None:
        """One more of these."""
        self._counters[name] += 1

    def on_event(self, event: Event) -> None:
        """An event on its way to the engine."""
        match event:
            case Answered(answer=answer) if answer.outcome is Outcome.FAILED:
                self.count("questions_failed")
            case Checked(result=result) if result.verdict is Verdict.FAILED:
                self.count("checks_failed")

    def on_command(self, command: Command) -> None:
        """A command of the engine on its way to a driver."""
        match command:
            case Ask():
                self.count("questions")
            case Check():
                self.count("checks")
            case NetworkChanged():
                self.count("network_changes")
            case RoundEnded():
                self.count("rounds")
            case Publish(publication):
                before, self._best = self._best, publication.best
                if (before.host, before.port) != (self._best.host, self._best.port):
                    self.count("best_changes")
