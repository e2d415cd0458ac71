"""What callers on the bus ask for, done (design section 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from salsa_agent.bus.api import Explanation, LimitsExceeded, Looked, NoSuchRelay
from salsa_agent.core import admission as names
from salsa_agent.core.engine import Engine
from salsa_agent.core.events import FailureReported, LinkRelaysSet, RefreshAsked
from salsa_agent.core.model import IPAddress, RelayKey, ServerView
from salsa_agent.daemon.engine_loop import EngineLoop
from salsa_agent.daemon.link_relays import LinkRelayStore
from salsa_agent.daemon.report_quota import REPORTS, ReportQuota
from salsa_agent.oneshot.lookup import lookup
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.system.clock import clock


class Callers:
    """The requests.Requests of the running agent."""

    def __init__(
        self,
        engine: Engine,
        loop: EngineLoop,
        resolver: Resolver,
        links: LinkRelayStore,
        *,
        identity: bytes,
        reread: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._resolver = resolver
        self._links = links
        self._identity = identity
        self._reread = reread  # the resolver configuration: `Refresh` takes nothing for granted
        self._quota = ReportQuota()
        self._refreshes: dict[int, asyncio.Future[None]] = {}
        self._tokens = 0

    async def refresh(self) -> None:
        """Have everything asked and verified anew; return at the decision."""
        self._tokens += 1
        token = self._tokens
        self._refreshes[token] = asyncio.get_running_loop().create_future()
        self._reread()
        self._loop.post(RefreshAsked(token))
        try:
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
        said = self._engine.publication
        known = {listed.relay.key for listed in said.relays} | {RelayKey(said.best.host, said.best.port)}
        if not key.host or key not in known:
            raise NoSuchRelay("This relay is neither in the list nor the best one.")
        if not self._quota.take(uid, clock()):
            raise LimitsExceeded(f"More than {REPORTS} reports within an hour.")
        self._loop.post_now(FailureReported(key, reason))

    async def lookup(self, address: IPAddress) -> Looked:
        """Ask the reverse tree for any address, at the servers of the first one of this host (F1)."""
        settings, view = self._engine.settings, ServerView(self._engine.servers)
        return await lookup(address, settings, view, self._resolver.aside(), identity=self._identity)

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
