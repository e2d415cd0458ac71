"""Rules D: which relays are verified, when, and which one is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from salsa_agent.core.events import Abandon, Check, Command
from salsa_agent.core.model import Best, CheckResult, IPAddress, ListedRelay, Relay, RelayEntry, RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.core.token_bucket import Bucket

AT_ONCE = 4  # D2
ENOUGH = 2  # D2: not beyond the second `ok`
BUDGET, REFILL = 10, 5.0  # D1: conversations with one relay, and seconds for one more
FIRST_DELAY, LAST_DELAY, JITTER = 30.0, 1800.0, 0.1  # D5
LAST_REPORTED_DELAY = 300.0  # D6


@dataclass(slots=True)
class _Record:
    """What is known of one relay of the list."""

    verdict: Verdict = Verdict.UNVERIFIED
    reason: str = ""
    starttls: bool | None = None
    counts: bool = False  # the verdict counts for the decision
    owed: bool = True  # a check is owed (D8), whether the old verdict counts meanwhile (D1's budget) or not
    forced: bool = False  # counts as failed for the decision until its check ends (E4)
    running: Check | None = None
    addresses: frozenset[IPAddress] = frozenset()  # those that the verdict or the running check is about
    again_at: float | None = None  # the next check of a relay that owes none (D5)
    delay: float = 0.0  # the last of D5's delays; 0: none yet
    ok_since: float | None = None
    bucket: Bucket = field(default_factory=lambda: Bucket(BUDGET, REFILL))

    def settled(self) -> Verdict:
        """The verdict as the decision reads it: `UNVERIFIED` while it has to wait."""
        if self.counts:
            return self.verdict
        return Verdict.FAILED if self.forced else Verdict.UNVERIFIED


class Checks:
    """The verdicts on the relays of the list."""

    def __init__(self, seed: int) -> None:
        self._records: dict[RelayKey, _Record] = {}
        self._away: dict[RelayKey, Bucket] = {}  # budgets of relays that left the list
        self._random = Random(seed)  # noqa: S311 - spreads checks over time, nothing secret
        self._serial = 0

    # --- the list and its verdicts

    def follow(self, relays: Sequence[Relay], now: float, *, complete: bool = True) -> list[Command]:
        """Take the list of a new round in; what left it is forgotten, but for its budget.

        `complete`: no relay can come any more, so that those that are missing are not in the list.
        """
        commands: list[Command] = []
        listed = {relay.key for relay in relays}
        for key in [key for key in self._records if complete and key not in listed]:
            record = self._records.pop(key)
            commands += _abandon(record)
            self._away[key] = record.bucket
        self._away = {key: bucket for key, bucket in self._away.items() if not bucket.full(now)}
        for key in listed - self._records.keys():
            self._records[key] = _Record()
            if key in self._away:
                self._records[key].bucket = self._away.pop(key)
        return commands

    def owe_all(self, *, restart: bool, enabled: bool) -> list[Command]:
        """Every verdict has to be made anew; it stands in the list until then (D8, `Refresh`).

        Without verification no new one comes: there only reports are forgotten.

        `restart`: the network changed, so running conversations are void and D5's delays start over.
        """
        commands: list[Command] = []
        for record in self._records.values():
            record.counts = record.forced = False
            record.owed = True
            record.again_at = None
            if not enabled:
                record.verdict, record.reason = Verdict.UNVERIFIED, ""
            if restart:
                commands += _abandon(record)
                record.delay = 0.0
                record.ok_since = None
        return commands

    def clear(self) -> list[Command]:
        """What is asked of a relay changed: no old verdict says anything."""
        commands: list[Command] = []
        for key, record in self._records.items():
            commands += _abandon(record)
            self._away[key] = record.bucket
        self._records.clear()
        return commands

    def listed(self, relay: Relay) -> ListedRelay:
        """The relay with the verdict that stands."""
        record = self._records.get(relay.key, _NOTHING_KNOWN)
        return ListedRelay(relay, record.verdict, record.reason, record.starttls)

    # --- reports

    def report(self, key: RelayKey, reason: str, now: float, *, enabled: bool) -> list[Command]:
        """A user's word that this relay fails (D6); without verification it is brought back by time alone."""
        record = self._records.get(key)
        if record is None:
            return []
        commands = _abandon(record)
        if record.verdict is Verdict.FAILED and record.counts:
            record.reason = reason
            return commands
        result = CheckResult(Verdict.FAILED, reason, record.starttls)
        self._conclude(record, result, record.addresses, now, longest=LAST_REPORTED_DELAY)
        if not enabled:
            record.again_at = now + self._jittered(record.delay)
        return commands

    def owe(self, key: RelayKey) -> None:
        """This relay is published without waiting: have it verified (D6), unless it failed, too, and D5 has it."""
        record = self._records.get(key)
        if record is not None and record.verdict is not Verdict.FAILED:
            record.owed = True

    def revive(self, now: float) -> None:
        """Without verification, a reported relay whose time is over is `unverified` again (D6)."""
        for record in self._records.values():
            if record.again_at is not None and record.again_at <= now:
                record.verdict, record.reason, record.again_at, record.ok_since = Verdict.UNVERIFIED, "", None, now

    # --- deciding

    def best(self, relays: Sequence[Relay], static: Sequence[RelayEntry], *, enabled: bool) -> Best | None:
        """The best relay (D2, D3, D4); None while the decision has to wait for a verdict."""
        for relay in relays:
            record = self._records.get(relay.key, _NOTHING_KNOWN)
            if not enabled:
                if record.verdict is not Verdict.FAILED:
                    return _as_best(relay)
                continue
            verdict = record.settled()
            if verdict is Verdict.OK:
                return _as_best(relay)
            if verdict is Verdict.UNVERIFIED:
                return None
        return last_resort(relays, static)

    def force(self, relays: Sequence[Relay]) -> None:
        """The round is at its cap: what has no verdict counts as failed until its check ends (E4)."""
        for relay in relays:
            record = self._records[relay.key]
            record.forced = not record.counts

    # --- conversations

    def step(
        self, relays: Sequence[Relay], addresses: Mapping[RelayKey, tuple[IPAddress, ...] | None], now: float
    ) -> list[Command]:
        """Start the conversations that are due. `addresses`: None while they are being looked up."""
        commands: list[Command] = []
        for relay in relays:
            commands += self._notice_addresses(relay.key, addresses[relay.key])
        free = AT_ONCE - sum(record.running is not None for record in self._records.values())
        for relay in self._due(relays, now):
            where = addresses[relay.key]
            record = self._records[relay.key]
            if where is None:
                continue
            if not where:
                self._conclude(record, CheckResult(Verdict.FAILED, "no address known"), frozenset(), now)
                continue
            if free == 0:
                break
            if not record.bucket.take(now):
                if record.verdict is not Verdict.UNVERIFIED:  # D1: the last verdict stands until the budget allows
                    record.counts = record.owed = True
                continue
            free -= 1
            self._serial += 1
            record.running = Check(self._serial, relay.key, where)
            record.addresses = frozenset(where)
            commands.append(record.running)
        return commands

    def _notice_addresses(self, key: RelayKey, where: tuple[IPAddress, ...] | None) -> list[Command]:
        """D8: a relay with changed addresses owes a check."""
        record = self._records[key]
        if where is None or record.addresses == frozenset(where) or (record.owed and record.running is None):
            return []
        record.counts, record.owed = False, True
        return _abandon(record)

    def conclude(self, check: Check, result: CheckResult, now: float) -> bool:
        """Take the end of a conversation in; False if it is not one that was waited for."""
        record = self._records.get(check.key)
        if record is None or record.running != check:
            return False
        self._conclude(record, result, frozenset(check.addresses), now)
        return True

    def plan(self, relays: Sequence[Relay], best: Best, settings: Verify, now: float) -> None:
        """When relays are verified again (D5): the failed ones before the best, and the best itself."""
        none_ok = not any(self._records[relay.key].verdict is Verdict.OK for relay in relays)
        before = True
        for relay in relays:
            record = self._records[relay.key]
            here = relay.key == RelayKey(best.host, best.port)
            if record.verdict is Verdict.FAILED and (before or none_ok):
                if record.again_at is None:
                    record.again_at = now + self._jittered(record.delay)
            elif record.verdict is Verdict.OK and here and settings.interval:
                if record.again_at is None:
                    record.again_at = now + settings.interval
            else:
                record.again_at = None
            before = before and not here

    def due(self, relays: Sequence[Relay], now: float) -> float | None:
        """When `step` has something to do that no event announces."""
        times = [record.again_at for record in self._records.values() if record.again_at is not None]
        times += [self._records[relay.key].bucket.ready_at(now) for relay in self._due(relays, now)]
        return min((time for time in times if time > now), default=None)

    def _due(self, relays: Sequence[Relay], now: float) -> list[Relay]:
        """In the order of the list: those that owe a check, up to the second `ok` (D2), and those whose time came."""
        due: list[Relay] = []
        good = 0
        for relay in relays:
            record = self._records[relay.key]
            good += record.counts and record.verdict is Verdict.OK
            came = record.again_at is not None and record.again_at <= now
            if record.running is None and (came or (record.owed and good < ENOUGH)):
                due.append(relay)
        return due

    def _jittered(self, delay: float) -> float:
        return delay * self._random.uniform(1 - JITTER, 1 + JITTER)

    def _conclude(
        self,
        record: _Record,
        result: CheckResult,
        addresses: frozenset[IPAddress],
        now: float,
        longest: float = LAST_DELAY,
    ) -> None:
        if result.verdict is Verdict.OK:
            if record.verdict is not Verdict.OK or record.ok_since is None:
                record.ok_since = now
        else:
            steady = record.ok_since is not None and now - record.ok_since >= record.delay
            doubled = max(record.delay, min(record.delay * 2, longest))
            record.delay = FIRST_DELAY if record.delay == 0 or steady else doubled
            record.ok_since = None
        record.verdict, record.reason, record.starttls = result.verdict, result.reason, result.starttls
        record.counts, record.owed, record.forced = True, False, False
        record.running, record.again_at = None, None
        record.addresses = addresses


_NOTHING_KNOWN = _Record()


def last_resort(relays: Sequence[Relay], static: Sequence[RelayEntry]) -> Best:
    """D3: the entry of the list for the first static relay, whatever its verdict; else none."""
    return next((_as_best(relay) for relay in relays if static and relay.key == static[0]), Best())


def first_not_failed(listed: Sequence[ListedRelay], static: Sequence[RelayEntry]) -> Best:
    """D6: what is published right after a report; D3 where all have failed."""
    standing = next((one.relay for one in listed if one.verdict is not Verdict.FAILED), None)
    return last_resort([one.relay for one in listed], static) if standing is None else _as_best(standing)


def _as_best(relay: Relay) -> Best:
    return Best(relay.key.host, relay.key.port, relay.source)


def _abandon(record: _Record) -> list[Command]:
    if record.running is None:
        return []
    check, record.running = record.running, None
    return [Abandon(check)]
