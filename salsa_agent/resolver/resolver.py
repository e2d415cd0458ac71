"""The DNS resolver driver: one question in, its outcome out (rules F2, F3, B4, B6, and C8's hosts file)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

from salsa_agent.core.model import Answer, Outcome, Question, RRType, Server
from salsa_agent.resolver import hosts
from salsa_agent.resolver.message import Query, ServerFailed, read
from salsa_agent.resolver.names import name_text, query_name
from salsa_agent.resolver.transport import NoReply, Result, Try
from salsa_agent.text import host_port, printable

MAX_SERVERS = 3
MAX_ALIASES = 8  # CNAMEs whose target has to be asked for
HOSTS_TTL = 60  # seconds: a change of the hosts file shows soon

log = logging.getLogger("salsa-agent")


class Resolver:
    """Asks DNS servers. `timeout`: seconds for one try; `attempts`: passes over the servers; both may be set later.

    `trust_ad`: the servers whose AD bit counts, `addr` (any port), `addr:port` or `[addr]:port`,
    addresses in their canonical form. `slow`: the servers that let a try time out, the last one with the
    highest number.
    """

    def __init__(
        self, *, timeout: float, attempts: int, trust_ad: tuple[str, ...] = (), hosts_file: Path = hosts.HOSTS
    ) -> None:
        self.timeout = timeout
        self.attempts = attempts
        self.trust_ad = trust_ad
        self.hosts_file = hosts_file
        self.slow: dict[Server, int] = {}

    def forget(self) -> None:
        """The network changed: what is remembered of slow servers is void. What is being asked remembers for itself."""
        self.slow = {}

    def aside(self) -> Resolver:
        """One like this with a memory of its own: what others have asked says nothing of the servers of a round."""
        return Resolver(
            timeout=self.timeout, attempts=self.attempts, trust_ad=self.trust_ad, hosts_file=self.hosts_file
        )

    async def ask(self, question: Question) -> Answer:
        """The answer. Whatever goes wrong is outcome `failed` with a reason; only CancelledError is raised."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # a future that was cancelled is done, before its task gets the turn in which it can cancel
        asking = Asking(self, question, lambda said: None if answer.done() else answer.set_result(said))
        try:
            return await answer
        finally:
            asking.cancel()

    def trusts(self, server: Server) -> bool:
        """F3: named in `dns.trust_ad`, or a loopback resolver with `options trust-ad`."""
        ip = ip_address(server.address)
        if server.trust_ad and ip.is_loopback:
            return True
        return str(ip) in self.trust_ad or host_port(str(ip), server.port) in self.trust_ad


