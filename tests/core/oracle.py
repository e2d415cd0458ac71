"""What a world comes to once it is quiet, worked out the plain way: no engine, no time, no caches, no rounds.

One link, no route choices, no policy: what the schedules of `tests.core.schedules` use. Written from the design, not
from the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from salsa_agent.core.model import (
    Answer,
    HostAddress,
    IPAddress,
    LinkRelays,
    Mx,
    Outcome,
    RelayKey,
    RRType,
    Srv,
)
from salsa_agent.core.reverse_names import name_at
from tests.core.sim import NXDOMAIN

SERVICES = ("submissions", "submission")
Tables = dict[tuple[str, RRType], Answer]


@dataclass
class Truth:
    """What the agent should publish: outcomes by address, the list, the best relay, whether anything is failing."""

    outcomes: list[tuple[str, str]] = field(default_factory=list)
    relays: list[RelayKey] = field(default_factory=list)
    best: RelayKey | None = None
    failing: bool = False


def work_out(
    hosts: list[HostAddress],
    outside: IPAddress | None,
    links: tuple[LinkRelays, ...],
    static: tuple[RelayKey, ...],
    dns: Tables,
    dead: set[str],
    *,
    verified: bool,
    srv: bool = False,
) -> Truth:
    """The fixed point for these own addresses, external address, link relays, static relays, DNS and dead relays.

    `srv`: levels are asked for SRV records, too (B8).
    """
    found = Truth()
    own = {host.ip for host in hosts}
    addresses = [(host.ip, host.ip.version == 6 and bool(host.flags & 1)) for host in sorted(hosts, key=_a4)]
    if not addresses:
        found.relays, found.best = list(static), static[0] if static else None
        return found
    if outside is not None and outside not in own:
        addresses.append((outside, False))
    listed = [key for given in links for key in _of_link(given, dns, own, found)]
    for ip, temporary in addresses:
        outcome, relays = _climb(ip, temporary, dns, own, found, srv=srv)
        found.outcomes.append((str(ip), str(outcome)))
        listed += relays
    found.relays = list(dict.fromkeys([*listed, *static]))
    if verified:
        lost = {key for key in static if not key.host[0].isdigit() and not _addresses(key.host, dns, found)}
        good = [key for key in found.relays if key.host not in dead and key not in lost]
        found.best = next(iter(good), static[0] if static else None)
        found.failing |= bool(found.relays) and not good
    else:
        found.best = next(iter(found.relays), None)
    return found


def _a4(host: HostAddress) -> tuple[int, bool, int]:
    return 0 if host.ip.version == 6 else 1, host.ip.version == 6 and bool(host.flags & 1), int(host.ip)


def _climb(
    ip: IPAddress, temporary: bool, dns: Tables, own: set[IPAddress], found: Truth, *, srv: bool
) -> tuple[Outcome, list[RelayKey]]:
    failed = False
    for level in (32, 24, 16) if ip.version == 4 else (128, 64, 56, 48, 32):
        if temporary and level > 64:
            continue
        name = name_at(ip, level)
        services = [dns.get((f"_{one}._tcp.{name}", RRType.SRV), NXDOMAIN) for one in SERVICES] if srv else []
        broken = any(service.outcome is Outcome.FAILED for service in services)
        found.failing |= broken
        targets = [(place, record) for place, one in enumerate(services) for record in _there(one)]
        if targets:
            best_first = sorted(targets, key=lambda target: (target[1].priority, target[0]))
            named = [(one.priority, RelayKey(one.target.rstrip("."), one.port)) for _, one in best_first]
            return Outcome.FOUND, _usable(named, dns, own, found)
        answer = dns.get((name, RRType.MX), NXDOMAIN)
        if answer.mx == (Mx(0, "."),):
            return Outcome.REFUSED, []
        if answer.outcome is Outcome.FOUND:
            named = [(mx.preference, RelayKey(mx.exchange.rstrip("."), 25)) for mx in answer.mx]
            return Outcome.FOUND, _usable(named, dns, own, found)
        if answer.outcome is Outcome.FAILED:
            found.failing = True
        failed |= broken or answer.outcome is Outcome.FAILED
    return Outcome.FAILED if failed else Outcome.NONE, []


def _there(answer: Answer) -> tuple[Srv, ...]:
    """The records of a service, none where a single target `.` says that it is not there."""
    return () if [record.target for record in answer.srv] == ["."] else answer.srv


def _usable(named: list[tuple[int, RelayKey]], dns: Tables, own: set[IPAddress], found: Truth) -> list[RelayKey]:
    usable: list[tuple[int, RelayKey]] = []
    bar = 1 << 17
    for preference, key in named:
        at = _addresses(key.host, dns, found)
        if at & own:
            bar = min(bar, preference)
        if at:
            usable.append((preference, key))
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
