"""Rules C1 to C5 and C7: which exchanges of an MX set become relays, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from salsa_agent.core import admission
from salsa_agent.core.model import Dropped, IPAddress, Mx, Relay, RelayKey, Source
from salsa_agent.core.selection.answers import Answers, HostLookup, Lookup
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.levels import MxSet
from salsa_agent.core.selection.results import MAX_DROPPED, Part
from salsa_agent.text import sanitize

MAX_EXCHANGES = 32  # of an MX set, C5
MAX_LOOKED_UP = 64  # exchanges of all sets together, C5


class Exchange(NamedTuple):
    """An exchange of a set, with the best of its preferences. `host` in canonical form."""

    host: str
    preference: int


class Ranking(NamedTuple):
    """The exchanges of a set that are worth looking up, best first, and why the others are not (host, rule, reason)."""

    exchanges: tuple[Exchange, ...]
    dropped: tuple[tuple[str, str, str], ...]


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


def exchanges_of(mx_set: MxSet, identity: bytes) -> tuple[Lookup, ...]:
    """The exchanges that a set would have looked up, best first."""
    servers, ifindex = mx_set.question.servers, mx_set.address.ifindex
    ranking = ranked(mx_set.cached.answer.mx, identity)
    return tuple(Lookup(host, servers, ifindex) for host, _ in ranking.exchanges)


def relays_of_set(mx_set: MxSet, inputs: SelectionInput, answers: Answers, admitted: frozenset[Lookup]) -> Part:
    """The usable exchanges of one MX set in the order of C1. `admitted`: those that are looked up (C5).

    An exchange that is this host rules out all that are no better than it (C4), so nothing behind an exchange whose
    addresses are still being looked up is given.
    """
    servers, ifindex = mx_set.question.servers, mx_set.address.ifindex
    ranking = ranked(mx_set.cached.answer.mx, inputs.identity)
    dropped = list(_dropped(mx_set.question.name, str(mx_set.address.ip), ranking.dropped))
    relays: list[Relay] = []
    barred_from = pending_from = None
    for host, preference in ranking.exchanges:
        may_be = Lookup(host, servers, ifindex) in admitted
        if not may_be and len(admitted) >= MAX_LOOKED_UP:
            dropped.append(_drop(mx_set, host, "C5", f"more than {MAX_LOOKED_UP} exchanges in all"))
            continue
        looked_up = answers.look_up(host, servers) if may_be else None  # else its place is kept for another link
        if looked_up is None:
            pending_from = preference if pending_from is None else pending_from
            continue
        if barred_from is None and inputs.is_own(looked_up.all):
            barred_from = preference
        relay, reason = usable(_relay(mx_set, host, preference, looked_up, inputs), looked_up, inputs)
        if reason:
            dropped.append(_drop(mx_set, host, "C3", reason))
        else:
            relays.append(relay)
    kept, refused = _admitted(mx_set, relays, barred_from, inputs)
    if pending_from is not None:
        kept = [relay for relay in kept if relay.preference is not None and relay.preference < pending_from]
    return Part(tuple(kept), (*dropped, *refused), settled=pending_from is None)


@lru_cache(maxsize=256)
def ranked(records: tuple[Mx, ...], identity: bytes) -> Ranking:
    """C2, C5 and C1: the 32 best host names among the exchanges.

    Equal preferences are ordered by `spread` (RFC 5321 section 5.1).
    """
    best: dict[str, int] = {}
    dropped: list[tuple[str, str, str]] = []
    for mx in records:
        host = admission.canonical(mx.exchange)
        reason = admission.hostname_error(host)
        if reason:
            dropped.append((sanitize(host) or ".", "C2" if host else "B7", reason))
        else:
            best[host] = min(mx.preference, best.get(host, mx.preference))
    in_order = sorted(best, key=lambda host: (best[host], spread(identity, host)))
    too_many = f"more than {MAX_EXCHANGES} exchanges"
    dropped += [(host, "C5", too_many) for host in in_order[MAX_EXCHANGES:]]
    exchanges = tuple(Exchange(host, best[host]) for host in in_order[:MAX_EXCHANGES])
    return Ranking(exchanges, tuple(dropped[:MAX_DROPPED]))


@lru_cache(maxsize=1024)
def spread(identity: bytes, host: str) -> bytes:
    """C1: a hash by which a fleet spreads over equal preferences, while one machine keeps to its order."""
    return sha256(identity + b"\0" + host.encode("ascii")).digest()


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


def _relay(mx_set: MxSet, host: str, preference: int, looked_up: HostLookup, inputs: SelectionInput) -> Relay:
    expires = mx_set.cached.expires
    return Relay(
        key=RelayKey(host, inputs.settings.smtp_port),
        source=Source.DNS,
        addresses=looked_up.addresses,
        preference=preference,
        name=mx_set.question.name,
        level=mx_set.level,
        address=str(mx_set.address.ip),
        interface=mx_set.address.interface,
        authenticated=mx_set.cached.answer.authenticated and looked_up.authenticated,
        expires=expires if looked_up.expires is None else min(expires, looked_up.expires),
    )


def _admitted(
    mx_set: MxSet, relays: list[Relay], barred_from: int | None, inputs: SelectionInput
) -> tuple[list[Relay], list[Dropped]]:
    """C4 and C7: nothing that is no better than this host itself, nothing that the administrator does not want."""
    kept: list[Relay] = []
    dropped: list[Dropped] = []
    for relay in relays:
        host = relay.key.host
        if barred_from is not None and relay.preference is not None and relay.preference >= barred_from:
            dropped.append(_drop(mx_set, host, "C4", f"this host is an exchange of preference {barred_from}"))
        elif reason := admission.policy_error(host, bool(relay.authenticated), inputs.settings.policy):
            dropped.append(_drop(mx_set, host, "C7", reason))
        else:
            kept.append(relay)
    return kept, dropped


@lru_cache(maxsize=256)
def _dropped(name: str, address: str, dropped: tuple[tuple[str, str, str], ...]) -> tuple[Dropped, ...]:
    return tuple(Dropped(host, rule, reason, name, address) for host, rule, reason in dropped)


def _drop(mx_set: MxSet, host: str, rule: str, reason: str) -> Dropped:
    return Dropped(host, rule, reason, mx_set.question.name, str(mx_set.address.ip))
