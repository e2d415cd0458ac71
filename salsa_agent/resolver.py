"""The DNS resolver driver: one question in, its outcome out (rules F2, F3, B4, B6, and C8's hosts file)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from salsa_agent import hosts
from salsa_agent.core.model import Answer, Outcome, Question, RRType, Server
from salsa_agent.printable import printable
from salsa_agent.resolver_try import NoReply, exchange
from salsa_agent.resolver_wire import Query, Reply, ServerFailed, name_text, query_name, read

MAX_SERVERS = 3
MAX_ALIASES = 8  # CNAMEs whose target has to be asked for
HOSTS_TTL = 60  # seconds: a change of the hosts file shows soon


class _Failed(Exception):
    """No server answered. `rcode`, `server`: of the last error."""

    def __init__(self, reason: str, rcode: str = "", server: str = "") -> None:
        super().__init__(reason)
        self.rcode, self.server = rcode, server


class Resolver:
    """Asks DNS servers. `timeout`: seconds for one try; `attempts`: passes over the servers; both may be set later.

    `trust_ad`: the servers whose AD bit counts, `addr` (any port), `addr:port` or `[addr]:port`,
    addresses in their canonical form.
    """

    def __init__(
        self, *, timeout: float, attempts: int, trust_ad: tuple[str, ...] = (), hosts_file: Path = hosts.HOSTS
    ) -> None:
        self.timeout = timeout
        self.attempts = attempts
        self.trust_ad = trust_ad
        self._hosts_file = hosts_file
        self._slow: dict[Server, int] = {}  # that let a try time out, and when: the last one has the highest number

    def forget(self) -> None:
        """The network changed: what is remembered of slow servers is void. What is being asked remembers for itself."""
        self._slow = {}

    def aside(self) -> Resolver:
        """One like this with a memory of its own: what others have asked says nothing of the servers of a round."""
        return Resolver(
            timeout=self.timeout, attempts=self.attempts, trust_ad=self.trust_ad, hosts_file=self._hosts_file
        )

    async def ask(self, question: Question) -> Answer:
        """The answer. Whatever goes wrong is outcome `failed` with a reason; only CancelledError is raised."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            answer = (question.hosts and self._from_hosts(question)) or await self._from_servers(question)
        except _Failed as failed:
            answer = Answer(Outcome.FAILED, reason=str(failed), rcode=failed.rcode, server=failed.server)
        return replace(answer, elapsed=loop.time() - start)

    def _from_hosts(self, question: Question) -> Answer | None:
        """A name that the file has is not asked for at all: as with getaddrinfo(3), that decides both families."""
        if question.rtype is RRType.MX:
            return None
        known = hosts.lookup(question.name, self._hosts_file)
        if not known:
            return None
        version = 4 if question.rtype is RRType.A else 6
        addresses = tuple(ip for ip in known if ip.version == version)
        outcome = Outcome.FOUND if addresses else Outcome.NONE
        return Answer(outcome, addresses=addresses, ttl=HOSTS_TTL, server=str(self._hosts_file))

    async def _from_servers(self, question: Question) -> Answer:
        """Ask, and ask again for the target of a CNAME that came alone (B6)."""
        servers = list(dict.fromkeys(question.servers))[:MAX_SERVERS]
        if not servers:
            raise _Failed("no server to ask")
        try:
            name = start = query_name(question.name)
        except ServerFailed as error:
            raise _Failed(str(error)) from error
        ttls: list[int] = []
        authenticated = True
        for _ in range(MAX_ALIASES + 1):
            reply, server = await self._one(Query(name, question.rtype), servers)
            authenticated = authenticated and reply.authentic and self._trusts(server)
            if reply.ttl is not None:
                ttls.append(reply.ttl)
            if reply.alias is None:
                return Answer(
                    reply.outcome,
                    mx=reply.mx,
                    addresses=reply.addresses,
                    ttl=None if reply.ttl is None else min(ttls),
                    authenticated=authenticated,
                    rcode=reply.rcode,
                    server=server_text(server),
                    alias_of="" if reply.canonical == start else name_text(reply.canonical),
                )
            name = reply.alias
        raise _Failed("CNAME chain without an end", reply.rcode, server_text(server))

    async def _one(self, query: Query, servers: Iterable[Server]) -> tuple[Reply, Server]:
        """Passes over the servers until one answers (F2). Raises _Failed."""
        slow = self._slow
        troubles: dict[Server, str] = {}
        rcode = said_by = ""
        left = list(servers)  # without those that answered with an error
        for _ in range(self.attempts):
            turn = left.copy()
            while turn:
                server = min(turn, key=lambda s: slow.get(s, 0))
                turn.remove(server)
                try:
                    wire = await exchange(server, query.to_wire(), self.timeout)
                    slow.pop(server, None)
                    return read(wire, query), server
                except NoReply as error:
                    slow[server] = max(slow.values(), default=0) + 1
                    troubles[server] = str(error)
                except ServerFailed as error:
                    left.remove(server)
                    troubles[server] = str(error)
                    if error.rcode or not said_by:
                        rcode, said_by = error.rcode, server_text(server)
        reason = "; ".join(f"{server_text(server)}: {trouble}" for server, trouble in troubles.items())
        raise _Failed(reason, rcode, said_by)

    def _trusts(self, server: Server) -> bool:
        """F3: named in `dns.trust_ad`, or a loopback resolver with `options trust-ad`."""
        ip = ip_address(server.address)
        if server.trust_ad and ip.is_loopback:
            return True
        with_port = f"[{ip}]:{server.port}" if ip.version == 6 else f"{ip}:{server.port}"
        return str(ip) in self.trust_ad or with_port in self.trust_ad


def server_text(server: Server) -> str:
    """`addr`, or `addr:port` and `[addr]:port` where the port is not 53."""
    address = printable(server.address)
    if server.port == 53:
        return address
    return f"[{address}]:{server.port}" if ":" in address else f"{address}:{server.port}"
