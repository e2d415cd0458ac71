"""Rules D1 and D9 to D11: what came of a check, for its own relay and for all others at the same servers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from salsa_agent.core.events import Check
from salsa_agent.core.model import CheckResult, IPAddress, ServerResult, Verdict
from salsa_agent.core.verification.places import Places
from salsa_agent.core.verification.records import Record, Subject
from salsa_agent.core.verification.reports import Reports
from salsa_agent.core.verification.schedule import Failure, Failures
from salsa_agent.core.verification.verdicts import settles


class Results:
    """Takes verdicts in."""

    def __init__(self, records: Mapping[Subject, Record], places: Places, failures: Failures, reports: Reports) -> None:
        self._records = records
        self._places = places
        self._failures = failures
        self._reports = reports

    def record(self, check: Check, result: CheckResult, lingering: Collection[IPAddress], now: float) -> bool:
        """Take the verdict of a check in, for all relays that lead to its servers; False if nobody waited for it.

        `lingering`: the addresses with which a conversation is still being ended.
        """
        subject = self._places.subject_of(check)
        record = self._records.get(subject) if subject is not None else None
        if record is None or record.running != check:
            return False
        results = _by_address(check, result)
        contacted = [one.ip for one in result.servers if one.contacted] if result.servers else check.addresses
        self._places.settle(check, contacted, lingering)
        others = [other for other in self._records.values() if other is not record and _served(other, record, check)]
        known = {ip: one for ip, one in (record.known | results).items() if ip in record.addresses}
        if record.known or settles(result, administrator=record.relay.administrator):
            result = record.resolved(known) or result
        self.conclude(record, result, known, now)
        for other in others:
            self._share(other, results, now)
        return True

    def conclude(
        self, record: Record, result: CheckResult, known: Mapping[IPAddress, ServerResult], now: float
    ) -> None:
        """This is the verdict on a relay. `known`: what came of its servers just now, to be remembered of them."""
        reported, way = record.reported, record.way
        record.conclude(result, now)
        if record.verdict is Verdict.OK and reported:
            self._reports.prove_wrong(record.relay.key, now)
        for ip, one in known.items():
            if one.result.verdict is Verdict.OK:
                self._failures.forget(ip, way)
            elif record.verdict is Verdict.FAILED:
                self._failures.record(ip, way, Failure.at(now, one, record.delay), now)

    def needs_no_check(self, record: Record, now: float) -> bool:
        """Conclude without a conversation where it has no address, or where its servers' failures still stand."""
        if not record.addresses:
            self.conclude(record, CheckResult(Verdict.FAILED, "no address known"), {}, now)
            return True
        if not record.fresh:
            return False
        record.fresh = False
        standing = {ip: found for ip in record.addresses if (found := self._failures.get(ip, record.way, now))}
        record.delay = max(self._failures.last_delay(ip, record.way) for ip in record.addresses)
        record.known |= {ip: failure.result for ip, failure in standing.items()}
        result = record.resolved(record.known)
        if result is None:
            return False
        delay = record.delay
        record.conclude(result, now)
        record.delay, record.again_at = delay, max(failure.until for failure in standing.values())
        return True

    def _share(self, record: Record, results: Mapping[IPAddress, ServerResult], now: float) -> None:
        """A conversation for another relay was with a server of this one, too (D1)."""
        mine = {ip: result for ip, result in results.items() if ip in record.addresses}
        result = record.resolved(record.known | mine)
        if result is not None and mine:
            self.conclude(record, result, mine, now)
        elif record.check_due:
            record.known |= mine


def _served(record: Record, spoken_to: Record, check: Check) -> bool:
    """Whether the conversations of `check`, for `spoken_to`, say something about this relay, too."""
    alike = record.way is not None and record.way == spoken_to.way
    return alike and record.running is None and check.serial > record.after


def _by_address(check: Check, result: CheckResult) -> dict[IPAddress, ServerResult]:
    """What came of each address. Where the result does not say: a failure of all, a success at the first."""
    if result.servers:
        return {one.ip: one for one in result.servers if one.result.verdict is not Verdict.UNVERIFIED}
    spoken_to = check.addresses if result.verdict is Verdict.FAILED else check.addresses[:1]
    return {ip: ServerResult(ip, result) for ip in spoken_to}
