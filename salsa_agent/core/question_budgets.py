"""How often name servers are asked: budgets of what is hit, of the link that names it, and of each question (rule E2).

A network names the servers that are asked, and makes addresses come and go: each change asks for everything anew. What
it cannot make is another budget: they outlive rounds and network changes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from salsa_agent.core.model import Question, Server
from salsa_agent.core.token_bucket import Bucket

OF_SERVER, OF_SERVER_PER_SECOND = 2048, 64  # questions; 64 addresses and 64 exchanges make some 450
OF_LINK, OF_LINK_PER_SECOND = OF_SERVER, OF_SERVER_PER_SECOND  # half of all, so that the rest is left to other links
OF_ALL, OF_ALL_PER_SECOND = 4096, 128
TRIES, TRY_EVERY = 6, 4.0  # of one question until it is answered: the rounds of a roam (E2), then seconds

K = TypeVar("K", bound=Hashable)
_Host = tuple[str, int]  # address, and the link that it is on; whatever the port


class QuestionBudgets:
    """A question is paid to all of its servers when it is asked: any of them may be sent it.

    One that fails is asked no faster for a network that changes all the time (RFC 9520 section 3.2).
    """

    def __init__(self) -> None:
        self._of_all = Bucket(OF_ALL, 1 / OF_ALL_PER_SECOND)
        self._of_server: dict[_Host, Bucket] = {}
        self._of_link: dict[int, Bucket] = {}
        self._of_question: dict[Question, Bucket] = {}  # of those that are not answered

    def __len__(self) -> int:
        return 1 + len(self._of_server) + len(self._of_link) + len(self._of_question)

    def ready_at(self, question: Question, now: float) -> float:
        """When this may be asked: `now` if it may."""
        known = [
            *(self._of_server.get(host) for host in _hosts(question.servers)),
            *(self._of_link.get(link) for link in _links(question.servers)),
            self._of_question.get(question),
        ]
        return max(bucket.ready_at(now) for bucket in [self._of_all, *known] if bucket is not None)

    def take(self, question: Question, now: float, *, again: bool = False) -> None:
        """This is asked. `again`: since nobody outside this host was there to answer it (E6)."""
        self._of_all.take(now)
        for host in _hosts(question.servers):
            self._of_server.setdefault(host, Bucket(OF_SERVER, 1 / OF_SERVER_PER_SECOND)).take(now)
        for link in _links(question.servers):
            self._of_link.setdefault(link, Bucket(OF_LINK, 1 / OF_LINK_PER_SECOND)).take(now)
        if not again:
            self._of_question.setdefault(question, Bucket(TRIES, TRY_EVERY)).take(now)

    def answered(self, question: Question) -> None:
        """It did not fail."""
        self._of_question.pop(question, None)

    def tidy(self, now: float) -> None:
        """Forget those that are as good as new."""
        self._of_server = _used(self._of_server, now)
        self._of_link = _used(self._of_link, now)
        self._of_question = _used(self._of_question, now)


def _hosts(servers: Iterable[Server]) -> set[_Host]:
    return {(server.address, server.ifindex) for server in servers}


def _links(servers: Iterable[Server]) -> set[int]:
    return {server.ifindex for server in servers}


def _used(buckets: dict[K, Bucket], now: float) -> dict[K, Bucket]:
    return {key: bucket for key, bucket in buckets.items() if not bucket.full(now)}
