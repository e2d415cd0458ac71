"""`salsactl zone --format`: put into the real server by its own tool or file, it passes an audit."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.core.model import Mx, Srv
from salsa_agent.oneshot.zone import Zone, prefix, zones_for
from salsa_agent.oneshot.zone_file import Form
from salsa_agent.oneshot.zone_formats import FORMATS, checked_name
from tests.lab.bus import PATIENCE
from tests.lab.netns import Netns
from tests.lab.publishing import ADDRESS, KINDS, RELAY, RELAY_ADDRESS, published
from tests.lab.run import PROJECT
from tests.lab.whole import until
from tests.parts.cli.test_salsactl import SALSACTL, refused
from tests.parts.cli.test_zone import salsactl

PREFIXES = ("10.1.0.0/16", "192.0.2.64/28", "203.0.113.0/24", "2001:db8:0:10::/62")
MX = ("--mx", f"10:{RELAY}")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Netns]:
    """A namespace with the relay that the records name, and room for a name server."""
    out = tmp_path_factory.mktemp("relay") / "out"
    with Netns() as space, out.open("wb") as to:
        space.batch([f"addr add {address}/32 dev lo" for address in (ADDRESS, RELAY_ADDRESS)])
        argv = [sys.executable, "-m", "tests.lab.smtpserver", "--listen", RELAY_ADDRESS, "--behaviour", "starttls"]
        space.exec(argv, cwd=PROJECT, stdout=to, stderr=to)
        until(out.read_text, lambda said: "listening" in said)
        yield space


def audited(space: Netns, where: Path, target: str, *options: str) -> dict[str, object]:
    """What `salsactl audit --json` says, the relay spoken to."""
    config = where / "salsa.toml"
    config.write_text(f'[dns]\nservers = ["{ADDRESS}"]\ntimeout = 10.0\n[verify]\ntimeout = 20.0\n')
    with space.inside():
        argv = [*SALSACTL, "--json", "audit", "--config", str(config), *options, target]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def zone_names(direct: bool) -> list[str]:
    return [zone.name for zone in zones_for(map(prefix, PREFIXES), direct=direct)]


@pytest.mark.parametrize("kind", KINDS)
async def test_each_format_in_its_server_passes_the_audit(kind: str, space: Netns, tmp_path: Path) -> None:
    servers = ("--ns", "ns1.example.net") if FORMATS[kind].servers else ()  # of the zone of RFC 2317
    done = await salsactl(*PREFIXES, *MX, "--format", kind, *servers)
    assert (done.status, done.err) == (0, "")
    with published(kind, space, tmp_path, done.out, zone_names(direct=not FORMATS[kind].aliases)) as at:
        for target in PREFIXES:
            told = audited(space, tmp_path, target)
            notes = [finding for finding in told["findings"] if finding["severity"] != "note"]  # type: ignore[attr-defined]
            assert notes == [], (target, at.log)
        assert "status: NXDOMAIN" in at.dig("1.10.168.192.in-addr.arpa", "MX")


SERVICES = ("--submissions", f"10:{RELAY}", "--submission", f"20:{RELAY}:2587")


@pytest.mark.parametrize("kind", KINDS)
async def test_b8_srv_records_in_each_format_are_found_by_the_audit(kind: str, space: Netns, tmp_path: Path) -> None:
    """Beside a null MX: what an agent that asks for SRV records does not see, or does not use, would refuse."""
    servers = ("--ns", "ns1.example.net") if FORMATS[kind].servers else ()
    done = await salsactl(*PREFIXES, "--refuse", *SERVICES, "--format", kind, *servers)
    assert (done.status, done.err) == (0, "")
    with published(kind, space, tmp_path, done.out, zone_names(direct=not FORMATS[kind].aliases)) as at:
        for target in PREFIXES:
            told: Any = audited(space, tmp_path, target, "--submissions", "--no-verify")
            assert [one for one in told["findings"] if one["severity"] != "note"] == [], (target, at.log)
            assert {one["outcome"] for one in told["addresses"]} == {"found"}, (target, at.log)
            assert {(one["host"], one["port"]) for one in told["relays"]} == {(RELAY, 465), (RELAY, 2587)}
            refused: Any = audited(space, tmp_path, target, "--no-verify")
            assert {one["outcome"] for one in refused["addresses"]} == {"refused"}, (target, at.log)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if FORMATS[kind].whole and kind != "bind"])
async def test_whole_zones_are_made(kind: str, space: Netns, tmp_path: Path) -> None:
    done = await salsactl("192.0.2.64/28", *MX, "--format", kind, "--soa", "--ns", "ns1.example.net")
    zones = [zone.name for zone in zones_for([prefix("192.0.2.64/28")])]
    with published(kind, space, tmp_path, done.out, zones) as at:
        told = audited(space, tmp_path, "192.0.2.64/28")
        assert told["findings"] == [], at.log
        assert "ns1.example.net. hostmaster.example.net." in at.dig("2.0.192.in-addr.arpa", "SOA")


# --- the two that no server here reads


async def test_windows_is_one_command_a_record() -> None:
    done = await salsactl("192.0.2.0/24", "192.0.2.64/31", "198.51.100.7", *MX, "--format", "windows")
    lines = [line for line in done.out.splitlines() if not line.startswith("#")]
    ttl = r" -TimeToLive \(\[TimeSpan\]::FromSeconds\(3600\)\)"
    assert lines[0] == "$ErrorActionPreference = 'Stop'"
    for line, zone, name in zip(lines[1:], ("2.0.192", "100.51.198"), (r"\.", "7"), strict=True):
        assert re.fullmatch(
            rf"Add-DnsServerResourceRecordMX -ZoneName '{zone}.in-addr.arpa' -Name '{name}'"
            rf" -MailExchange '{RELAY}\.' -Preference 10{ttl}",
            line,
        )
    done = await salsactl("192.0.2.64/31", *MX, "--format", "windows", "--soa", "--ns", "ns1.example.net")
    assert (
        "Add-DnsServerPrimaryZone -Name '64/31.2.0.192.in-addr.arpa' -ZoneFile '64-31.2.0.192.in-addr.arpa.dns'"
        in done.out
    )
    assert "-Name '64' -HostNameAlias '64.64/31.2.0.192.in-addr.arpa.'" in done.out


async def test_infoblox_csv_has_a_header_for_each_kind_of_row() -> None:
    done = await salsactl(
        "203.0.113.0/24", "192.0.2.64/31", *MX, "--mx", "20:two.example.net", "--format", "infoblox-csv"
    )
    rows = list(csv.reader(done.out.splitlines()))
    assert rows[0] == ["header-mxrecord", "fqdn*", "mx*", "priority*", "ttl"]
    assert rows[1] == ["mxrecord", "113.0.203.in-addr.arpa", RELAY, "10", "3600"]
    assert [row[0] for row in rows] == [
        "header-mxrecord", *["mxrecord"] * 6, "header-cnamerecord", *["cnamerecord"] * 2
    ]  # fmt: skip
    assert all(len(row) == (5 if "mx" in row[0] else 4) for row in rows)


async def test_b8_the_two_write_srv_records_too() -> None:
    done = await salsactl("192.0.2.0/24", *SERVICES, "--format", "windows")
    assert (
        "Add-DnsServerResourceRecord -Srv -ZoneName '2.0.192.in-addr.arpa' -Name '_submissions._tcp' "
        f"-DomainName '{RELAY}.' -Priority 10 -Weight 0 -Port 465 " in done.out
    )
    done = await salsactl("192.0.2.0/24", *SERVICES, "--format", "infoblox-csv")
    rows = list(csv.reader(done.out.splitlines()))
    assert rows[0] == ["header-srvrecord", "fqdn*", "port*", "priority*", "target*", "weight*", "ttl"]
    assert rows[2] == ["srvrecord", "_submission._tcp.2.0.192.in-addr.arpa", "2587", "20", RELAY, "0", "3600"]


# --- what may not get in


HOSTILE = (
    "a.example;halt", "a.example'", 'a.example"', "$(id).example", "`id`.example", "a.example\nuser=root", "a b.c",
    "=cmd.example", "+1.example", "-x.example", "@sum.example", "a.example,1", "a.example\\", "\t.example", "a..c",
    "a.example{", "a.example#", "\u00e9.example", "a.example-", "%n.example",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", FORMATS)
def test_names_are_checked_before_they_enter_any_format(kind: str, name: str) -> None:
    [good] = zones_for([prefix("192.0.2.0/24")])
    servers = ("ns1.example.net",) if FORMATS[kind].servers else ()
    bad: list[tuple[Zone, Form]] = [
        (good, Form((Mx(10, name),), servers=servers)),
        (good, Form((), services={"submissions": (Srv(0, 0, 465, name),)}, servers=servers)),
        (Zone(name, owners=[RELAY]), Form((Mx(10, RELAY),))),
        (Zone(good.name, owners=[name]), Form((Mx(10, RELAY),))),
        (Zone(good.name, aliases=[(good.name, name)]), Form((Mx(10, RELAY),))),
        (Zone(good.name, aliases=[(name, RELAY)]), Form((Mx(10, RELAY),))),
    ]
    for zone, form in bad:
        with pytest.raises(ValueError, match="may stand in a configuration"):
            list(FORMATS[kind].lines([zone], form))


def test_no_cell_of_a_table_begins_a_formula() -> None:
    for first in "=+-@\t\r":
        with pytest.raises(ValueError, match="may stand"):
            checked_name(f"{first}a.example")


async def test_what_a_format_cannot_say_is_refused(tmp_path: Path) -> None:
    for kind, how in FORMATS.items():
        if not how.whole:
            argv = ("192.0.2.0/24", *MX, "--format", kind, "--soa", "--ns", "ns1.example.net")
            refused(await salsactl(*argv), 2, f"--soa: {kind} puts records into zones that stand")
        if not how.servers:
            refused(await salsactl("192.0.2.0/24", *MX, "--format", kind, "--ns", "n.example.net"), 2, "no NS records")
        done = await salsactl("192.0.2.0/24", *MX, "--format", kind, "--directory", str(tmp_path))
        assert done.out == f"{tmp_path}/2.0.192.in-addr.arpa{how.suffix}\n" or done.status == 1  # two end alike


async def test_a_null_mx_in_every_format() -> None:
    for kind in FORMATS:
        done = await salsactl("192.0.2.0/24", "--refuse", "--format", kind)
        assert (done.status, done.err) == (0, ""), kind
        assert re.search(r"MX 0 \.|0 \.'|in-addr\.arpa,\.,0|'\.' -Preference 0", done.out), kind
