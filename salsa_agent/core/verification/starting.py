"""Rules D2, D8 and D11: which relays are spoken to next, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from salsa_agent.core.admission import is_internal
from salsa_agent.core.events import Check, Command
from salsa_agent.core.model import IPAddress, Relay, Verdict, demanded_tls
from salsa_agent.core.settings import Verify
from salsa_agent.core.verification.places import Places
from salsa_agent.core.verification.records import MAX_ADDRESSES, Record, Subject, Way, subject_of
from salsa_agent.core.verification.results import Results
from salsa_agent.core.verification.servers import Caller, MailServers, caller_for

ENOUGH = 2  # D2: not beyond the second `ok`

Relays = Sequence[Relay]


class Reach(NamedTuple):
    """Where relays are spoken to.

    `addresses`: of each relay, best first; None while they are being looked up. `links`: the indexes of the links by
    name. `versions`: the IP versions of which a missing route is waited for (rule D1).
    """

    addresses: Mapping[Subject, tuple[IPAddress, ...] | None]
    links: Mapping[str, int] = {}
    versions: tuple[int, ...] = (4, 6)


class Starts:
    """Starts checks. `last_serial`: of the last one. `blocked_until`: when a bound allows one that is due, if any."""

    def __init__(
        self, records: Mapping[Subject, Record], places: Places, servers: MailServers, results: Results
    ) -> None:
        self._records = records
        self._places = places
        self._servers = servers
        self._results = results
        self.last_serial = 0
        self.blocked_until: float | None = None

    def start(self, lists: Sequence[Relays], reach: Reach, verify: Verify, now: float) -> list[Command]:
        """Start the checks that are due and may begin now. The relays of the first list go before the others."""
        commands: list[Command] = []
        for relay in _each(lists):
            commands += self._set_addresses(self._records[subject_of(relay)], reach, verify)
        self.blocked_until = None
        waiting = [record for record in self._due(lists, now) if self._needs_check(record, reach, now)]
        for record in self._in_turn(waiting):
            if not self._places.full and record.running is None:
                commands += self._start(record, reach, now)
        return commands

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
        return self._places.abandon(record)

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

    def _needs_check(self, record: Record, reach: Reach, now: float) -> bool:
        """Whether its addresses are known, and nothing that is known says already what would come of it."""
        looked_up = reach.addresses.get(subject_of(record.relay)) is not None
        return looked_up and not self._results.needs_no_check(record, now)

    def _in_turn(self, waiting: Sequence[Record]) -> Iterator[Record]:
        """In their order, but first those whose link holds less than its share of the places (D11)."""
        for record in waiting:
            link = record.relay.interface
            if link and self._places.has_share_left(link):
                yield record
        yield from waiting

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
        self.last_serial += 1
        way = record.way
        assert way is not None  # it has addresses
        check = Check(
            self.last_serial,
            record.relay.key,
            tuple(server.ip for server in servers),
            way.ifindex,
            way.implicit_tls,
            way.tls,
            record.relay.administrator,
            reach.versions,
        )
        self._servers.reserve(check.serial, servers, caller, now)
        self._places.take(check, subject_of(record.relay), record.relay.interface)
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

    def _wake(self, when: float) -> None:
        self.blocked_until = when if self.blocked_until is None else min(self.blocked_until, when)


def _each(lists: Sequence[Relays]) -> Iterator[Relay]:
    """Each relay of the lists once."""
    yield from {subject_of(relay): relay for relays in reversed(lists) for relay in relays}.values()


def _way(relay: Relay, addresses: Iterable[IPAddress], reach: Reach, verify: Verify) -> Way:
    """How the relay is spoken to. What a domain's SRV records name must prove its name (C12)."""
    tls = "valid" if relay.proves_name else demanded_tls(verify.tls, relay.srv)
    of_link = not relay.administrator and any(map(is_internal, addresses))
    ifindex = reach.links.get(relay.interface, 0) if of_link else 0
    return Way(relay.key.port, relay.implicit_tls, tls, relay.key.host if tls == "valid" else "", ifindex)
