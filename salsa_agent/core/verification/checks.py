"""Rules D: the verdicts on the relays of all lists, and which of them are spoken to next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from salsa_agent.core.admission import is_internal
from salsa_agent.core.events import Abandon, Check, Command
from salsa_agent.core.model import (
    Best,
    CheckResult,
    IPAddress,
    ListedRelay,
    Relay,
    RelayKey,
    ServerResult,
    Verdict,
    demanded_tls,
)
from salsa_agent.core.settings import Verify
from salsa_agent.core.verification.best import as_best, last_resort
from salsa_agent.core.verification.records import MAX_ADDRESSES, Record, Subject, Way, subject_of
from salsa_agent.core.verification.schedule import JITTER, PROOF, YOUNG, Failure, Failures
from salsa_agent.core.verification.servers import Caller, MailServer, MailServers, caller_for
from salsa_agent.core.verification.verdicts import settles

AT_ONCE = 4  # D2
SHARE = 2  # D11: places for the relays of one link while those of another wait
ENOUGH = 2  # D2: not beyond the second `ok`
MAX_PROOFS = 256  # reported relays that were found `ok` and are remembered

Relays = Sequence[Relay]


class Reach(NamedTuple):
    """Where relays are spoken to.

    `addresses`: of each relay, best first; None while they are being looked up. `links`: the indexes of the links by
    name. `versions`: the IP versions of which a missing route is waited for (rule D1).
    """

    addresses: Mapping[Subject, tuple[IPAddress, ...] | None]
    links: Mapping[str, int] = {}
    versions: tuple[int, ...] = (4, 6)


class _Running(NamedTuple):
    """A check that holds one of D2's places. `link`: whose relays share places with others (D11)."""

    check: Check
    subject: Subject
    link: str


