"""In which order the hosts of one set are used: rule C1, and for SRV records what rules B8 and C12 say of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from salsa_agent.core import admission
from salsa_agent.core.large_sets import spread, weight_order
from salsa_agent.core.model import Answer, Question, RelayKey, RRType, Server, Srv
from salsa_agent.text import sanitize

SERVICES = ("submissions", "submission")  # TLS from the first octet; STARTTLS. In order of preference (RFC 8314)
NO_SERVICE = "."  # RFC 2782: as the only target, the service is not there
MAX_DROPPED = 256  # kept for `Explain`, C5


class Target(NamedTuple):
    """A target that may be used. `place`: of its service in `SERVICES`."""

    host: str
    port: int
    priority: int
    place: int


class Refused(NamedTuple):
    """A record that is not used, with the rule and the reason. `place`: of its service, or 0."""

    host: str
    rule: str
    reason: str
    place: int = 0


class Permission(Protocol):
    """What a target has to be; hashable, since orders are kept."""

    def error(self, record: Srv, host: str, place: int) -> tuple[str, str]:
        """The rule and the reason why this target is not used; empty ones: it is."""


class Limit(NamedTuple):
    """The best targets of both services together that count. `rule`: the one that says so; `reason`: in words."""

    most: int
    rule: str
    reason: str


def srv_questions(domain: str, servers: tuple[Server, ...]) -> tuple[Question, ...]:
    """The questions for both services of a domain or reverse name, in the order of `SERVICES`."""
    return tuple(Question(f"_{service}._tcp.{domain}", RRType.SRV, servers) for service in SERVICES)


def has_service(answer: Answer) -> bool:
    """Whether SRV records are there, and do not say that the service is not (RFC 2782)."""
    return bool(answer.srv) and not _is_absent(answer.srv)


@lru_cache(maxsize=64)
def ranked_targets(
    sets: tuple[tuple[Srv, ...], ...], permission: Permission, identity: bytes, limit: Limit
) -> tuple[tuple[Target, ...], tuple[Refused, ...]]:
    """The targets that may be used, best first, and the records that are left out.

    `sets`: the records of each service. By priority; within one, `_submissions` first, then at random by weight
    (RFC 2782), yet on one machine always the same.
    """
    good: dict[RelayKey, tuple[tuple[int, int, float, bytes, int], Target]] = {}
    refused: list[Refused] = []
    for place, records in enumerate(sets):
        if _is_absent(records):
            continue
        for record in records:
            host = admission.canonical(record.target)
            rule, reason = permission.error(record, host, place)
            if rule:
                refused.append(Refused(sanitize(host) or ".", rule, reason, place))
                continue
            target = Target(host, record.port, record.priority, place)
            ranked = spread(identity, host)
            key = (record.priority, place, -weight_order(ranked, record.weight), ranked, record.port)
            known = good.get(RelayKey(host, record.port))
            if known is None or key < known[0]:
                good[RelayKey(host, record.port)] = key, target
    in_order = [target for _, target in sorted(good.values())]
    refused += [Refused(target.host, limit.rule, limit.reason, target.place) for target in in_order[limit.most :]]
    return tuple(in_order[: limit.most]), tuple(refused[:MAX_DROPPED])


def _is_absent(records: Sequence[Srv]) -> bool:
    return len(records) == 1 and records[0].target == NO_SERVICE
