"""Rule H1: what the outside has been told, and what it is told next, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from salsa_agent.core.events import Command, Publish
from salsa_agent.core.model import (
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Publication,
    RelayKey,
    SenderChoice,
    State,
    Verdict,
)
from salsa_agent.core.verification import first_not_failed


def none_is_ok(publication: Publication) -> bool:
    """Whether relays are listed, and none of them is `ok`."""
    return bool(publication.relays) and not any(listed.verdict is Verdict.OK for listed in publication.relays)


def all_lists_serve(publication: Publication, *, verified: bool) -> bool:
    """E5: whether each list has a relay that is `ok`; where none is verified, one that has not failed will do."""
    good = (Verdict.OK,) if verified else (Verdict.OK, Verdict.UNVERIFIED)
    lists = [publication.relays, *(sender.relays for sender in publication.senders)]
    return all(any(listed.verdict in good for listed in relays) for relays in lists)


def same_but_for_expires(before: Publication, now: Publication) -> bool:
    """Whether nothing changed between two publications (E1), in the sense of H1."""
    return _lasting(before) == _lasting(now) and before.dropped == now.dropped


def without_expires(listed: ListedRelay) -> ListedRelay:
    """An entry of a list as it is compared: a moved `expires` alone is no change (H1)."""
    return listed._replace(relay=listed.relay._replace(expires=None))


def _lasting(said: Publication) -> Publication:
    senders = tuple(one._replace(relays=tuple(map(without_expires, one.relays))) for one in said.senders)
    return replace(said, relays=tuple(map(without_expires, said.relays)), senders=senders)


class Published:
    """`last_published` is what was published last; what is composed waits for `publish`."""

    def __init__(self) -> None:
        self.last_published = Publication()
        self.decided = False  # a best relay, or that there is none, was published or is about to be (H2)
        self._composed: Publication | None = None

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
        """The list of C6, the evidence and the best relay as they stand now."""
        last = self.last_published
        changed = last.changed if (best.host, best.port) == (last.best.host, last.best.port) else now
        senders = self.pending.senders
        self.decided = True
        self._composed = Publication(last.state, best, relays, evidence, changed, dropped, senders)

    def compose_senders(self, senders: tuple[SenderChoice, ...]) -> None:
        """The senders' lists and best relays as they stand now (C11)."""
        if senders != self.pending.senders:
            self._composed = replace(self.pending, senders=senders)

    def forget_senders(self) -> None:
        """What was published for senders is of another network."""
        self.compose_senders(tuple(SenderChoice(one.address, one.network) for one in self.pending.senders))

    def report(self, key: RelayKey, reason: str, last_resorts: Sequence[RelayKey | None], now: float) -> list[Best]:
        """D6: a relay has failed; of each list with it the first that has not is the best, without waiting.

        A list that is not decided yet is not decided by this. `last_resorts`: of the lists, that of C6 first. Returns
        the best relays.
        """
        pending = self.pending
        resorts = [*last_resorts, *[None] * (1 + len(pending.senders))]
        relays, best = _with_failed(pending.relays, key, reason), pending.best
        if relays != pending.relays and self.decided:
            best = first_not_failed(relays, resorts[0])
            self.compose(best, relays, pending.evidence, pending.dropped, now)
        senders = []
        for one, resort in zip(pending.senders, resorts[1:], strict=False):
            listed = _with_failed(one.relays, key, reason)
            if listed != one.relays and one.decided:
                one = one._replace(relays=listed, best=first_not_failed(listed, resort))
            senders.append(one)
        self.compose_senders(tuple(senders))
        return [best, *(one.best for one in senders)]

    def publish(self, state: State) -> list[Command]:
        """One publication for all that changed, none when nothing did."""
        before, self.last_published, self._composed = self.last_published, replace(self.pending, state=state), None
        changed = self.last_published != before or self.last_published.dropped != before.dropped
        return [Publish(self.last_published)] if changed else []


def _with_failed(relays: tuple[ListedRelay, ...], key: RelayKey, reason: str) -> tuple[ListedRelay, ...]:
    return tuple(
        listed._replace(verdict=Verdict.FAILED, reason=reason) if listed.relay.key == key else listed
        for listed in relays
    )
