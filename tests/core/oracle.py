"""What a world comes to once it is quiet, worked out the plain way: no engine, no time, no caches, no rounds.

One link, no route choices, no policy: what the schedules of `tests.core.schedules` use. Written from the rules, not
from the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from salsa_agent.core.model import (
    Answer,
    HostAddress,
    IPAddress,
    LinkRelays,
    Mx,
    Outcome,
    RelayEntry,
    RelayKey,
    RRType,
)
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Sender, Site
from tests.core.sim import NXDOMAIN

Tables = dict[tuple[str, RRType], Answer]


@dataclass
class Truth:
    """What the agent should publish: outcomes by address, the list, the best relay, whether anything is failing.

    `senders`: of each, its list and its best relay.
    """

    outcomes: list[tuple[str, str]] = field(default_factory=list)
    relays: list[RelayKey] = field(default_factory=list)
    best: RelayKey | None = None
    failing: bool = False
    senders: list[tuple[list[RelayKey], RelayKey | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """What a world is like at its end. `outside`: the external address. `dead`: hosts of relays that do not answer."""

    hosts: list[HostAddress]
    outside: IPAddress | None
    links: tuple[LinkRelays, ...]
    static: tuple[RelayEntry, ...]
    dns: Tables
    dead: set[str]
    verified: bool
    sites: tuple[Site, ...] = ()
    senders: tuple[Sender, ...] = ()


def work_out(case: Case) -> Truth:
    """The fixed point."""
    found = Truth()
    own = {host.ip for host in case.hosts}
    addresses = [(host.ip, host.ip.version == 6 and bool(host.flags & 1)) for host in sorted(case.hosts, key=_a4)]
    if not addresses:
        static = [key for key in case.static if isinstance(key, RelayKey)]
        found.relays, found.best = static, next(iter(static), None)
        for sender in case.senders:
            mine = [key for key in sender.relays if isinstance(key, RelayKey)]
            listed = mine if sender.network == "never" else list(dict.fromkeys([*mine, *static]))
            found.senders.append((listed, next(iter(mine), None)))
        return found
    site = next((site for site in case.sites if any(ip in net for ip in own for net in site.prefix)), None)
    if case.outside is not None and case.outside not in own:
        addresses.append((case.outside, False))
    network: list[RelayKey] = []
    if site is not None and site.use == "only":
        found.outcomes = [(str(ip), "site") for ip, _ in addresses]
    else:
        network = [key for given in case.links for key in _of_link(given, case.dns, own, found)]
        for ip, temporary in addresses:
            outcome, relays = _climb(ip, temporary, case.dns, own, found)
            found.outcomes.append((str(ip), str(outcome)))
            network += relays
    of_site = _flat(_configured(entry, case.dns, found) for entry in (site.relays if site else ()))
    network = [*network, *of_site] if site and site.use == "last" else [*of_site, *network]
    static_lists = [_configured(entry, case.dns, found) for entry in case.static]
    static = _flat(static_lists)
    found.relays = list(dict.fromkeys([*network, *static]))
    lost = _lost([*(site.relays if site else ()), *case.static], case, found)
    found.best, good = _best(found.relays, static_lists, lost, case)
    found.failing |= case.verified and bool(found.relays) and not good
    for sender in case.senders:
        aside = Truth()  # the state is about the list above
        own_lists = [_configured(entry, case.dns, aside) for entry in sender.relays]
        mine = _flat(own_lists)
        orders = {"never": mine, "last": [*mine, *network, *static], "first": [*network, *mine, *static]}
        listed = list(dict.fromkeys(orders[sender.network]))
        best, _ = _best(listed, own_lists, lost | _lost(sender.relays, case, aside), case)
        found.senders.append((listed, best))
    return found


def _flat(lists: Iterable[list[RelayKey]]) -> list[RelayKey]:
    return [key for keys in lists for key in keys]


def _lost(entries: Iterable[RelayEntry], case: Case, found: Truth) -> set[RelayKey]:
    """The configured names that have no address, which matters for their verification only."""
    if not case.verified:
        return set()
    plain = [key for key in entries if isinstance(key, RelayKey) and not key.host[0].isdigit()]
    return {key for key in plain if not _addresses(key.host, case.dns, found)}


def _best(
    relays: list[RelayKey], last: list[list[RelayKey]], lost: set[RelayKey], case: Case
) -> tuple[RelayKey | None, bool]:
    """The best relay, and whether it is a good one; else it is the first of the last resorts."""
    good = [key for key in relays if not case.verified or (key.host not in case.dead and key not in lost)]
    return next(iter(good), next((keys[0] for keys in last if keys), None)), bool(good)


def _configured(entry: RelayEntry, dns: Tables, found: Truth) -> list[RelayKey]:
    """What an entry of the administrator's tables stands for (C8, C12)."""
    if isinstance(entry, RelayKey):
        return [entry]
    targets: list[tuple[int, int, RelayKey]] = []
    for place, service in enumerate(("submissions", "submission")):
        answer = dns.get((f"_{service}._tcp.{entry.domain}", RRType.SRV), NXDOMAIN)
        for record in answer.srv:
            host = record.target.rstrip(".")
            if host.endswith(f".{entry.domain}") and _addresses(host, dns, found):
                targets.append((record.priority, place, RelayKey(host, record.port)))
    return [key for *_, key in sorted(targets)]


def _a4(host: HostAddress) -> tuple[int, bool, int]:
    return 0 if host.ip.version == 6 else 1, host.ip.version == 6 and bool(host.flags & 1), int(host.ip)


def _climb(
    ip: IPAddress, temporary: bool, dns: Tables, own: set[IPAddress], found: Truth
) -> tuple[Outcome, list[RelayKey]]:
    failed = False
    for level in (32, 24, 16) if ip.version == 4 else (128, 64, 56, 48, 32):
        if temporary and level > 64:
            continue
        answer = dns.get((name_at(ip, level), RRType.MX), NXDOMAIN)
        if answer.mx == (Mx(0, "."),):
            return Outcome.REFUSED, []
        if answer.outcome is Outcome.FOUND:
            return Outcome.FOUND, _of_set(answer, dns, own, found)
        if answer.outcome is Outcome.FAILED:
            failed = found.failing = True
    return Outcome.FAILED if failed else Outcome.NONE, []


def _of_set(answer: Answer, dns: Tables, own: set[IPAddress], found: Truth) -> list[RelayKey]:
    usable: list[tuple[int, RelayKey]] = []
    bar = 1 << 17
    for mx in answer.mx:
        host = mx.exchange.rstrip(".")
        at = _addresses(host, dns, found)
        if at & own:
            bar = min(bar, mx.preference)
        if at:
            usable.append((mx.preference, RelayKey(host, 25)))
    return [key for preference, key in sorted(usable, key=lambda pair: pair[0]) if preference < bar]


def _of_link(given: LinkRelays, dns: Tables, own: set[IPAddress], found: Truth) -> list[RelayKey]:
    return [
        RelayKey(key.host, key.port or 25)
        for key in given.relays
        if key.host[0].isdigit() or ((at := _addresses(key.host, dns, found)) and not at & own)
    ]


def _addresses(host: str, dns: Tables, found: Truth) -> set[IPAddress]:
    answers = [dns.get((host, rtype), NXDOMAIN) for rtype in (RRType.A, RRType.AAAA)]
    found.failing |= any(answer.outcome is Outcome.FAILED for answer in answers)
    return {ip for answer in answers for ip in answer.addresses}
