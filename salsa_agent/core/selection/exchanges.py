"""Rules C1 to C5 and C7: which exchanges of a level's set become relays, and in which order.

The set is one of MX records or, by B8, of SRV records, whose targets are exchanges, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from salsa_agent.core import admission
from salsa_agent.core.large_sets import spread
from salsa_agent.core.model import Dropped, IPAddress, Mx, Relay, RelayKey, RRType, Source, Srv
from salsa_agent.core.selection.answers import Answers, HostLookup, Lookup
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.levels import LevelSet
from salsa_agent.core.selection.ordering import MAX_DROPPED, SERVICES, Limit, Refused, ranked_targets
from salsa_agent.core.selection.results import Part
from salsa_agent.text import sanitize

MAX_EXCHANGES = 32  # of an MX set, C5
MAX_LOOKED_UP = 64  # exchanges of all sets together, C5
_LIMIT = Limit(MAX_EXCHANGES, "C5", f"more than {MAX_EXCHANGES} exchanges")


class Exchange(NamedTuple):
    """An exchange of a set, with the best of its preferences. `host` in canonical form.

    `port`: of an SRV record; 0: of none. `place`: of the answer in `LevelSet.answers`.
    """

    host: str
    preference: int
    port: int = 0
    place: int = 0


class Ranking(NamedTuple):
    """The exchanges of a set that are worth looking up, best first, and what of it is not. Places as in `Exchange`."""

    exchanges: tuple[Exchange, ...]
    refused: tuple[Refused, ...]


class _AnyHost(NamedTuple):
    """B8: a target may be any host name, as an exchange may be (C2)."""

    rule: str = "B8"

    def error(self, record: Srv, host: str, _: int) -> tuple[str, str]:
        """The rule and the reason why this target is not used; empty ones: it is."""
        if reason := admission.hostname_error(host):
            return "C2" if host else self.rule, reason
        return (self.rule, "port 0") if record.port == 0 else ("", "")


def admitted_exchanges(
    begun: Iterable[Lookup], demands: Mapping[int, Iterable[Lookup]], waiting: Iterable[int]
) -> frozenset[Lookup]:
    """C5: the exchanges that are looked up, at most 64 in one round.

    `begun`: those that an earlier selection of the round admitted. `demands`: by link, those that its sets name, the
    best first. `waiting`: the links with an address whose set is not known yet. Each link has a share that no other
    takes from it; what the others leave of theirs is given in the order of the links.
    """
    admitted = set(begun)
    links = {*demands, *waiting}
    share = MAX_LOOKED_UP // max(1, len(links))
    counts = Counter(lookup.ifindex for lookup in admitted)
    over: list[Lookup] = []
    for link, lookups in demands.items():
        for lookup in lookups:
            if lookup in admitted:
                continue
            if counts[link] < share and len(admitted) < MAX_LOOKED_UP:
                admitted.add(lookup)
                counts[link] += 1
            else:
                over.append(lookup)
    reserved = sum(max(0, share - counts[link]) for link in waiting)
    free = max(0, MAX_LOOKED_UP - len(admitted) - reserved)
    return frozenset(admitted.union(list(dict.fromkeys(over))[:free]))


def exchanges_of(records: LevelSet, identity: bytes) -> tuple[Lookup, ...]:
    """The exchanges that a set would have looked up, best first."""
    ranking = ranked(records, identity)
    lookups = (Lookup(one.host, records.servers, records.address.ifindex) for one in ranking.exchanges)
    return tuple(dict.fromkeys(lookups))


def relays_of_set(records: LevelSet, inputs: SelectionInput, answers: Answers, admitted: frozenset[Lookup]) -> Part:
    """The usable exchanges of one set in the order of C1. `admitted`: those that are looked up (C5).

    An exchange that is this host rules out all that are no better than it (C4), so nothing behind an exchange whose
    addresses are still being looked up is given.
    """
    ranking = ranked(records, inputs.identity)
    names = tuple(question.name for question, _ in records.answers)
    dropped = list(_dropped(names, str(records.address.ip), ranking.refused))
    relays: list[Relay] = []
    barred_from = pending_from = None
    for one in ranking.exchanges:
        host, preference = one.host, one.preference
        may_be = Lookup(host, records.servers, records.address.ifindex) in admitted
        if not may_be and len(admitted) >= MAX_LOOKED_UP:
            dropped.append(
                _drop(records, Refused(host, "C5", f"more than {MAX_LOOKED_UP} exchanges in all", one.place))
            )
            continue
        looked_up = answers.look_up(host, records.servers) if may_be else None  # else its place is another link's
        if looked_up is None:
            pending_from = preference if pending_from is None else pending_from
            continue
        if barred_from is None and inputs.is_own(looked_up.all):
            barred_from = preference
        relay, reason = usable(_relay(records, one, looked_up, inputs), looked_up, inputs)
        if reason:
            dropped.append(_drop(records, Refused(host, "C3", reason, one.place)))
        else:
            relays.append(relay)
    kept, refused = _admitted(relays, barred_from, inputs)
    if pending_from is not None:
        kept = [relay for relay in kept if relay.preference is not None and relay.preference < pending_from]
    return Part(tuple(kept), (*dropped, *refused), settled=pending_from is None)


def ranked(records: LevelSet, identity: bytes) -> Ranking:
    """C2, C5 and C1: the 32 best host names among the exchanges."""
    first = records.answers[0][1].answer
    if not records.is_srv:
        return ranked_mx(first.mx, identity)
    by_service = {question.name: place for place, (question, _) in enumerate(records.answers)}
    places = [
        next((place for name, place in by_service.items() if name.startswith(f"_{service}._tcp.")), None)
        for service in SERVICES
    ]
    sets = tuple(() if place is None else records.answers[place][1].answer.srv for place in places)
    targets, refused = ranked_targets(sets, _AnyHost(), identity, _LIMIT)
    return Ranking(
        tuple(Exchange(one.host, one.priority, one.port, places[one.place] or 0) for one in targets),
        tuple(one._replace(place=places[one.place] or 0) for one in refused),
    )


@lru_cache(maxsize=256)
def ranked_mx(records: tuple[Mx, ...], identity: bytes) -> Ranking:
    """The same of an MX set. Equal preferences are ordered by `spread` (RFC 5321 section 5.1)."""
    best: dict[str, int] = {}
    refused: list[Refused] = []
    for mx in records:
        host = admission.canonical(mx.exchange)
        reason = admission.hostname_error(host)
        if reason:
            refused.append(Refused(sanitize(host) or ".", "C2" if host else "B7", reason))
        else:
            best[host] = min(mx.preference, best.get(host, mx.preference))
    in_order = sorted(best, key=lambda host: (best[host], spread(identity, host)))
    refused += [Refused(host, _LIMIT.rule, _LIMIT.reason) for host in in_order[MAX_EXCHANGES:]]
    exchanges = tuple(Exchange(host, best[host]) for host in in_order[:MAX_EXCHANGES])
    return Ranking(exchanges, tuple(refused[:MAX_DROPPED]))


def usable(relay: Relay, looked_up: HostLookup | None, inputs: SelectionInput) -> tuple[Relay, str]:
    """C3: the relay at those of its addresses at which it may be spoken to, or the reason why there is none.

    `looked_up`: None for an address literal.
    """
    errors = {ip: _address_error(ip, relay, inputs) for ip in relay.addresses}
    allowed = tuple(ip for ip in relay.addresses if not errors[ip])
    if allowed:
        return (relay if allowed == relay.addresses else relay._replace(addresses=allowed)), ""
    if errors:
        return relay, f"only {', '.join(sorted(set(errors.values())))} addresses"
    return relay, "address lookup failed" if looked_up is not None and looked_up.failed else "no A or AAAA record"


def _address_error(ip: IPAddress, relay: Relay, inputs: SelectionInput) -> str:
    """C3, and D11 for relays that the network names."""
    error = admission.address_error(ip)
    if error or relay.administrator or not admission.is_internal(ip):
        return error
    links = inputs.links_of(ip)
    here = {address.ifindex for address in inputs.addresses if address.interface == relay.interface}
    if links - here:
        return "another link's"
    return "" if inputs.settings.policy.internal or links else "internal"


def _relay(records: LevelSet, exchange: Exchange, looked_up: HostLookup, inputs: SelectionInput) -> Relay:
    question, cached = records.answers[exchange.place]
    srv = question.name.partition(".")[0].removeprefix("_") if question.rtype is RRType.SRV else ""
    return Relay(
        key=RelayKey(exchange.host, exchange.port or inputs.settings.smtp_port),
        source=Source.DNS,
        addresses=looked_up.addresses,
        preference=exchange.preference,
        name=question.name,
        level=records.level,
        address=str(records.address.ip),
        interface=records.address.interface,
        authenticated=cached.answer.authenticated and looked_up.authenticated,
        expires=cached.expires if looked_up.expires is None else min(cached.expires, looked_up.expires),
        srv=srv,
    )


def _admitted(
    relays: list[Relay], barred_from: int | None, inputs: SelectionInput
) -> tuple[list[Relay], list[Dropped]]:
    """C4 and C7: nothing that is no better than this host itself, nothing that the administrator does not want."""
    kept: list[Relay] = []
    dropped: list[Dropped] = []
    for relay in relays:
        host, rule, reason = relay.key.host, "C4", f"this host is an exchange of preference {barred_from}"
        if barred_from is None or relay.preference is None or relay.preference < barred_from:
            rule, reason = "C7", admission.policy_error(host, bool(relay.authenticated), inputs.settings.policy)
        if reason:
            dropped.append(Dropped(host, rule, reason, relay.name, relay.address))
        else:
            kept.append(relay)
    return kept, dropped


@lru_cache(maxsize=256)
def _dropped(names: tuple[str, ...], address: str, refused: tuple[Refused, ...]) -> tuple[Dropped, ...]:
    return tuple(Dropped(one.host, one.rule, one.reason, names[one.place], address) for one in refused)


def _drop(records: LevelSet, refused: Refused) -> Dropped:
    question = records.answers[refused.place][0]
    return Dropped(refused.host, refused.rule, refused.reason, question.name, str(records.address.ip))
