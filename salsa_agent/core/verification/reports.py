"""Rule D6: what users report, and what came of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from salsa_agent.core.events import Command
from salsa_agent.core.model import RelayKey, Verdict
from salsa_agent.core.verification.places import Places
from salsa_agent.core.verification.records import Record, Subject
from salsa_agent.core.verification.schedule import Jitter

PROOF = 3600.0  # seconds during which others than root may not report a relay that was found `ok`
MAX_PROOFS = 256  # reported relays that were found `ok` and are remembered


class Report(NamedTuple):
    """A user's word that this relay fails. `after`: the serial of the last check that began before it."""

    key: RelayKey
    reason: str
    after: int


class Reports:
    """Marks relays as failed, has the reports verified, and remembers those that were wrong."""

    def __init__(self, records: Mapping[Subject, Record], places: Places, jitter: Jitter) -> None:
        self._records = records
        self._places = places
        self._jitter = jitter
        self._proofs: dict[RelayKey, float] = {}  # until when others than root cannot report it

    def refused(self, key: RelayKey, now: float) -> bool:
        """Whether reports on this relay by others than root are refused: one was just found to be wrong."""
        return now < self._proofs.get(key, 0.0)

    def take(self, report: Report, now: float, *, enabled: bool) -> list[Command]:
        """The relay has failed, which is to be verified at once; without verification time brings it back."""
        commands: list[Command] = []
        for record in self._records_of(report.key):
            commands += self._places.abandon(record)
            record.report(report.reason, now)
            if enabled:
                record.check_due, record.reported, record.after, record.known = True, True, report.after, {}
            elif record.again_at is None:
                record.again_at = now + self._jitter(record.delay)
        return commands

    def check_soon(self, key: RelayKey) -> None:
        """This relay is published without waiting: have it verified; one that has failed, too, is scheduled by D5."""
        for record in self._records_of(key):
            if record.verdict is not Verdict.FAILED:
                record.check_due = True

    def expire(self, now: float) -> None:
        """Without verification, a reported relay whose time is over is `unverified` again."""
        for record in self._records.values():
            if record.again_at is not None and record.again_at <= now:
                record.verdict, record.reason = Verdict.UNVERIFIED, ""
                record.again_at, record.ok_since = None, now

    def prove_wrong(self, key: RelayKey, now: float) -> None:
        """It was reported and is `ok`."""
        proofs = {one: until for one, until in self._proofs.items() if now < until and one != key}
        if len(proofs) >= MAX_PROOFS:
            del proofs[next(iter(proofs))]
        self._proofs = proofs | {key: now + PROOF}

    def _records_of(self, key: RelayKey) -> list[Record]:
        """What is known of the relays with this host and port, by whatever way they came."""
        return [record for subject, record in self._records.items() if subject.key == key]