class Checks:
    """The verdicts on the relays of the list of C6 and of those of the senders (C11), which share them."""

    def __init__(self, seed: int) -> None:
        self._records: dict[Subject, Record] = {}
        self._places: dict[int, _Running] = {}  # until all conversations of a check are over
        self._servers = MailServers()
        self._failures = Failures()
        self._proofs: dict[RelayKey, float] = {}  # until when others than root cannot report it (D6)
        self._random = Random(seed)  # noqa: S311 - spreads checks over time, nothing secret
        self._serial = 0
        self._blocked_until: float | None = None  # when a bound allows a check that is due

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
            commands += self._abandon(self._records.pop(subject))
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
        commands = [command for record in self._records.values() for command in self._abandon(record)]
        commands += self._end_lingering()
        self._failures.clear()
        for record in self._records.values():
            record.delay, record.ok_since, record.ok_here, record.doubt_until = 0.0, None, False, None
            _expect_check(record, enabled=enabled)
        return commands

    def clear(self) -> list[Command]:
        """What is asked of a relay changed: no old verdict says anything."""
        commands = [command for record in self._records.values() for command in self._abandon(record)]
        commands += self._end_lingering()
        self._records.clear()
        self._failures.clear()
        return commands

    def listed(self, relay: Relay) -> ListedRelay:
        """The relay with the verdict that stands."""
        return self._records.get(subject_of(relay), Record(relay)).listed(relay)

    # --- reports (D6)

    def report_refused(self, key: RelayKey, now: float) -> bool:
        """Whether reports on this relay by others than root are refused: one was just found to be wrong."""
        return now < self._proofs.get(key, 0.0)

    def report(self, key: RelayKey, reason: str, now: float, *, enabled: bool) -> list[Command]:
        """A user's word that this relay fails, to be verified at once; without verification time brings it back."""
        commands: list[Command] = []
        for record in self._records_of(key):
            commands += self._abandon(record)
            record.report(reason, now)
            if enabled:
                record.check_due, record.reported, record.after, record.known = True, True, self._serial, {}
            elif record.again_at is None:
                record.again_at = now + self._jittered(record.delay)
        return commands

    def check_soon(self, key: RelayKey) -> None:
        """This relay is published without waiting: have it verified; one that has failed, too, is scheduled by D5."""
        for record in self._records_of(key):
            if record.verdict is not Verdict.FAILED:
                record.check_due = True

    def expire_reports(self, now: float) -> None:
        """Without verification, a reported relay whose time is over is `unverified` again."""
        for record in self._records.values():
            if record.again_at is not None and record.again_at <= now:
                record.verdict, record.reason = Verdict.UNVERIFIED, ""
                record.again_at, record.ok_since = None, now

    # --- deciding

    def best(self, relays: Relays, resort: RelayKey | None, *, enabled: bool) -> Best | None:
        """The best relay of a list (D2, D3, D4); None while the decision has to wait for a verdict."""
        for relay in relays:
            record = self._records.get(subject_of(relay)) or Record(relay)
            if not enabled:
                if record.verdict is not Verdict.FAILED:
                    return as_best(relay)
                continue
            verdict = record.settled()
            if verdict is Verdict.OK:
                return as_best(relay)
            if verdict is Verdict.UNVERIFIED:
                return None
        return last_resort(relays, resort)

    def assume_failed(self, relays: Relays) -> None:
        """The round is at its cap: what has no verdict counts as failed until its check ends (E4)."""
        for relay in relays:
            record = self._records[subject_of(relay)]
            record.assumed_failed = not record.counts

    # --- conversations

    def start_checks(self, lists: Sequence[Relays], reach: Reach, verify: Verify, now: float) -> list[Command]:
        """Start the checks that are due and may begin now. The relays of the first list go before the others."""
        commands: list[Command] = []
        for relay in _each(lists):
            commands += self._set_addresses(self._records[subject_of(relay)], reach, verify)
        self._blocked_until = None
        waiting = [record for record in self._due(lists, now) if not self._needs_no_check(record, reach, now)]
        for record in self._in_turn(waiting):
            if len(self._places) < AT_ONCE and record.running is None:
                commands += self._start(record, reach, now)
        return commands

    def record_result(self, check: Check, result: CheckResult, lingering: Iterable[IPAddress], now: float) -> bool:
        """Take the verdict of a check in, for all relays that lead to its servers; False if nobody waited for it.

        `lingering`: the addresses with which a conversation is still being ended.
        """
        place = self._places.get(check.serial)
        record = self._records.get(place.subject) if place is not None else None
        if place is None or record is None or record.running != check:
            return False
        results = _by_address(check, result)
        still = tuple(lingering)
        port = check.key.port
        contacted = [one.ip for one in result.servers if one.contacted] if result.servers else check.addresses
        self._servers.settle(
            check.serial, [MailServer(ip, port) for ip in contacted], [MailServer(ip, port) for ip in still]
        )
        if not still:
            del self._places[check.serial]
        others = [other for other in self._records.values() if other is not record and _served(other, record, check)]
        known = {ip: one for ip, one in (record.known | results).items() if ip in record.addresses}
        if record.known or settles(result, administrator=record.relay.administrator):
            result = record.resolved(known) or result
        self._conclude(record, result, known, now)
        for other in others:
            self._share(other, results, now)
        return True

    def conversations_ended(self, check: Check) -> None:
        """Nothing of this check is left: its place and its servers are free."""
        self._places.pop(check.serial, None)
        self._servers.release(check.serial)

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
                    record.again_at = now + self._jittered(record.delay)
            elif record.verdict is Verdict.OK and subject in best_ones and verify.interval:
                if record.again_at is None:
                    record.again_at = now + verify.interval
            else:
                record.again_at = None

    def due(self, now: float) -> float | None:
        """When `start_checks` has something to do that no event announces."""
        times = [record.again_at for record in self._records.values() if record.again_at is not None]
        if self._blocked_until is not None:
            times.append(self._blocked_until)
        return min((time for time in times if time > now), default=None)

    # --- which, and where

    def _records_of(self, key: RelayKey) -> list[Record]:
        """What is known of the relays with this host and port, by whatever way they came."""
        return [record for subject, record in self._records.items() if subject.key == key]

    def _due(self, lists: Sequence[Relays], now: float) -> list[Record]:
        """Those whose check is due, up to the second `ok` of each list (D2), and those whose time came."""
        due: dict[Subject, Record] = {}
        for relays in lists:
            good = 0
            for relay in relays:
                record = self._records[subject_of(relay)]
                good += record.counts and record.verdict is Verdict.OK
                came = record.again_at is not None and record.again_at <= now
                wanted = record.check_due and (good < ENOUGH or record.reported)
                if record.running is None and (came or wanted):
                    due[subject_of(relay)] = record
        return list(due.values())

    def _in_turn(self, waiting: Sequence[Record]) -> Iterator[Record]:
        """In their order, but first those whose link holds less than its share of the places (D11)."""
        for record in waiting:
            link = record.relay.interface
            if link and sum(place.link == link for place in self._places.values()) < SHARE:
                yield record
        yield from waiting

    def _set_addresses(self, record: Record, reach: Reach, verify: Verify) -> list[Command]:
        """D8: with changed addresses a relay's check is due."""
        where = reach.addresses.get(subject_of(record.relay))
        if where is None:
            return []
        record.addresses = where[:MAX_ADDRESSES]
        record.way = _way(record.relay, record.addresses, reach, verify)
        if record.judged == frozenset(record.addresses) or (record.check_due and record.running is None):
            return []
        record.counts, record.check_due, record.fresh, record.known = False, True, True, {}
        return self._abandon(record)

    def _needs_no_check(self, record: Record, reach: Reach, now: float) -> bool:
        """Conclude without a conversation where it has no address, or where its servers' failures still stand."""
        if reach.addresses.get(subject_of(record.relay)) is None:
            return True
        if not record.addresses:
            self._conclude(record, CheckResult(Verdict.FAILED, "no address known"), {}, now)
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

    def _start(self, record: Record, reach: Reach, now: float) -> list[Command]:
        """Begin the check, unless a bound on its servers stands against it (D1, D11)."""
        wanted, caller = record.servers(), caller_for(record.relay)
        if self._servers.busy(wanted):
            return []
        servers = self._servers.allowed(wanted, caller, now)
        if not servers:
            self._hold_back(record, caller, now)
            return []
        ready = self._servers.ready_at(servers, caller, now)
        if ready > now:
            self._wake(ready)
            if record.verdict is not Verdict.UNVERIFIED:  # D1: the last verdict stands until the budget allows
                record.counts = record.check_due = True
            return []
        self._serial += 1
        way = record.way
        assert way is not None  # it has addresses
        check = Check(
            self._serial,
            record.relay.key,
            tuple(server.ip for server in servers),
            way.ifindex,
            way.implicit_tls,
            way.tls,
            record.relay.administrator,
            reach.versions,
        )
        self._servers.reserve(check.serial, servers, caller, now)
        self._places[check.serial] = _Running(check, subject_of(record.relay), record.relay.interface)
        record.running, record.judged = check, frozenset(record.addresses)
        if record.verdict is Verdict.UNVERIFIED:
            record.reason = ""  # D11's, of before
        return [check]

    def _hold_back(self, record: Record, caller: Caller, now: float) -> None:
        """D11: no server is left for this relay. A verdict that counts stands until there is one again."""
        if (when := self._servers.allowed_at(now, caller)) is not None:
            self._wake(when)
        if record.counts or self._servers.may_be_allowed(caller):
            return
        record.verdict, record.reason, record.assumed_failed = Verdict.UNVERIFIED, "D11", True

    def _conclude(
        self, record: Record, result: CheckResult, known: Mapping[IPAddress, ServerResult], now: float
    ) -> None:
        reported, way = record.reported, record.way
        record.conclude(result, now)
        if record.verdict is Verdict.OK and reported:
            self._prove(record.relay.key, now)
        for ip, one in known.items():
            if one.result.verdict is Verdict.OK:
                self._failures.forget(ip, way)
            elif record.verdict is Verdict.FAILED:
                self._failures.record(ip, way, Failure.at(now, one, record.delay), now)

    def _share(self, record: Record, results: Mapping[IPAddress, ServerResult], now: float) -> None:
        """A conversation for another relay was with a server of this one, too (D1)."""
        mine = {ip: result for ip, result in results.items() if ip in record.addresses}
        result = record.resolved(record.known | mine)
        if result is not None and mine:
            self._conclude(record, result, mine, now)
        elif record.check_due:
            record.known |= mine

    def _prove(self, key: RelayKey, now: float) -> None:
        """D6: it was reported and is `ok`."""
        proofs = {one: until for one, until in self._proofs.items() if now < until and one != key}
        if len(proofs) >= MAX_PROOFS:
            del proofs[next(iter(proofs))]
        self._proofs = proofs | {key: now + PROOF}

    # --- ending

    def _abandon(self, record: Record) -> list[Command]:
        """End the running check of a relay at once."""
        if record.running is None:
            return []
        check, record.running = record.running, None
        self.conversations_ended(check)
        return [Abandon(check)]

    def _end_lingering(self) -> list[Command]:
        """D1: what is still being ended at a change of the network stands in nobody's way."""
        checks = [place.check for place in self._places.values()]
        for check in checks:
            self.conversations_ended(check)
        return [Abandon(check) for check in checks]

    def _wake(self, when: float) -> None:
        self._blocked_until = when if self._blocked_until is None else min(self._blocked_until, when)

    def _jittered(self, delay: float) -> float:
        return delay * self._random.uniform(1 - JITTER, 1 + JITTER)


def _each(lists: Sequence[Relays]) -> Iterator[Relay]:
    """Each relay of the lists once."""
    yield from {subject_of(relay): relay for relays in reversed(lists) for relay in relays}.values()


def _expect_check(record: Record, *, enabled: bool) -> None:
    record.counts = record.assumed_failed = record.fresh = False
    record.check_due = True
    record.again_at, record.known = record.doubt_until, {}  # the check that D9 owes comes in any case
    if not enabled:
        record.verdict, record.reason = Verdict.UNVERIFIED, ""


def _way(relay: Relay, addresses: Iterable[IPAddress], reach: Reach, verify: Verify) -> Way:
    """How the relay is spoken to. What a domain's SRV records name must prove its name (C12)."""
    tls = "valid" if relay.proves_name else demanded_tls(verify.tls, relay.srv)
    of_link = not relay.administrator and any(map(is_internal, addresses))
    ifindex = reach.links.get(relay.interface, 0) if of_link else 0
    return Way(relay.key.port, relay.implicit_tls, tls, relay.key.host if tls == "valid" else "", ifindex)


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
