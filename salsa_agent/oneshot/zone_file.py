"""Zones as master files (RFC 1035 section 5), for BIND, NSD, Knot and unbound alike. No IO."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from salsa_agent.core.model import Mx, Srv
from salsa_agent.oneshot.zone import Zone

TTL = 3600  # seconds
_TIMES = "86400 7200 3600000 3600"  # SOA: refresh, retry, expire (RIPE-203); names that are not there are asked hourly


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN. `owner`: absolute, no trailing dot; `data` as in a master file."""

    owner: str
    rtype: str
    data: str


@dataclass(frozen=True, slots=True)
class Form:
    """How zones are written: the MX set, the TTL in seconds, the name servers (canonical names) of the zones.

    `serial`: of whole zones, with SOA and NS; None: only the records to put into zones that stand. `services`: the SRV
    records of each service, such as `submissions` (rule B8).
    """

    mx: Sequence[Mx]
    ttl: int = TTL
    servers: Sequence[str] = ()
    serial: int | None = None
    services: Mapping[str, Sequence[Srv]] = field(default_factory=dict)


def records(zone: Zone, form: Form) -> Iterator[Record]:
    """The records of a zone, in the order in which they are written."""
    if form.serial is not None:
        # RFC 2142 section 7: hostmaster is the mailbox of who keeps a zone
        domain = form.servers[0].partition(".")[2] if form.servers[0].count(".") > 1 else form.servers[0]
        yield Record(zone.name, "SOA", f"{form.servers[0]}. hostmaster.{domain}. {form.serial} {_TIMES}")
        yield from (Record(zone.name, "NS", f"{server}.") for server in form.servers)
    for child in zone.children:
        yield from (Record(child, "NS", f"{server}.") for server in form.servers)
    for owner, target in zone.aliases:
        yield Record(owner, "CNAME", f"{target}.")
        for service in form.services:  # an alias is none for the names below it
            yield Record(f"_{service}._tcp.{owner}", "CNAME", f"_{service}._tcp.{target}.")
    for owner in zone.owners:
        yield from (Record(owner, "MX", f"{mx.preference} {mx.exchange.rstrip('.')}.") for mx in form.mx)
        for service, targets in form.services.items():
            for one in targets:
                data = f"{one.priority} {one.weight} {one.port} {one.target.rstrip('.')}."
                yield Record(f"_{service}._tcp.{owner}", "SRV", data)


def text(zone: Zone, form: Form) -> Iterator[str]:
    """The lines of a zone's file, with comments that say what it is for and where it goes."""
    yield from (f"; {line}" for line in _comments(zone, form))
    yield f"$ORIGIN {zone.name}."
    yield f"$TTL {form.ttl}"
    all_records = list(records(zone, form))
    shown = [_relative(record.owner, zone.name) for record in all_records]
    width = max(map(len, shown))
    types = max(len(record.rtype) for record in all_records)
    for owner, record in zip(shown, all_records, strict=True):
        yield f"{owner:<{width}} IN {record.rtype:<{types}} {record.data}"


def _relative(owner: str, origin: str) -> str:
    return "@" if owner == origin else owner.removesuffix(f".{origin}")


def _comments(zone: Zone, form: Form) -> Iterator[str]:
    yield from _wrap(f"{zone.name}, for {', '.join(str(prefix) for prefix in zone.prefixes)}")
    if form.serial is not None:
        yield "The whole zone, to be loaded under this name; PTR records go here, too."
    else:
        yield "For the end of the zone's file: $ORIGIN and $TTL hold from here on."
    yield from advice(zone, form)
    if zone.classless and "/" in zone.name:
        yield 'BIND: "check-names ignore;" in its zone statement lets the "/" pass.'


def advice(zone: Zone, form: Form) -> Iterator[str]:
    """What to know of a zone's records in any format, in lines for comments."""
    if zone.children:
        yield from _wrap(
            "The aliases (RFC 2317) are for who holds this zone, who may not be you. Where they are there already, "
            "for PTR records, there is nothing to add. They are to be the only records at their names."
        )
        if not form.servers:
            yield from _wrap(f"NS records for {', '.join(zone.children)} belong here, too; --ns HOST prints them.")
    if zone.classless:
        yield "The child zone (RFC 2317) that the aliases in the zone above lead to."
    if any(prefix.version == 6 and prefix.prefixlen > 64 for prefix in zone.prefixes):
        yield "Hosts ask from /64 up for temporary addresses (RFC 8981): they miss this."


def _wrap(words: str) -> list[str]:
    return textwrap.wrap(words, 77, break_long_words=False, break_on_hyphens=False)