class Asking:
    """A question under way; its first query is sent at once, without a turn of the event loop.

    `done` is told the answer later, whatever goes wrong with outcome `failed` and a reason, but not after `cancel`.
    What the methods return is the answer; None: it is still to come.
    """

    def __init__(self, resolver: Resolver, question: Question, done: Callable[[Answer], None]) -> None:
        self._resolver = resolver
        self._question = question
        self._done = done
        self._started = monotonic()
        self._aliases = 0  # whose target had to be asked for
        self._ttls: list[int] = []  # of the replies so far
        self._authenticated = True
        self._try: Try | None = None
        self._over = False
        answer = self._guarded(self._begin)
        if answer is not None:
            asyncio.get_running_loop().call_soon(self._end, answer)

    def cancel(self) -> None:
        """The answer is no longer wanted. Twice does no harm."""
        self._over = True
        if self._try is not None:
            self._try.cancel()

    def _end(self, answer: Answer) -> None:
        if not self._over:
            self._over = True
            self._try = None  # which knows this: a circle would be left to the collector
            self._done(answer)

    def _guarded(self, step: Callable[[], Answer | None]) -> Answer | None:
        """A defect of ours that the network found must not end the agent, nor leave the question without an answer."""
        try:
            return step()
        except Exception:
            log.exception("%s %s: the resolver failed", self._question.rtype, self._question.name)
            return self._failed("internal error")

    def _begin(self) -> Answer | None:
        question = self._question
        if question.hosts and (known := _from_hosts(question, self._resolver.hosts_file)):
            return known
        self._servers = list(dict.fromkeys(question.servers))[:MAX_SERVERS]
        if not self._servers:
            return self._failed("no server to ask")
        try:
            self._first = query_name(question.name)
        except ValueError as error:
            return self._failed(str(error))
        return self._ask(Query(self._first, question.rtype))

    # --- the servers, one after the other

    def _ask(self, query: Query) -> Answer | None:
        """Ask this, of any server (F2)."""
        self._query = query
        self._slow = self._resolver.slow
        self._passes = self._resolver.attempts
        self._left = self._servers.copy()  # without those that answered with an error
        self._turn: list[Server] = []  # those that are still to be asked in this pass
        self._troubles: dict[Server, str] = {}
        self._rcode = self._said_by = ""
        return self._next()

    def _next(self) -> Answer | None:
        """Ask the next server; where no query can be sent, the one after it."""
        while True:
            if not self._turn:
                if not self._left or not self._passes:
                    reason = "; ".join(f"{server_text(server)}: {why}" for server, why in self._troubles.items())
                    return self._failed(reason, self._rcode, self._said_by)
                self._passes -= 1
                self._turn = self._left.copy()
            self._server = min(self._turn, key=lambda server: self._slow.get(server, 0))
            self._turn.remove(self._server)
            try:
                self._try = Try(self._server, self._query.to_wire(), self._resolver.timeout, self._tried)
            except ServerFailed as error:
                self._note(error)
            else:
                return None

    def _tried(self, result: Result) -> None:
        answer = self._guarded(partial(self._take, result))
        if answer is not None:
            self._end(answer)

    def _take(self, result: Result) -> Answer | None:
        if isinstance(result, bytes):
            self._slow.pop(self._server, None)
            try:
                return self._read(result)
            except ServerFailed as error:
                result = error
        if not isinstance(result, NoReply | ServerFailed):
            raise result
        self._note(result)
        return self._next()

    def _note(self, trouble: NoReply | ServerFailed) -> None:
        server = self._server
        self._troubles[server] = str(trouble)
        if isinstance(trouble, NoReply):
            self._slow[server] = max(self._slow.values(), default=0) + 1
            return
        self._left.remove(server)
        if trouble.rcode or not self._said_by:
            self._rcode, self._said_by = trouble.rcode, server_text(server)

    # --- what they say

    def _read(self, wire: bytes) -> Answer | None:
        """What a server said; for a CNAME that came alone its target is asked for (B6). Raises ServerFailed."""
        reply = read(wire, self._query)
        server = self._server
        self._authenticated = self._authenticated and reply.authentic and self._resolver.trusts(server)
        if reply.ttl is not None:
            self._ttls.append(reply.ttl)
        if reply.alias is not None:
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                return self._failed("CNAME chain without an end", reply.rcode, server_text(server))
            return self._ask(Query(reply.alias, self._question.rtype))
        return Answer(
            reply.outcome,
            mx=reply.mx,
            addresses=reply.addresses,
            ttl=None if reply.ttl is None else min(self._ttls),
            authenticated=self._authenticated,
            rcode=reply.rcode,
            server=server_text(server),
            elapsed=monotonic() - self._started,
            alias_of="" if reply.canonical == self._first else name_text(reply.canonical),
        )

    def _failed(self, reason: str, rcode: str = "", server: str = "") -> Answer:
        elapsed = monotonic() - self._started
        return Answer(Outcome.FAILED, rcode=rcode, server=server, elapsed=elapsed, reason=reason)


def _from_hosts(question: Question, file: Path) -> Answer | None:
    """A name that the file has is not asked for at all: as with getaddrinfo(3), that decides both families."""
    if question.rtype is RRType.MX:
        return None
    known = hosts.lookup(question.name, file)
    if not known:
        return None
    version = 4 if question.rtype is RRType.A else 6
    addresses = tuple(ip for ip in known if ip.version == version)
    outcome = Outcome.FOUND if addresses else Outcome.NONE
    return Answer(outcome, addresses=addresses, ttl=HOSTS_TTL, server=str(file))


def server_text(server: Server) -> str:
    """`addr`, or `addr:port` and `[addr]:port` where the port is not 53."""
    address = printable(server.address)
    return address if server.port == 53 else host_port(address, server.port)
