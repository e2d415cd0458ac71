"""Rules B3-B7 and C: from the answers to the relay list and its evidence. One pass, no state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import chain, zip_longest

from salsa_agent.core import admission as names
from salsa_agent.core import reverse_names as reverse
from salsa_agent.core.cache import Cache, CachedAnswer
from salsa_agent.core.model import (
    Address,
    Answer,
    Dropped,
    Evidence,
    IPAddress,
    LinkRelays,
    Outcome,
    Question,
    Relay,
    RelayKey,
    RRType,
    Server,
    ServerView,
    Source,
    number_of,
)
from salsa_agent.core.settings import Network, Settings
from salsa_agent.text import sanitize

MAX_EXCHANGES = 32  # of an MX set, C5
MAX_ADDRESSES = 16  # of an exchange, C5
MAX_RELAYS = 64  # besides the static ones, C5


@dataclass(frozen=True, slots=True)
class World:
    """What the choice is made from, besides the answers. `own`: the numbers of the host's addresses (C4)."""

    settings: Settings
    addresses: tuple[Address, ...]
    own: frozenset[int]
    view: ServerView
    identity: bytes  # of the machine, C1
    links: tuple[LinkRelays, ...] = ()


@dataclass(slots=True)
class Choice:
    """The list as far as the answers go.

    `settled`: nothing pending can change it any more. `wanted`: every question of this world, in the order of their
    weight, with the level of those for MX. `bearing`: those that the list rests on (their expiry or failure matters).
    `failing`: one of those failed.
    """

    relays: list[Relay] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    wanted: dict[Question, int | None] = field(default_factory=dict)
    bearing: dict[Question, None] = field(default_factory=dict)
    ahead: bool = False
    settled: bool = True
    failing: bool = False


def choose(world: World, cache: Cache, *, ahead: bool = False) -> Choice:
    """Climb the tree for each address (B3-B7), filter what was found (C2-C5, C7), put it in order (C1, C6).

    `ahead`: where a level is still unanswered, look the exchanges of the next set up already; it may come to decide.
    """
    choice = Choice(ahead=ahead)
    listed: set[RelayKey] = set()
    links: set[int] = set()
    for address in world.addresses:
        given = [] if address.ifindex in links else _of_link(world, cache, choice, address)
        links.add(address.ifindex)
        for relay in chain(given, _of_address(world, cache, choice, address)):
            if relay.key in listed:
                continue
            if len(choice.relays) >= MAX_RELAYS:
                _drop(choice, relay, "C5", f"more than {MAX_RELAYS} relays")
                continue
            listed.add(relay.key)
            choice.relays.append(relay)
    for key in world.settings.static_relays:
        if isinstance(key, RelayKey) and key not in listed:
            listed.add(key)
            choice.relays.append(Relay(key, Source.STATIC, _literal_addresses(key), administrator=True))
    return choice


def servers_of_first(world: World) -> tuple[Server, ...]:
    """Who is asked for what belongs to no address: the servers of the first one, else the global ones (F1)."""
    return world.view.of_link(world.addresses[0].ifindex) if world.addresses else world.view.default


def static_questions(world: World) -> dict[RelayKey, tuple[Question, ...]]:
    """The lookups of the static relays' names (C8)."""
    servers = servers_of_first(world)
    return {
        key: _lookups(key.host, servers, hosts=True)
        for key in world.settings.static_relays
        if isinstance(key, RelayKey) and names.literal(key.host) is None
    }


def joined(answers: Iterable[Answer]) -> tuple[IPAddress, ...]:
    """The addresses of one host from its answers: families in turn (RFC 8305 4), at most 16 (C5), in a stable order."""
    by_family = [sorted(set(answer.addresses), key=int) for answer in answers]
    mixed = [ip for ip in chain.from_iterable(zip_longest(*by_family)) if ip is not None]
    return tuple(mixed[:MAX_ADDRESSES])


def _literal_addresses(key: RelayKey) -> tuple[IPAddress, ...]:
    ip = names.literal(key.host)
    return () if ip is None else (ip,)


