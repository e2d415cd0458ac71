"""How often servers are sent a query, whatever leads to it (rule E2): the wall behind the budgets of questions.

One question may become many queries: aliases whose target has to be asked for, TCP after each truncated reply, a pass
more, a reply in another case. Who answers decides that, and names the servers, too.
"""

from __future__ import annotations

from time import monotonic

from salsa_agent.core.model import Server
from salsa_agent.core.question_budgets import OF_ALL, OF_ALL_PER_SECOND, OF_SERVER, OF_SERVER_PER_SECOND
from salsa_agent.core.token_bucket import Bucket
from salsa_agent.resolver.message import ServerFailed

QUERIES = 2  # for each question of its budget: one over UDP, and TCP where each reply is truncated


class QueryBudgets:
    """They outlive network changes, and belong to addresses, whatever the port."""

    def __init__(self) -> None:
        self._of_all = Bucket(QUERIES * OF_ALL, 1 / (QUERIES * OF_ALL_PER_SECOND))
        self._of_server: dict[tuple[str, int], Bucket] = {}

    def pay(self, server: Server) -> None:
        """A query, or a connection, is going out. Raises ServerFailed if it must not."""
        now = monotonic()
        host = server.address, server.ifindex
        if host not in self._of_server:
            self._of_server = {host: bucket for host, bucket in self._of_server.items() if not bucket.full(now)}
        bucket = self._of_server.setdefault(host, Bucket(QUERIES * OF_SERVER, 1 / (QUERIES * OF_SERVER_PER_SECOND)))
        if bucket.ready_at(now) > now or not self._of_all.take(now):
            raise ServerFailed("asked too often", replied=False)
        bucket.take(now)
