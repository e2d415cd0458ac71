"""Rule H1: what the outside has been told, and what it is told next, all at once."""

from __future__ import annotations

from dataclasses import replace

from salsa_agent.core.events import Deed, Publish
from salsa_agent.core.model import (
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Publication,
    RelayEntry,
    RelayKey,
    State,
    Verdict,
)
from salsa_agent.core.verification import first_not_failed


class Published:
    """`said` is what was published last; what is composed waits for `publish`."""

    def __init__(self) -> None:
        self.said = Publication()
        self._composed: Publication | None = None

    @property
    def coming(self) -> Publication:
        """What is said next."""
        return self._composed or self.said

    def compose(
        self,
        best: Best,
        relays: tuple[ListedRelay, ...],
        evidence: tuple[Evidence, ...],
        dropped: tuple[Dropped, ...],
        now: float,
    ) -> None:
        """The list, the evidence and the best relay as they stand now."""
        same = (best.host, best.port) == (self.said.best.host, self.said.best.port)
        changed = self.said.changed if same else now
        self._composed = Publication(self.said.state, best, relays, evidence, changed, dropped)

    def report(self, key: RelayKey, reason: str, static: tuple[RelayEntry, ...], now: float) -> Best:
        """D6: a relay of the list has failed; the first that has not is the best, without waiting."""
        said = self.coming
        relays = tuple(
            listed._replace(verdict=Verdict.FAILED, reason=reason) if listed.relay.key == key else listed
            for listed in said.relays
        )
        best = first_not_failed(relays, static)
        self.compose(best, relays, said.evidence, said.dropped, now)
        return best

    def publish(self, state: State) -> list[Deed]:
        """One publication for all that changed, none when nothing did."""
        before, self.said, self._composed = self.said, replace(self.coming, state=state), None
        changed = self.said != before or self.said.dropped != before.dropped
        return [Publish(self.said)] if changed else []
