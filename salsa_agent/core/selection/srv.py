"""Rule C12: the relays that a domain names in its own SRV records (RFC 6186, RFC 8314 section 5.1)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from math import inf, log
from typing import NamedTuple

from salsa_agent.core import admission
from salsa_agent.core.cache import CachedAnswer
from salsa_agent.core.model import Dropped, Question, Relay, RelayKey, RRType, Server, Srv
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.exchanges import spread, usable
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import MAX_DROPPED, Part
from salsa_agent.text import sanitize

SERVICES = ("submissions", "submission")  # TLS from the first octet; STARTTLS. In order of preference (RFC 8314)
MAX_TARGETS = 8  # of both services together
_NO_SERVICE = "."  # RFC 2782: as the only target, the service is not there


class Target(NamedTuple):
    """A target that may be used. `place`: of its service in `SERVICES`."""

    host: str
    port: int
    priority: int
    place: int


class _Permission(NamedTuple):
    """What a target of a domain's records has to be. `authenticated`: for each service, its records are (F3)."""

    domain: str
    patterns: tuple[str, ...]
    authenticated: tuple[bool, ...]

    def error(self, record: Srv, host: str, place: int) -> tuple[str, str]:
        """The rule and the reason why this target is not used; empty ones: it is."""
        if reason := admission.hostname_error(host):
            return "C2", reason
        if record.port == 0:
            return "C12", "port 0"
        below = host == self.domain or host.endswith(f".{self.domain}")
        if below or self.authenticated[place] or any(fnmatchcase(host, pattern) for pattern in self.patterns):
            return "", ""
        return "C12", f"not below {self.domain}, not in srv.targets, not authenticated by DNSSEC"


def srv_questions(domain: str, servers: tuple[Server, ...]) -> tuple[Question, ...]:
    """The questions for both services of a domain, in the order of `SERVICES`."""
    return tuple(Question(f"_{service}._tcp.{domain}", RRType.SRV, servers) for service in SERVICES)


def relays_of_domain(
    domain: str, blank: Relay, servers: tuple[Server, ...], inputs: SelectionInput, answers: Answers
) -> Part:
    """The relays that the domain names, best first. `blank`: what all of them have in common.

    `servers`: asked for the records and for the targets' addresses.
    """
    questions = srv_questions(domain, servers)
    known = [answers.get(question) for question in questions]
    sets = [cached for cached in known if cached is not None]
    if len(sets) < len(questions):
        return Part(settled=False)
    for question, cached in zip(questions, sets, strict=True):
        answers.use(question, cached)
    permission = _Permission(domain, inputs.settings.srv_targets, tuple(c.answer.authenticated for c in sets))
    targets, refused = ranked_targets(tuple(cached.answer.srv for cached in sets), permission, inputs.identity)
    dropped = [Dropped(host, rule, why, questions[place].name) for host, rule, why, place in refused]
    relays: list[Relay] = []
    settled = True
    for target in targets:
        looked_up = answers.look_up(target.host, servers)
        if looked_up is None:
            settled = False
            continue
        relay = _relay(target, blank, questions[target.place].name, sets[target.place])
        authenticated = bool(relay.authenticated) and looked_up.authenticated
        expires = min(filter(None, (relay.expires, looked_up.expires)), default=None)
        relay = relay._replace(addresses=looked_up.addresses, authenticated=authenticated, expires=expires)
        relay, reason = usable(relay, looked_up, inputs)
        if reason:
            dropped.append(Dropped(target.host, "C3", reason, relay.name))
        elif settled:
            relays.append(relay)
    return Part(tuple(relays), tuple(dropped), settled)


@lru_cache(maxsize=64)
def ranked_targets(
    sets: tuple[tuple[Srv, ...], ...], permission: _Permission, identity: bytes
) -> tuple[tuple[Target, ...], tuple[tuple[str, str, str, int], ...]]:
    """The 8 best of the targets that may be used, best first; those left out with rule, reason, place of the service.

    `sets`: the records of each service. By priority; within one, `_submissions` first, then at random by weight
    (RFC 2782), yet on one machine always the same.
    """
    good: dict[RelayKey, tuple[tuple[int, int, float, bytes, int], Target]] = {}
    dropped: list[tuple[str, str, str, int]] = []
    for place, records in enumerate(sets):
        if len(records) == 1 and records[0].target == _NO_SERVICE:
            continue
        for record in records:
            host = admission.canonical(record.target)
            rule, reason = permission.error(record, host, place)
            if rule:
                dropped.append((sanitize(host) or ".", rule, reason, place))
                continue
            target = Target(host, record.port, record.priority, place)
            ranked = spread(identity, host)
            key = (record.priority, place, -weight_order(ranked, record.weight), ranked, record.port)
            known = good.get(RelayKey(host, record.port))
            if known is None or key < known[0]:
                good[RelayKey(host, record.port)] = key, target
    in_order = [target for _, target in sorted(good.values())]
    dropped += [
        (target.host, "C12", f"more than {MAX_TARGETS} targets", target.place) for target in in_order[MAX_TARGETS:]
    ]
    return tuple(in_order[:MAX_TARGETS]), tuple(dropped[:MAX_DROPPED])


def weight_order(ranked: bytes, weight: int) -> float:
    """ln(u)/weight, u in (0, 1) from the hash of C1: the greater, the earlier, in proportion to the weights."""
    if weight == 0:
        return -inf
    u = (int.from_bytes(ranked[:6], "big") + 0.5) / (1 << 48)  # 49 bits are exact in a float: neither 0 nor 1
    return log(u) / weight


def _relay(target: Target, blank: Relay, name: str, cached: CachedAnswer) -> Relay:
    return blank._replace(
        key=RelayKey(target.host, target.port),
        preference=target.priority,
        name=name,
        srv=SERVICES[target.place],
        authenticated=cached.answer.authenticated,
        expires=cached.expires,
    )
