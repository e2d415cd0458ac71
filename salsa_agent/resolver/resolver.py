"""The DNS resolver driver: one question in, its answer out (rules F2, F3, B4, B6, and C8's hosts file)."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic

from dns.name import Name

from salsa_agent.core.model import Answer, Mx, Outcome, Question, RRType, Server, Srv
from salsa_agent.core.settings import Dns, Settings
from salsa_agent.resolver import hosts
from salsa_agent.resolver.message import Alias, Reply, ServerFailed, query_name
from salsa_agent.resolver.query_budgets import QueryBudgets
from salsa_agent.resolver.resolution import Attempt, Failed, Resolution, server_text
from salsa_agent.resolver.server_memory import ServerMemory
from salsa_agent.resolver.transport import NoReply, Pay, QueryAttempt
from salsa_agent.resolver.wire import canonical

MAX_ALIASES = 8  # CNAMEs whose target has to be asked for
HOSTS_TTL = 60  # seconds: a change of the hosts file shows soon
BOTH_FAMILIES = frozenset((4, 6))

log = logging.getLogger("salsa-agent")


class Resolver:
    """Asks DNS servers, as `[dns]` of the configuration says.

    `families`: the IP versions of which the host has an address or a default route; a route of another is not waited
    for (F2). `budgets`: of what servers are sent (E2); None: as much as somebody asks for.
    """

    def __init__(
        self, dns: Dns | None = None, *, hosts_file: Path = hosts.HOSTS, budgets: QueryBudgets | None = None
    ) -> None:
        self.families = BOTH_FAMILIES
        self._dns = dns or Dns()
        self._hosts_file = hosts_file
        self._budgets = budgets
        self._memory = ServerMemory()

    def configure(self, settings: Settings) -> None:
        """Questions from now on are asked with these settings; those under way take the timeout and `trust_ad`."""
        self._dns = settings.dns

    def forget(self) -> None:
        """The network changed: what is remembered of servers is void. Questions under way remember for themselves."""
        self._memory = ServerMemory()

    def clone(self) -> Resolver:
        """One like this with a memory of its own: what others have asked says nothing of the servers of a round."""
        other = Resolver(self._dns, hosts_file=self._hosts_file, budgets=self._budgets)
        other.families = self.families
        return other

    async def ask(self, question: Question) -> Answer:
        """The answer. Whatever goes wrong is outcome `failed` with a reason; only CancelledError is raised."""
        started = monotonic()
        try:
            answer = await self._ask(question)
        except Failed as error:
            answer = Answer(Outcome.FAILED, rcode=error.rcode, server=error.server, reason=str(error))
        except Exception:  # a bug in the agent that the network found must not end it
            log.exception("%s %s: the resolver failed", question.rtype, question.name)
            answer = Answer(Outcome.FAILED, reason="internal error")
        return answer._replace(elapsed=monotonic() - started)

    async def _ask(self, question: Question) -> Answer:
        """Follow CNAMEs that come without their target (B6). Raises Failed."""
        if question.hosts and (known := _from_hosts(question, self._hosts_file)):
            return known
        try:
            first = name = query_name(question.name)
        except ValueError as error:
            raise Failed(str(error)) from error
        ttls: list[int] = []
        authenticated = True
        for _ in range(MAX_ALIASES + 1):
            reply, server = await self._ask_name(name, question)
            authenticated = authenticated and reply.authentic and self.trusts(server)
            if reply.ttl is not None:
                ttls.append(reply.ttl)
            if isinstance(reply, Reply):
                ttl = None if reply.ttl is None else min(ttls)
                answer = _answer(reply, canonical(first))
                return answer._replace(ttl=ttl, authenticated=authenticated, server=server_text(server))
            name = query_name(reply.target)
        raise Failed("CNAME chain without an end", reply.rcode, server_text(server))

    async def _ask_name(self, name: Name, question: Question) -> tuple[Reply | Alias, Server]:
        """What the first server that is of use says of one name. Raises Failed."""
        resolution = Resolution(name, question.rtype, question.servers, self._dns, self._memory)
        under_way: dict[asyncio.Task[bytes], tuple[Attempt, QueryAttempt]] = {}
        try:
            while True:
                # while one waits for a route the next is begun (F2)
                while all(query.waiting for _, query in under_way.values()) and (attempt := resolution.next_attempt()):
                    try:
                        query = QueryAttempt(
                            attempt.server,
                            attempt.query.wire,
                            self._dns.timeout,
                            self.families,
                            self._payment(attempt.server),
                        )
                    except ServerFailed as error:
                        resolution.failed(attempt, error)
                        continue
                    under_way[asyncio.create_task(query.reply(), name="query")] = attempt, query
                if not under_way:
                    raise resolution.failure()
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    attempt, query = under_way.pop(task)
                    query.close()
                    try:
                        wire = task.result()
                    except NoReply as error:
                        resolution.timed_out(attempt, str(error), sent=error.sent)
                    except ServerFailed as error:
                        resolution.failed(attempt, error)
                    else:
                        if reply := resolution.replied(attempt, wire):
                            return reply, attempt.server
        finally:
            for task, (_, query) in under_way.items():
                task.cancel()
                query.close()
            if under_way:
                await asyncio.gather(*under_way, return_exceptions=True)

    def _payment(self, server: Server) -> Pay:
        return partial(self._budgets.pay, server) if self._budgets else lambda: None

    def trusts(self, server: Server) -> bool:
        """F3: named in `dns.trust_ad`, or a loopback resolver with `options trust-ad`."""
        ip = ip_address(server.address)
        if server.trust_ad and ip.is_loopback:
            return True
        return any(one.address == str(ip) and one.port in (None, server.port) for one in self._dns.trust_ad)


def _answer(reply: Reply, asked: str) -> Answer:
    return Answer(
        reply.outcome,
        mx=tuple(record for record in reply.records if isinstance(record, Mx)),
        addresses=tuple(record for record in reply.records if isinstance(record, IPv4Address | IPv6Address)),
        srv=tuple(record for record in reply.records if isinstance(record, Srv)),
        txt=tuple(record for record in reply.records if isinstance(record, str)),
        rcode=reply.rcode,
        alias_of="" if reply.canonical == asked else reply.canonical,
    )


def _from_hosts(question: Question, file: Path) -> Answer | None:
    """A name that the file has is not asked for at all: as with getaddrinfo(3), that decides both families."""
    if question.rtype not in (RRType.A, RRType.AAAA):
        return None
    known = hosts.lookup(question.name, file)
    if not known:
        return None
    version = 4 if question.rtype is RRType.A else 6
    addresses = tuple(ip for ip in known if ip.version == version)
    outcome = Outcome.FOUND if addresses else Outcome.NONE
    return Answer(outcome, addresses=addresses, ttl=HOSTS_TTL, server=str(file))
