"""What callers on the bus ask for, done: the methods of org.salsa.Agent1."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from salsa_agent.bus.api import Explanation, LimitsExceeded, LookupResult, NoSuchRelay, SenderRelays
from salsa_agent.core import admission as names
from salsa_agent.core.engine import Engine
from salsa_agent.core.events import FailureReported, LinkRelaysSet, RefreshAsked
from salsa_agent.core.model import IPAddress, Publication, RelayKey, ServerView
from salsa_agent.core.senders import entry_for
from salsa_agent.daemon.link_relays import LinkRelayStore
from salsa_agent.daemon.quotas import ROOT, LookupQuota, ReportQuota
from salsa_agent.daemon.statistics import Statistics
from salsa_agent.oneshot.lookup import lookup
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.system.clock import clock
from salsa_agent.wiring.engine_loop import EngineLoop

REFRESH_TIME = 20.0  # seconds until `Refresh` replies at the latest: busctl and gdbus give up at 25


class Methods:
    """The `bus.api.Requests` of the running agent."""

    def __init__(
        self,
        engine: Engine,
        loop: EngineLoop,
        resolver: Resolver,
        links: LinkRelayStore,
        *,
        identity: bytes,
        statistics: Statistics,
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._resolver = resolver
        self._links = links
        self._identity = identity
        self._statistics = statistics
        self._reports = ReportQuota()
        self._lookups = LookupQuota()
        self._reportable: tuple[Publication | None, frozenset[RelayKey]] = None, frozenset()
        self._refreshes: dict[int, asyncio.Future[None]] = {}
        self._tokens = 0

    async def refresh(self, uid: int) -> None:
        """Have everything asked and verified anew; return at the decision, or after 20 s. `uid`: of the caller."""
        self._tokens += 1
        token = self._tokens
        self._refreshes[token] = asyncio.get_running_loop().create_future()
        self._loop.post(RefreshAsked(token, root=uid == ROOT))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_TIME):
                    await self._refreshes[token]
        finally:
            del self._refreshes[token]

    def refreshed(self, token: int) -> None:
        """The round of this `Refresh` has decided."""
        future = self._refreshes.get(token)
        if future is not None and not future.done():
            future.set_result(None)

    def report_failure(self, host: str, port: int, reason: str, uid: int) -> None:
        """Mark a relay as failed (D6). Raises NoSuchRelay, LimitsExceeded."""
        literal = names.literal(host)
        key = RelayKey(str(literal) if literal else names.canonical(host), port)
        if not key.host or key not in self._known():
            raise NoSuchRelay("This relay is neither in the list nor in one of a sender, nor published.")
        now = clock()
        if uid != ROOT and self._engine.report_refused(key, now):
            raise LimitsExceeded("This relay was reported and then found to answer within the last hour.")
        if refusal := self._reports.refusal(uid, key, now):
            raise LimitsExceeded(refusal)
        self._statistics.count("reports")
        self._loop.post_now(FailureReported(key, reason))

    def _known(self) -> frozenset[RelayKey]:
        """The relays that can be reported, gathered once: anybody may report what is none of them, without a limit."""
        published = self._engine.publication
        if self._reportable[0] is not published:
            self._reportable = published, _reportable(published)
        return self._reportable[1]

    def relay_for(self, sender: str) -> SenderRelays:
        """The relay for an envelope sender, and its list (C11)."""
        published = self._engine.publication
        entry = entry_for(sender, published.senders)
        if entry is None:
            return SenderRelays(published.best, published.relays)
        return SenderRelays(entry.best, entry.relays)

    def statistics(self) -> Mapping[str, int]:
        """The counters of the property `Statistics`."""
        return self._statistics.counters

    async def lookup(self, address: IPAddress, uid: int) -> LookupResult:
        """Ask the reverse tree for any address, at the servers of the first one of this host (F1).

        Raises LimitsExceeded. `uid`: of the caller.
        """
        if refusal := self._lookups.refusal(uid, clock()):
            raise LimitsExceeded(refusal)
        settings, view = self._engine.settings, ServerView(self._engine.servers)
        return await lookup(address, settings, view, self._resolver.clone(), identity=self._identity)

    def explain(self) -> Explanation:
        """What the last decision rests on."""
        return Explanation(self._engine.asked, self._engine.publication.dropped)

    def set_link_relays(self, ifindex: int, relays: Sequence[str]) -> None:
        """What the configuration of a link says (C9). Raises InvalidArgs."""
        self._links.set(ifindex, relays)
        self._loop.post(LinkRelaysSet(self._links.links))

    def revert_link(self, ifindex: int) -> None:
        """Forget what was set for a link."""
        self._links.revert(ifindex)
        self._loop.post(LinkRelaysSet(self._links.links))


def _reportable(publication: Publication) -> frozenset[RelayKey]:
    """Those of all lists, and the best ones."""
    choices = publication.senders
    best = [publication.best, *(one.best for one in choices)]
    relays = [*publication.relays, *(listed for one in choices for listed in one.relays)]
    return frozenset([RelayKey(one.host, one.port) for one in best] + [listed.relay.key for listed in relays])
