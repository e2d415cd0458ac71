"""Rules D: the verdicts on the relays of all lists. What is done for them is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from salsa_agent.core.events import Check, Command
from salsa_agent.core.model import Best, CheckResult, IPAddress, ListedRelay, Relay, RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.core.verification.best import best_of
from salsa_agent.core.verification.places import Places
from salsa_agent.core.verification.records import Record, Subject, subject_of
from salsa_agent.core.verification.reports import Report, Reports
from salsa_agent.core.verification.results import Results
from salsa_agent.core.verification.schedule import YOUNG, Failures, Jitter
from salsa_agent.core.verification.servers import MailServers
from salsa_agent.core.verification.starting import Reach, Relays, Starts


class Checks:
    """The verdicts on the relays of the list of C6 and of those of the senders (C11), which share them."""

    def __init__(self, seed: int) -> None:
        """`seed`: spreads checks over time."""
        self._records: dict[Subject, Record] = {}
        self._servers = MailServers()
        self._failures = Failures()
        self._jitter = Jitter(seed)
        self._places = Places(self._servers)
        self._reports = Reports(self._records, self._places, self._jitter)
        self._results = Results(self._records, self._places, self._failures, self._reports)
        self._starts = Starts(self._records, self._places, self._servers, self._results)

    # --- the lists and their verdicts

    def begin_round(self, now: float) -> None:
        """A new round begins: each link has D11's number of servers again."""
        self._servers.begin_round(now)

    def set_relays(self, lists: Sequence[Relays], *, complete: bool = True) -> list[Command]:
        """Take the lists of a round in. `complete`: what is not in them is gone."""
        relays: dict[Subject, Relay] = {}
        for relay in (relay for one in lists for relay in one):
            known = relays.setdefault(subject_of(relay), relay)
            if relay.administrator and not known.administrator:
                relays[subject_of(relay)] = known._replace(administrator=True)
        commands: list[Command] = []
        for subject in [subject for subject in self._records if complete and subject not in relays]:
            commands += self._places.abandon(self._records.pop(subject))
        for subject, relay in relays.items():
            self._records.setdefault(subject, Record(relay)).relay = relay
        return commands

    def recheck_all(self, now: float, *, enabled: bool, by_root: bool) -> None:
        """`Refresh`: every verdict has to be made anew, and stands in the list until then (D8).

        Without verification no new one comes: there only reports are forgotten. What anyone but root asks for leaves
        young verdicts as they are (D11).
        """
        for record in self._records.values():
            if by_root or record.checked_at is None or now - record.checked_at >= YOUNG:
                _expect_check(record, enabled=enabled)

    def network_changed(self, *, enabled: bool) -> list[Command]:
        """Every verdict has to be made anew (D8), conversations are void, and delays start over (D5, D9)."""
        commands = [command for record in self._records.values() for command in self._places.abandon(record)]
        commands += self._places.end_lingering()
        self._failures.clear()
        for record in self._records.values():
            record.delay, record.ok_since, record.ok_here, record.doubt_until = 0.0, None, False, None
            _expect_check(record, enabled=enabled)
        return commands

    def clear(self) -> list[Command]:
        """What is asked of a relay changed: no old verdict says anything (D8)."""
        commands = [command for record in self._records.values() for command in self._places.abandon(record)]
        commands += self._places.end_lingering()
        self._records.clear()
        self._failures.clear()
        return commands

    def listed(self, relay: Relay) -> ListedRelay:
        """The relay with the verdict that stands."""
        return self._records.get(subject_of(relay), Record(relay)).listed(relay)

    # --- reports (D6)

    def report_refused(self, key: RelayKey, now: float) -> bool:
        """Whether reports on this relay by others than root are refused: one was just found to be wrong."""
        return self._reports.refused(key, now)

    def report(self, key: RelayKey, reason: str, now: float, *, enabled: bool) -> list[Command]:
        """A user's word that this relay fails, to be verified at once; without verification time brings it back."""
        return self._reports.take(Report(key, reason, self._starts.last_serial), now, enabled=enabled)

    def check_soon(self, key: RelayKey) -> None:
        """This relay is published without waiting: have it verified."""
        self._reports.check_soon(key)

    def expire_reports(self, now: float) -> None:
        """Without verification, a reported relay whose time is over is `unverified` again."""
        self._reports.expire(now)

    # --- deciding

    def best(self, relays: Relays, resort: RelayKey | None, *, enabled: bool) -> Best | None:
        """The best relay of a list (D2, D3, D4); None while the decision has to wait for a verdict."""
        return best_of(relays, self._records, resort, enabled=enabled)

    def assume_failed(self, relays: Relays) -> None:
        """The round is at its cap: what has no verdict counts as failed until its check ends (E4)."""
        for relay in relays:
            record = self._records[subject_of(relay)]
            record.assumed_failed = not record.counts

    # --- conversations

    def start_checks(self, lists: Sequence[Relays], reach: Reach, verify: Verify, now: float) -> list[Command]:
        """Start the checks that are due and may begin now. The relays of the first list go before the others."""
        return self._starts.start(lists, reach, verify, now)

    def record_result(self, check: Check, result: CheckResult, lingering: Iterable[IPAddress], now: float) -> bool:
        """Take the verdict of a check in, for all relays that lead to its servers; False if nobody waited for it.

        `lingering`: the addresses with which a conversation is still being ended.
        """
        return self._results.record(check, result, tuple(lingering), now)

    def conversations_ended(self, check: Check) -> None:
        """Nothing of this check is left: its place and its servers are free."""
        self._places.free(check)

    def plan(self, choices: Iterable[tuple[Relays, Best]], verify: Verify, now: float) -> None:
        """When relays are verified again (D5): of each list the failed ones before its best, and the best itself."""
        failed: set[Subject] = set()
        best_ones: set[Subject] = set()
        for relays, best in choices:
            best_key = RelayKey(best.host, best.port)
            best_ones |= {subject_of(relay) for relay in relays if relay.key == best_key}
            none_ok = not any(self._records[subject_of(relay)].verdict is Verdict.OK for relay in relays)
            for relay in relays:
                if relay.key == best_key and not none_ok:
                    break
                failed.add(subject_of(relay))
        for subject, record in self._records.items():
            if record.doubt_until is not None:
                continue
            if record.verdict is Verdict.FAILED and (subject in failed or subject in best_ones):
                if record.again_at is None:
                    record.again_at = now + self._jitter(record.delay)
            elif record.verdict is Verdict.OK and subject in best_ones and verify.interval:
                if record.again_at is None:
                    record.again_at = now + verify.interval
            else:
                record.again_at = None

    def due(self, now: float) -> float | None:
        """When `start_checks` has something to do that no event announces."""
        times = [record.again_at for record in self._records.values() if record.again_at is not None]
        if self._starts.blocked_until is not None:
            times.append(self._starts.blocked_until)
        return min((time for time in times if time > now), default=None)


def _expect_check(record: Record, *, enabled: bool) -> None:
    record.counts = record.assumed_failed = record.fresh = False
    record.check_due = True
    record.again_at, record.known = record.doubt_until, {}  # the check that D9 owes comes in any case
    if not enabled:
        record.verdict, record.reason = Verdict.UNVERIFIED, ""
