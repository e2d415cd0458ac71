"""Rule H1: what the outside has been told, and what it is told next, all at once."""

from __future__ import annotations

from dataclasses import replace

from salsa_agent.core.events import Command, Publish
from salsa_agent.core.model import (
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Publication,
    RelayKey,
    State,
    Verdict,
)
from salsa_agent.core.verification import first_not_failed


def none_is_ok(publication: Publication) -> bool:
    """Whether relays are listed, and none of them is `ok`."""
    return bool(publication.relays) and not any(listed.verdict is Verdict.OK for listed in publication.relays)


class Published:
    """`last_published` is what was published last; what is composed waits for `publish`."""

    def __init__(self) -> None:
        self.last_published = Publication()
        self._composed: Publication | None = None

    @property
    def decided(self) -> bool:
        """Whether a best relay, or that there is none, was ever published or is about to be (H2)."""
        return self._composed is not None or self.last_published.state is not State.STARTING

    @property
    def pending(self) -> Publication:
        """What `publish` will send."""
        return self._composed or self.last_published

    def compose(
        self,
        best: Best,
        relays: tuple[ListedRelay, ...],
        evidence: tuple[Evidence, ...],
        dropped: tuple[Dropped, ...],
        now: float,
    ) -> None:
        """The list, the evidence and the best relay as they stand now."""
        same = (best.host, best.port) == (self.last_published.best.host, self.last_published.best.port)
        changed = self.last_published.changed if same else now
        self._composed = Publication(self.last_published.state, best, relays, evidence, changed, dropped)

    def report(self, key: RelayKey, reason: str, last_resort: RelayKey | None, now: float) -> Best:
        """D6: a relay of the list has failed; the first that has not is the best, without waiting."""
        pending = self.pending
        relays = tuple(
            listed._replace(verdict=Verdict.FAILED, reason=reason) if listed.relay.key == key else listed
            for listed in pending.relays
        )
        best = first_not_failed(relays, last_resort)
        self.compose(best, relays, pending.evidence, pending.dropped, now)
        return best

    def publish(self, state: State) -> list[Command]:
        """One publication for all that changed, none when nothing did."""
        before, self.last_published, self._composed = self.last_published, replace(self.pending, state=state), None
        changed = self.last_published != before or self.last_published.dropped != before.dropped
        return [Publish(self.last_published)] if changed else []