def _of_link(world: World, cache: Cache, choice: Choice, address: Address) -> list[Relay]:
    """The relays that the configuration of the address's link gives (C9), in the order given."""
    relays: list[Relay] = []
    for given in world.links:
        if (given.ifindex, given.interface) != (address.ifindex, address.interface):
            continue
        for key in given.relays:
            relay = Relay(
                key=RelayKey(key.host, key.port or world.settings.smtp_port),
                source=Source.LINK,
                addresses=_literal_addresses(key),
                address=str(address.ip),
                interface=address.interface,
                authenticated=False,
            )
            if (found := _found_at_link(world, cache, choice, address, relay)) is not None:
                relays.append(found)
    return relays


def _found_at_link(world: World, cache: Cache, choice: Choice, address: Address, relay: Relay) -> Relay | None:
    """One relay of a link, looked up and let in by C2, C3, C4 (which bars itself alone) and C7."""
    known: list[CachedAnswer] = []
    if not relay.addresses:
        reason = names.why_not_host(relay.key.host)
        if reason:
            _drop(choice, relay, "C2", reason)
            return None
        found = _look_up(cache, choice, relay.key.host, world.view.of_link(address.ifindex))
        if found is None:
            return None
        known = found
        expires = min((cached.expires for cached in known if cached.answer.addresses), default=None)
        relay = relay._replace(addresses=joined(cached.answer for cached in known), expires=expires)
    if any(number_of(ip) in world.own for ip in _all_addresses(relay, known)):
        _drop(choice, relay, "C4", "it is this host")
        return None
    usable = _usable(choice, relay, known)
    return None if usable is None else _allowed(world, choice, usable)


def _look_up(cache: Cache, choice: Choice, host: str, servers: tuple[Server, ...]) -> list[CachedAnswer] | None:
    """What is known of both address lookups of a host; None while one is unanswered."""
    questions = _lookups(host, servers)
    choice.wanted.update(dict.fromkeys(questions))
    known = [cached for question in questions if (cached := cache.get(question)) is not None]
    if len(known) < len(questions):
        choice.settled = False
        return None
    choice.bearing.update(dict.fromkeys(questions))
    choice.failing |= any(cached.failing for cached in known)
    return known


@lru_cache(maxsize=256)
def _lookups(host: str, servers: tuple[Server, ...], *, hosts: bool = False) -> tuple[Question, Question]:
    """The questions for both families of addresses."""
    return Question(host, RRType.AAAA, servers, hosts), Question(host, RRType.A, servers, hosts)


def _all_addresses(relay: Relay, known: list[CachedAnswer]) -> Iterable[IPAddress]:
    return chain(relay.addresses, *(cached.answer.addresses for cached in known))


def _of_address(world: World, cache: Cache, choice: Choice, address: Address) -> list[Relay]:
    """The relays that the reverse tree gives for one address, best first; its evidence goes into `choice`."""
    climb = _climb(address, world.settings.network, world.view.of_link(address.ifindex))
    if not climb:  # its family is turned off: nothing was asked, so there is no evidence
        return []
    choice.wanted.update(climb)
    failed = pending = False
    for question, level in climb:
        cached = cache.get(question)
        pending = pending or cached is None
        if cached is None or (pending and cached.answer.outcome is not Outcome.FOUND):
            continue
        if pending:
            if choice.ahead:
                _of_set(world, cache, choice, address, level, question, cached)
            break
        choice.bearing[question] = None
        choice.failing |= cached.failing
        outcome = cached.answer.outcome
        failed |= outcome is Outcome.FAILED
        if outcome in (Outcome.FOUND, Outcome.REFUSED):
            choice.evidence.append(Evidence(address, outcome, level, question.name))
            return _of_set(world, cache, choice, address, level, question, cached) if outcome is Outcome.FOUND else []
    if pending:
        choice.settled = False
        choice.evidence.append(Evidence(address, Outcome.PENDING))
    else:
        choice.evidence.append(Evidence(address, Outcome.FAILED if failed else Outcome.NONE))
    return []


@lru_cache(maxsize=256)
def _climb(address: Address, network: Network, servers: tuple[Server, ...]) -> tuple[tuple[Question, int], ...]:
    """The questions that an address is worth (B1), with their levels, the most specific first."""
    levels = reverse.levels_of(address, network.ipv4_levels, network.ipv6_levels)
    return tuple((Question(reverse.name_at(address.ip, level), RRType.MX, servers), level) for level in levels)


