"""What is known of one relay of the lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from salsa_agent.core.events import Check
from salsa_agent.core.model import CheckResult, IPAddress, ListedRelay, Relay, RelayKey, ServerResult, Verdict
from salsa_agent.core.verification.schedule import DOUBT, LAST_REPORTED_DELAY, at_least, next_delay
from salsa_agent.core.verification.servers import MailServer
from salsa_agent.core.verification.verdicts import combine

MAX_ADDRESSES = 4  # D1


class Subject(NamedTuple):
    """What a verdict is about: host and port, and of which service's SRV records they are; `srv` empty: of none.

    What a domain's SRV records name must prove its name (C12, `proves_name`), so that it never has the verdict on a
    relay that need not.
    """

    key: RelayKey
    srv: str = ""
    proves_name: bool = False


def subject_of(relay: Relay) -> Subject:
    """What the verdict on this relay is about."""
    return Subject(relay.key, relay.srv, relay.proves_name)


class Way(NamedTuple):
    """How a relay is spoken to: two relays with the same way get the same result from the same server (D1)."""

    port: int
    implicit_tls: bool
    tls: str
    name: str  # that the certificate must have; empty: certificates do not matter
    ifindex: int


@dataclass(slots=True)
class Record:
    """One relay. Times are engine time in seconds."""

    relay: Relay
    verdict: Verdict = Verdict.UNVERIFIED
    reason: str = ""
    starttls: bool | None = None
    tls: str = ""
    auth: bool | None = None
    wants_auth: bool = False
    counts: bool = False  # the verdict counts for the decision
    check_due: bool = True  # a check is to be started; `counts` says whether the old verdict is used until then
    assumed_failed: bool = False  # counts as failed for the decision until its check ends (E4, D11)
    running: Check | None = None
    addresses: tuple[IPAddress, ...] = ()  # where it is spoken to
    judged: frozenset[IPAddress] = frozenset()  # the addresses that the verdict or the running check is about
    way: Way | None = None
    known: dict[IPAddress, ServerResult] = field(default_factory=dict)  # from conversations for other relays
    fresh: bool = True  # new to the list, or with changed addresses: failures of its servers may still hold
    after: int = 0  # only a check with a greater serial says anything (D6)
    reported: bool = False  # a user's report is to be verified (D6)
    checked_at: float | None = None
    ok_here: bool = False  # the last verdict on this network was `ok` (D9)
    doubt_until: float | None = None  # a good relay gave a 4xx, and is checked again then (D9)
    again_at: float | None = None  # when it is checked next (D5, D9); without verification, when a report expires (D6)
    delay: float = 0.0  # the last of D5's delays; 0: none yet
    ok_since: float | None = None

    def settled(self) -> Verdict:
        """The verdict as the decision reads it: `UNVERIFIED` while it has to wait."""
        if self.counts:
            return self.verdict
        return Verdict.FAILED if self.assumed_failed else Verdict.UNVERIFIED

    def servers(self) -> tuple[MailServer, ...]:
        """The servers that are still to be spoken to."""
        return tuple(MailServer(ip, self.relay.key.port) for ip in self.addresses if ip not in self.known)

    def listed(self, relay: Relay) -> ListedRelay:
        """The relay with the verdict that stands."""
        tls = "implicit" if relay.implicit_tls else self.tls
        return ListedRelay(relay, self.verdict, self.reason, self.starttls, tls, self.auth, self.wants_auth)

    def resolved(self, results: Mapping[IPAddress, ServerResult]) -> CheckResult | None:
        """The verdict on the relay from results at its addresses; None where they do not suffice."""
        known = [results[ip] for ip in self.addresses if ip in results]
        result = combine(known, administrator=self.relay.administrator)
        return result if result.verdict is Verdict.OK or len(known) == len(self.addresses) else None

    def conclude(self, result: CheckResult, now: float) -> None:
        """Take over what came of a check. A 4xx of a relay that was `ok` here is doubted for a while (D9)."""
        self._end_check(now)
        if result.tls:  # what was seen of it stays where this time nothing was seen
            self.tls, self.auth = result.tls, result.auth
        if result.starttls is not None:
            self.starttls = result.starttls
        if result.verdict is Verdict.OK:
            if self.verdict is not Verdict.OK or self.ok_since is None:
                self.ok_since = now
            self.ok_here, self.doubt_until = True, None
        elif result.transient_reply and self.ok_here and (self.doubt_until is None or now < self.doubt_until):
            self.doubt_until = now + DOUBT if self.doubt_until is None else self.doubt_until
            self.again_at, self.reason = self.doubt_until, result.reason
            self.verdict = Verdict.OK
            return
        else:
            self._fail(next_delay(self.delay, permanent=result.permanent, steady=self._steady(now)), result)
        self.verdict, self.reason, self.wants_auth = result.verdict, result.reason, result.wants_auth
        self.reported = False

    def report(self, reason: str, now: float) -> None:
        """A user found that it fails (D6)."""
        if self.verdict is not Verdict.FAILED or not self.counts:
            self._end_check(now)
            steady = self._steady(now)
            self._fail(next_delay(self.delay, permanent=False, steady=steady, longest=LAST_REPORTED_DELAY))
            self.verdict = Verdict.FAILED
        self.reason = reason

    def _fail(self, delay: float, result: CheckResult | None = None) -> None:
        if self.reported and self.delay:
            # the check that a report called for does not raise the delay that the report has just set
            delay = at_least(self.delay, result)
        self.delay = delay
        self.ok_since, self.ok_here, self.doubt_until = None, False, None

    def _steady(self, now: float) -> bool:
        """D5: `ok` and unreported for as long as the last delay was."""
        return self.ok_since is not None and now - self.ok_since >= self.delay

    def _end_check(self, now: float) -> None:
        self.counts, self.check_due, self.assumed_failed, self.fresh = True, False, False, False
        self.running, self.again_at, self.checked_at = None, None, now
        self.judged = frozenset(self.addresses)
        self.known = {}
