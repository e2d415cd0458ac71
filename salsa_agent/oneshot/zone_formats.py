"""The records of zones in the words of one server or tool each, beside the master files of `zone_file`. No IO."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from salsa_agent.oneshot import zone_file
from salsa_agent.oneshot.zone import Zone
from salsa_agent.oneshot.zone_file import Form, Record

_BATCH = 200  # names in one message of nsupdate: a message holds 64 KiB

# What a name may be made of, in every format: nothing that a shell, a configuration or PowerShell gives a meaning, and
# first a letter or digit, so that no spreadsheet takes a cell for a formula, and no program for an option; or "_" of a
# service, which is harmless in both.
_NAME = re.compile(r"_?[a-z0-9]([a-z0-9/-]*[a-z0-9])?(\._?[a-z0-9]([a-z0-9/-]*[a-z0-9])?)*\.?", re.ASCII)
_WORDS = {"MX": 2, "CNAME": 1, "NS": 1, "SOA": 7, "SRV": 4}  # in the data of a record


@dataclass(frozen=True, slots=True)
class Format:
    """How zones are written for one program.

    `help`: its line in the help; `suffix`: of file names. `lines`: of all zones together. `whole`: it can make zones,
    with SOA and NS. `servers`: NS records can be written. `aliases`: zones of RFC 2317 make sense; what answers for the
    names itself needs none.
    """

    help: str
    suffix: str
    lines: Callable[[Sequence[Zone], Form], Iterator[str]]
    whole: bool = False
    servers: bool = True
    aliases: bool = True


def checked_name(name: str) -> str:
    """The name, unless it holds what a format might give a meaning. Raises ValueError, one clear sentence."""
    if name != "." and not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name that may stand in a configuration")
    return name


def checked_records(zone: Zone, form: Form) -> list[Record]:
    """The records of a zone, every name in them checked (`checked_name`). Raises ValueError."""
    checked_name(zone.name)
    found = list(zone_file.records(zone, form))
    for record in found:
        checked_name(record.owner)
        words = record.data.split(" ")
        if len(words) != _WORDS[record.rtype]:
            raise ValueError(f"{record.data!r} is no data of {record.rtype} that may stand in a configuration")
        for word in words:
            checked_name(word)
    return found


def _bind(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    for number, zone in enumerate(zones):
        checked_records(zone, form)
        if number:
            yield ""
        yield from zone_file.text(zone, form)


def _nsupdate(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield "; For nsupdate -k KEYFILE, which sends it to the primary servers of the zones."
    yield "; What was there of the same name and type is replaced: it may be run again."
    if any("/" in zone.name for zone in zones):
        yield "check-names no"
    for zone in zones:
        sets = _sets(checked_records(zone, form))
        for start in range(0, len(sets), _BATCH):
            yield from (f"; {line}" for line in _about(zone, form))
            yield f"zone {zone.name}."
            for (owner, rtype), data in sets[start : start + _BATCH]:
                if rtype != "NS":  # those of a child zone: servers are added, never all taken away
                    yield f"update delete {owner}. {rtype}"
                yield from (f"update add {owner}. {form.ttl} {rtype} {one}" for one in data)
            yield "send"


def _dnsmasq(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield "# For dnsmasq, below /etc/dnsmasq.d. It has one TTL for all that it answers itself,"
    yield f"# 0 unless its configuration has (once, in one file): local-ttl={form.ttl}"
    for zone in zones:
        yield from (f"# {line}" for line in _about(zone, form))
        for record in checked_records(zone, form):
            if record.rtype == "SRV":
                priority, weight, port, target = record.data.split(" ")
                yield f"srv-host={record.owner},{target.rstrip('.')},{port},{priority},{weight}"
            else:
                preference, exchange = record.data.split(" ")
                yield f"mx-host={record.owner},{exchange.rstrip('.') or '.'},{preference}"


def _unbound(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield "# For unbound, below /etc/unbound/unbound.conf.d. What is not here is looked up"
    yield "# as it was before (typetransparent)."
    yield "server:"
    for zone in zones:
        yield from (f"    # {line}" for line in _about(zone, form))
        yield f'    local-zone: "{checked_name(zone.name)}." typetransparent'
        for record in checked_records(zone, form):
            yield f'    local-data: "{record.owner}. {form.ttl} IN {record.rtype} {record.data}"'


def _powerdns(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield from _shell("PowerDNS, on the primary server, as a user who may write its database", form)
    for zone in zones:
        yield from (f"# {line}" for line in _about(zone, form))
        records = checked_records(zone, form)
        if form.serial is not None:
            yield f"pdnsutil create-zone '{zone.name}' '{form.servers[0]}'"
        for (owner, rtype), data in _sets(records):
            content = " ".join(f"'{one}'" for one in data)
            name = "@" if owner == zone.name else owner.removesuffix(f".{zone.name}")
            yield f"pdnsutil replace-rrset '{zone.name}' '{name}' {rtype} {form.ttl} {content}"
        if form.serial is None:
            yield f"pdnsutil increase-serial '{zone.name}'"
        yield f"pdnsutil rectify-zone '{zone.name}'"


def _knot(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield from _shell("Knot DNS, on the primary server; its configuration names the zones", form)
    for zone in zones:
        yield from (f"# {line}" for line in _about(zone, form))
        yield f"knotc zone-begin '{zone.name}.'"
        yield f"trap \"knotc zone-abort '{zone.name}.'\" EXIT"
        for (owner, rtype), data in _sets(checked_records(zone, form)):
            if form.serial is None:  # it fails where there is nothing to replace
                for old in [f" {one}" for one in data] if rtype == "NS" else [""]:  # other servers stay
                    yield f"knotc zone-unset '{zone.name}.' '{owner}.' {rtype}{old} >/dev/null 2>&1 || :"
            yield from (f"knotc zone-set '{zone.name}.' '{owner}.' {form.ttl} {rtype} {one}" for one in data)
        yield f"knotc zone-commit '{zone.name}.'"
        yield "trap - EXIT"


def _windows(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    yield "# For PowerShell with the module DnsServer, on the primary server."
    yield "$ErrorActionPreference = 'Stop'"
    ttl = f"-TimeToLive ([TimeSpan]::FromSeconds({form.ttl}))"
    for zone in zones:
        yield from (f"# {line}" for line in _about(zone, form))
        records = checked_records(zone, form)
        if form.serial is not None:
            yield f"Add-DnsServerPrimaryZone -Name '{zone.name}' -ZoneFile '{zone.name.replace('/', '-')}.dns'"
        for record in records:
            apex = record.owner == zone.name
            if record.rtype == "SOA" or (record.rtype == "NS" and apex):
                continue  # the server makes its own; secondaries are added by who runs them
            name = "." if apex else record.owner.removesuffix(f".{zone.name}")
            where = f"-ZoneName '{zone.name}' -Name '{name}'"
            match record.rtype:
                case "MX":
                    preference, exchange = record.data.split(" ")
                    to = f"-MailExchange '{exchange}' -Preference {preference}"
                    yield f"Add-DnsServerResourceRecordMX {where} {to} {ttl}"
                case "SRV":
                    priority, weight, port, target = record.data.split(" ")
                    to = f"-DomainName '{target}' -Priority {priority} -Weight {weight} -Port {port}"
                    yield f"Add-DnsServerResourceRecord -Srv {where} {to} {ttl}"
                case "CNAME":
                    yield f"Add-DnsServerResourceRecordCName {where} -HostNameAlias '{record.data}' {ttl}"
                case _:
                    yield f"Add-DnsServerResourceRecord -NS {where} -NameServer '{record.data}' {ttl}"


def _infoblox(zones: Sequence[Zone], form: Form) -> Iterator[str]:
    records = [record for zone in zones for record in checked_records(zone, form)]
    if any(record.rtype == "MX" for record in records):
        yield "header-mxrecord,fqdn*,mx*,priority*,ttl"
    for record in records:
        if record.rtype == "MX":
            preference, exchange = record.data.split(" ")
            yield f"mxrecord,{record.owner},{exchange.rstrip('.') or '.'},{preference},{form.ttl}"
    if any(record.rtype == "SRV" for record in records):
        yield "header-srvrecord,fqdn*,port*,priority*,target*,weight*,ttl"
    for record in records:
        if record.rtype == "SRV":
            priority, weight, port, target = record.data.split(" ")
            yield f"srvrecord,{record.owner},{port},{priority},{target.rstrip('.')},{weight},{form.ttl}"
    aliases = [record for record in records if record.rtype == "CNAME"]
    if aliases:
        yield "header-cnamerecord,fqdn*,canonical_name*,ttl"
    for record in aliases:
        yield f"cnamerecord,{record.owner},{record.data.rstrip('.')},{form.ttl}"


def _shell(whom: str, form: Form) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# For {whom}."
    if form.serial is None:
        yield "# What was there of the same name and type is replaced: it may be run again."
    yield "set -e"


def _about(zone: Zone, form: Form) -> Iterator[str]:
    yield f"{zone.name}, for {', '.join(str(prefix) for prefix in zone.prefixes)}"
    yield from zone_file.advice(zone, form)


def _sets(records: Sequence[Record]) -> list[tuple[tuple[str, str], list[str]]]:
    """The data of each name and type, in order."""
    return [
        (key, [record.data for record in same])
        for key, same in groupby(records, lambda record: (record.owner, record.rtype))
    ]


FORMATS = {
    "bind": Format("master files (RFC 1035), the default", ".zone", _bind, whole=True),
    "nsupdate": Format("RFC 2136 updates for nsupdate(1)", ".nsupdate", _nsupdate),
    "dnsmasq": Format("configuration of dnsmasq", ".conf", _dnsmasq, servers=False, aliases=False),
    "unbound": Format("configuration of unbound", ".conf", _unbound, servers=False, aliases=False),
    "powerdns": Format("a shell script of pdnsutil commands", ".sh", _powerdns, whole=True),
    "knot": Format("a shell script of knotc commands", ".sh", _knot, whole=True),
    "windows": Format("a PowerShell script for the DNS server of Windows", ".ps1", _windows, whole=True),
    "infoblox-csv": Format("a file for Infoblox's CSV import", ".csv", _infoblox, servers=False),
}
