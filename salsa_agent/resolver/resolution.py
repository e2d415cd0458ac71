"""Which server is asked next about one name, and what is made of its reply (rule F2). No sockets and no clock.

The shape is that of dnspython's `_Resolution`: a driver takes an attempt, carries it out, and says what came of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dns.name import Name

from salsa_agent.core.model import RRType, Server
from salsa_agent.core.settings import Dns
from salsa_agent.resolver.message import Alias, Query, Reply, ServerFailed, keeps_case, read
from salsa_agent.resolver.server_memory import ServerMemory
from salsa_agent.text import host_port, printable

MAX_SERVERS = 3  # and as many behind them


class Failed(Exception):
    """No server answered. `rcode`, `server`: where one sent an error."""

    def __init__(self, reason: str, rcode: str = "", server: str = "") -> None:
        super().__init__(reason)
        self.rcode = rcode
        self.server = server


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One query to be sent to one server, over TCP where the server says so."""

    server: Server
    query: Query


class Resolution:
    """One name, asked in passes over the servers: each in turn, the slow ones last.

    `fallback` servers (rule F1) come in the same pass after the others, as long as none of those has said anything.
    """

    def __init__(
        self, name: Name, rtype: RRType, servers: Iterable[Server], settings: Dns, memory: ServerMemory
    ) -> None:
        self._name = name
        self._rtype = rtype
        self._randomize_case = settings.case_randomization
        self._memory = memory
        distinct = list(dict.fromkeys(servers))
        own = [server for server in distinct if not server.fallback][:MAX_SERVERS]
        behind = [server for server in distinct if server.fallback][:MAX_SERVERS]
        self._useful = own + behind  # without those that are of no use for this name
        self._passes_left = settings.attempts
        self._turn: list[Server] = []  # still to be asked in this pass
        self._again: list[Server] = []  # to be asked at once, in lower case
        self._lower_case: set[Server] = set()
        self._under_way: list[Attempt] = []
        self._troubles: dict[Server, str] = {}
        self._error = ServerFailed("", replied=False)
        self._error_from = ""

    def next_attempt(self) -> Attempt | None:
        """The next attempt; None: there is none now, and none at all if no attempt is under way."""
        if self._again:
            return self._begin(self._again.pop())
        if not self._turn and not self._under_way and self._passes_left:
            self._passes_left -= 1
            self._turn = self._useful.copy()
        own_under_way = any(not attempt.server.fallback for attempt in self._under_way)
        ready = [server for server in self._turn if not (server.fallback and own_under_way)]
        if not ready:
            return None
        server = min(ready, key=lambda one: (one.fallback, self._memory.slowness(one)))
        self._turn.remove(server)
        return self._begin(server)

    def _begin(self, server: Server) -> Attempt:
        mixed_case = (
            self._randomize_case
            and not server.tcp  # nobody forges that blindly
            and server not in self._lower_case
            and self._memory.keeps_case(server) is not False
        )
        attempt = Attempt(server, Query(self._name, self._rtype, mixed_case=mixed_case))
        self._under_way.append(attempt)
        return attempt

    # --- what came of an attempt

    def replied(self, attempt: Attempt, wire: bytes) -> Reply | Alias | None:
        """Take the reply to an attempt; None: it is of no use."""
        server = attempt.server
        if attempt.query.mixed_case and not keeps_case(wire, attempt.query.wire):
            # It may be forged: what counts is the reply to a new query, with an id and a port of its own.
            self._end(attempt)
            self._lower_case.add(server)
            self._again.append(server)
            return None
        self._memory.replied(server)
        if attempt.query.mixed_case:
            self._memory.kept_case(server)
        elif server in self._lower_case:
            self._memory.lost_case(server)
        try:
            reply = read(wire, attempt.query)
        except ServerFailed as error:
            self.failed(attempt, error)
            return None
        self._end(attempt)
        return reply

    def timed_out(self, attempt: Attempt, reason: str, *, sent: bool = True) -> None:
        """No reply came in time. `sent`: there was a route, and the query went out."""
        self._end(attempt)
        self._troubles[attempt.server] = reason
        if sent:
            self._memory.timed_out(attempt.server)
            if attempt.query.mixed_case and self._memory.keeps_case(attempt.server) is None:
                self._lower_case.add(attempt.server)  # some drop what is not in lower case

    def failed(self, attempt: Attempt, error: ServerFailed) -> None:
        """The server is not asked again about this name."""
        self._end(attempt)
        server = attempt.server
        self._troubles[server] = str(error)
        dropped = {server}
        if error.replied:
            self._memory.replied(server)
            if not server.fallback:
                dropped.update(one for one in self._useful if one.fallback)
        self._useful = [one for one in self._useful if one not in dropped]
        self._turn = [one for one in self._turn if one not in dropped]
        if error.rcode or not self._error_from:
            self._error, self._error_from = error, server_text(server)

    def _end(self, attempt: Attempt) -> None:
        self._under_way.remove(attempt)

    def failure(self) -> Failed:
        """Why there is no answer, when there is no attempt left."""
        reason = "; ".join(f"{server_text(server)}: {why}" for server, why in self._troubles.items())
        return Failed(reason or "no server to ask", self._error.rcode, self._error_from)


def server_text(server: Server) -> str:
    """`addr`, or `addr:port` and `[addr]:port` where the port is not 53."""
    address = printable(server.address)
    return address if server.port == 53 else host_port(address, server.port)
