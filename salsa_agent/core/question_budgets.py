"""How often name servers are asked: a budget for each, and one for all of them (rule E2).

A network names the servers that are asked, and makes addresses come and go: each change asks for everything anew. What
it cannot make is another budget: they belong to the servers that are hit, and outlive rounds and network changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from salsa_agent.core.model import Server
from salsa_agent.core.token_bucket import Bucket

OF_SERVER, OF_SERVER_PER_SECOND = 2048, 64  # questions; 64 addresses and 64 exchanges make some 450
OF_ALL, OF_ALL_PER_SECOND = 4096, 128

_Host = tuple[str, int]  # address, and the link that it is on; whatever the port


class QuestionBudgets:
    """A question is paid to all of its servers when it is asked: any of them may be sent it."""

    def __init__(self) -> None:
        self._of_all = Bucket(OF_ALL, 1 / OF_ALL_PER_SECOND)
        self._of: dict[_Host, Bucket] = {}

    def __len__(self) -> int:
        return len(self._of)

    def ready_at(self, servers: Sequence[Server], now: float) -> float:
        """When a question to these may be asked: `now` if it may."""
        known = [self._of[host] for host in _hosts(servers) if host in self._of]
        return max(bucket.ready_at(now) for bucket in [self._of_all, *known])

    def take(self, servers: Sequence[Server], now: float) -> None:
        """A question to these is asked."""
        self._of_all.take(now)
        for host in _hosts(servers):
            self._of.setdefault(host, Bucket(OF_SERVER, 1 / OF_SERVER_PER_SECOND)).take(now)

    def tidy(self, now: float) -> None:
        """Forget those that are as good as new."""
        self._of = {host: bucket for host, bucket in self._of.items() if not bucket.full(now)}


def _hosts(servers: Iterable[Server]) -> set[_Host]:
    return {(server.address, server.ifindex) for server in servers}