def _of_set(
    world: World, cache: Cache, choice: Choice, address: Address, level: int, question: Question, cached: CachedAnswer
) -> list[Relay]:
    """The usable exchanges of one MX set: C2, C5, C3, C4, C7, in the order of C1."""
    relays: list[Relay] = []
    barred_from: int | None = None  # C4
    best: dict[str, int] = {}
    where = {"name": question.name, "address": str(address.ip)}
    for mx in cached.answer.mx:
        host = names.canonical(mx.exchange)
        reason = names.why_not_host(host)
        if reason:
            choice.dropped.append(Dropped(sanitize(host) or ".", "C2" if host else "B7", reason, **where))
        else:
            best[host] = min(mx.preference, best.get(host, mx.preference))
    ranked = sorted(best, key=lambda host: (best[host], _spread(world.identity, host)))
    for host in ranked[MAX_EXCHANGES:]:
        choice.dropped.append(Dropped(host, "C5", f"more than {MAX_EXCHANGES} exchanges", **where))
    for host in ranked[:MAX_EXCHANGES]:
        known = _look_up(cache, choice, host, question.servers)
        if known is None:
            continue
        useful = [found for found in known if found.answer.addresses]
        relay = Relay(
            key=RelayKey(host, world.settings.smtp_port),
            source=Source.DNS,
            addresses=joined(found.answer for found in useful),
            preference=best[host],
            name=question.name,
            level=level,
            address=str(address.ip),
            interface=address.interface,
            authenticated=cached.answer.authenticated and all(found.answer.authenticated for found in useful),
            expires=min([cached.expires, *(found.expires for found in useful)]),
        )
        if any(number_of(ip) in world.own for ip in _all_addresses(relay, known)):
            barred_from = best[host] if barred_from is None else min(barred_from, best[host])
        if (usable := _usable(choice, relay, known)) is not None:
            relays.append(usable)
    return _admitted(world, choice, relays, barred_from)


def _usable(choice: Choice, relay: Relay, known: list[CachedAnswer]) -> Relay | None:
    """C3: the relay at those of its addresses at which it may be spoken to; dropped where there is none."""
    allowed = tuple(ip for ip in relay.addresses if not names.why_not_address(ip))
    if not allowed:
        _drop(choice, relay, "C3", _why_no_address(known, relay.addresses))
        return None
    return relay if allowed == relay.addresses else relay._replace(addresses=allowed)


def _admitted(world: World, choice: Choice, relays: list[Relay], barred_from: int | None) -> list[Relay]:
    """C4, then C7: nothing no better than this host itself (RFC 5321 5.1), nothing the administrator does not want."""
    kept: list[Relay] = []
    for relay in relays:
        if barred_from is not None and relay.preference is not None and relay.preference >= barred_from:
            _drop(choice, relay, "C4", f"this host is an exchange of preference {barred_from}")
        elif _allowed(world, choice, relay) is not None:
            kept.append(relay)
    return kept


def _allowed(world: World, choice: Choice, relay: Relay) -> Relay | None:
    """C7: the administrator's policy."""
    reason = names.why_not_allowed(relay.key.host, bool(relay.authenticated), world.settings.policy)
    if reason:
        _drop(choice, relay, "C7", reason)
        return None
    return relay


def _why_no_address(known: list[CachedAnswer], addresses: tuple[IPAddress, ...]) -> str:
    if addresses:
        reasons = sorted({names.why_not_address(ip) for ip in addresses})
        return f"only {', '.join(reasons)} addresses"
    if any(found.answer.outcome is Outcome.FAILED for found in known):
        return "address lookup failed"
    return "no A or AAAA record"


@lru_cache(maxsize=1024)
def _spread(identity: bytes, host: str) -> bytes:
    """C1: a fleet spreads over equal preferences, one host keeps to its order (RFC 5321 5.1)."""
    return sha256(identity + b"\0" + host.encode("ascii")).digest()


def _drop(choice: Choice, relay: Relay, rule: str, reason: str) -> None:
    """Leave the relay out, for `Explain` to see."""
    choice.dropped.append(Dropped(relay.key.host, rule, reason, relay.name, relay.address))
