"""`salsactl zone`: every address of a prefix finds its relay in what is printed, no other does, on real servers too."""

from __future__ import annotations

import asyncio
import json
import random
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import dns.name
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa_agent.bus.api import LookupResult
from salsa_agent.cli.salsactl import main as ctl
from salsa_agent.core import reverse_names as reverse
from salsa_agent.core.model import Address, IPAddress, Mx, Outcome, Server, ServerView
from salsa_agent.core.settings import Dns, Network, Settings
from salsa_agent.oneshot import zone
from salsa_agent.oneshot import zone_file as zone_text
from salsa_agent.oneshot.lookup import lookup
from salsa_agent.oneshot.zone import Zone
from salsa_agent.oneshot.zone_file import Form
from salsa_agent.resolver.resolver import Resolver
from tests.lab.bus import PATIENCE, Done
from tests.lab.zonefiles import KINDS, loaded, serving
from tests.parts.cli.test_salsactl import SALSACTL, refused

RELAY = "relay.example.net"
MX = (Mx(10, RELAY),)


async def salsactl(*argv: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *SALSACTL, "zone", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


# --- the names


def zones(*prefixes: str, direct: bool = False, separator: str = "/") -> list[Zone]:
    return zone.zones_for([zone.prefix(text) for text in prefixes], direct=direct, separator=separator)


def climb(found: list[Zone], ip: IPAddress) -> list[int]:
    """The levels at which an agent finds records for `ip` (B1, B6)."""
    owners = {owner for one in found for owner in one.owners}
    aliases = dict(pair for one in found for pair in one.aliases)
    levels = reverse.levels_of(Address(ip, 0, ""), Network().ipv4_levels, Network().ipv6_levels)
    names = ((level, reverse.name_at(ip, level)) for level in levels)
    return [level for level, name in names if aliases.get(name, name) in owners]


@st.composite
def prefixes(draw: st.DrawFn) -> zone.IPNetwork:
    if draw(st.booleans()):
        length = draw(st.integers(6, 32))
        return IPv4Network((draw(st.integers(0, 2**32 - 1)) >> (32 - length) << (32 - length), length))
    length = draw(st.sampled_from([*range(22, 65), *range(118, 129)]))
    return IPv6Network((draw(st.integers(0, 2**128 - 1)) >> (128 - length) << (128 - length), length))


@settings(deadline=None)
@given(prefixes(), st.booleans(), st.randoms(use_true_random=False))
def test_b1_every_address_inside_finds_the_set_and_no_other(
    prefix: zone.IPNetwork, direct: bool, chance: random.Random
) -> None:
    found = zone.zones_for([prefix], direct=direct)
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    kind = type(prefix.network_address)
    for number in (first, last, chance.randint(first, last)):
        assert climb(found, kind(number)) == [zone.level_of(prefix)]
    for number in (first - 1, last + 1):
        if 0 <= number < 2**prefix.max_prefixlen:
            assert climb(found, kind(number)) == []


few = prefixes().filter(lambda prefix: zone.level_of(prefix) - prefix.prefixlen <= 8)


@settings(deadline=None)
@given(few)
def test_every_record_is_in_its_zone(prefix: zone.IPNetwork) -> None:
    for one in zone.zones_for([prefix]):
        assert one.owners or one.aliases
        for name in [*one.owners, *(owner for owner, _ in one.aliases), *one.children]:
            assert f".{name}".endswith(f".{one.name}")


@pytest.mark.parametrize(
    ("prefix", "names", "owners"),
    [
        ("10.0.0.0/8", ["10.in-addr.arpa"], 256),
        ("172.16.0.0/12", [f"{n}.172.in-addr.arpa" for n in range(16, 32)], 1),
        ("10.1.0.0/16", ["1.10.in-addr.arpa"], 1),
        ("10.1.16.0/20", [f"{n}.1.10.in-addr.arpa" for n in range(16, 32)], 1),
        ("198.51.100.0/22", [f"{n}.51.198.in-addr.arpa" for n in range(100, 104)], 1),
        ("192.0.2.0/24", ["2.0.192.in-addr.arpa"], 1),
        ("192.0.2.17", ["2.0.192.in-addr.arpa"], 1),
        ("2001:db8::/32", ["8.b.d.0.1.0.0.2.ip6.arpa"], 1),
        ("2001:db8::/44", ["0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"], 16),
        ("2001:db8::/46", [f"{n}.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" for n in range(4)], 1),
        ("2001:db8::/60", ["0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"], 16),
        ("2001:db8::/120", ["0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"], 256),
    ],
)
def test_zones_on_and_off_the_boundaries(prefix: str, names: list[str], owners: int) -> None:
    found = zones(prefix)
    assert [one.name for one in found] == names
    assert {len(one.owners) for one in found} == {owners}


def test_rfc_2317_child_zone_and_aliases() -> None:
    parent, child = zones("192.0.2.64/26")
    assert (parent.name, child.name) == ("2.0.192.in-addr.arpa", "64/26.2.0.192.in-addr.arpa")
    assert parent.aliases[0] == ("64.2.0.192.in-addr.arpa", "64.64/26.2.0.192.in-addr.arpa")
    assert parent.aliases[-1] == ("127.2.0.192.in-addr.arpa", "127.64/26.2.0.192.in-addr.arpa")
    assert len(parent.aliases) == len(child.owners) == 64
    assert (parent.owners, parent.children, child.classless) == ([], [child.name], True)


def test_rfc_2317_can_be_done_without_or_with_a_dash() -> None:
    [direct] = zones("192.0.2.64/26", direct=True)
    assert (len(direct.owners), direct.aliases) == (64, [])
    assert zones("192.0.2.64/26", separator="-")[1].name == "64-26.2.0.192.in-addr.arpa"


def test_prefixes_that_share_a_zone_or_contain_each_other() -> None:
    parent, _, last = zones("192.0.2.0/26", "192.0.2.200", "192.0.2.128/27")
    assert parent.name == "2.0.192.in-addr.arpa"
    assert parent.owners == ["200.2.0.192.in-addr.arpa"]
    assert len(parent.aliases) == 64 + 32
    assert last.name == "128/27.2.0.192.in-addr.arpa"
    assert zones("192.0.2.0/26", "192.0.2.0/24", "192.0.2.0/24") == zones("192.0.2.0/24")


def test_too_many_names_are_refused() -> None:
    assert sum(len(one.owners) for one in zones("2001:db8::/112")) == zone.MAX_NAMES
    for prefix, advice in (("2001:db8::/111", "publish its /64"), ("2000::/15", "give the parts")):
        with pytest.raises(ValueError, match=f"131,072 names in all, more than 65,536: {advice}"):
            zones(prefix)
    with pytest.raises(ValueError, match="65,537 names"):
        zones("2001:db8::/112", "192.0.2.0/24")


# --- the text


def parsed(one: Zone, form: Form) -> dns.zone.Zone:
    return dns.zone.from_text("\n".join(zone_text.text(one, form)), origin=f"{one.name}.", relativize=False)


@settings(deadline=None, max_examples=30)
@given(few)
def test_text_is_a_master_file_with_the_records(prefix: zone.IPNetwork) -> None:
    form = Form((Mx(10, RELAY), Mx(20, "two.example.net")), 1234, ("ns1.example.net", "ns2.example.net"), 7)
    for one in zone.zones_for([prefix]):
        read = parsed(one, form)
        seen = {
            (name.to_text(omit_final_dot=True), data.to_text())
            for name, ttl, data in read.iterate_rdatas("MX")
            if ttl == 1234
        }
        assert seen == {(owner, data) for owner in one.owners for data in (f"10 {RELAY}.", "20 two.example.net.")}
        aliases = {
            (name.to_text(omit_final_dot=True), data.to_text().removesuffix("."))
            for name, _, data in read.iterate_rdatas("CNAME")
        }
        assert aliases == set(one.aliases)
        nameservers = [name.to_text(omit_final_dot=True) for name, _, _ in read.iterate_rdatas("NS")]
        assert sorted(nameservers) == sorted([one.name, *one.children] * 2)


async def test_prints_what_to_include_by_zone() -> None:
    done = await salsactl("198.51.100.0/23", "2001:db8::/48", "--mx", "20:Two.example.net.", "--mx", f"10:{RELAY}")
    assert (done.status, done.err) == (0, "")
    records = f"$TTL 3600\n@ IN MX 10 {RELAY}.\n@ IN MX 20 two.example.net.\n"
    blocks = done.out.split("\n\n")
    assert [re.sub("^;.*\n", "", block, flags=re.MULTILINE).strip() for block in blocks] == [
        f"$ORIGIN {name}.\n{records}".strip()
        for name in (
            "100.51.198.in-addr.arpa", "101.51.198.in-addr.arpa", "0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        )
    ]  # fmt: skip
    assert all("end of the zone's file" in block and "SOA" not in block for block in blocks)


async def test_comments_say_what_goes_where_and_fit_the_terminal() -> None:
    done = await salsactl("192.0.2.64/26", "2001:db8::/120", "--mx", f"10:{RELAY}")
    parent, child, deep = done.out.split("\n\n")
    assert "for who holds this zone" in parent
    assert "NS records for 64/26.2.0.192.in-addr.arpa belong here" in " ".join(parent.replace("\n;", "").split())
    assert 'BIND: "check-names ignore;"' in child
    assert "temporary addresses" in deep
    assert max(map(len, done.out.splitlines())) <= 80


async def test_null_mx() -> None:
    for argv in (["--refuse"], ["--mx", "0:."]):
        done = await salsactl("192.0.2.0/24", *argv)
        assert (done.status, done.out.splitlines()[-1]) == (0, "@ IN MX 0 .")


async def test_json_has_the_documented_keys() -> None:
    done = await salsactl("192.0.2.64/31", "--mx", f"10:{RELAY}", "--ttl", "600", "--json", "--ns", "ns1.example.net")
    told = json.loads(done.out)
    assert told.keys() == {"zones"}
    assert [one.keys() for one in told["zones"]] == [{"zone", "prefixes", "records"}] * 2
    assert told["zones"][0]["prefixes"] == ["192.0.2.64/31"]
    assert told["zones"][0]["records"] == [
        {"name": "64/31.2.0.192.in-addr.arpa", "type": "NS", "ttl": 600, "data": "ns1.example.net."},
        *(
            {"name": f"{n}.2.0.192.in-addr.arpa", "type": "CNAME", "ttl": 600,
             "data": f"{n}.64/31.2.0.192.in-addr.arpa."} for n in (64, 65)
        ),
    ]  # fmt: skip
    assert {record["type"] for record in told["zones"][1]["records"]} == {"MX"}


async def test_files_for_each_zone_and_none_replaced(tmp_path: Path) -> None:
    argv = ["192.0.2.64/26", "--mx", f"10:{RELAY}", "--directory", str(tmp_path / "zones")]
    done = await salsactl(*argv)
    files = [tmp_path / "zones" / f"{name}2.0.192.in-addr.arpa.zone" for name in ("", "64-26.")]
    assert (done.status, done.out.split()) == (0, [str(file) for file in files])
    assert sorted((tmp_path / "zones").iterdir()) == sorted(files)
    assert files[1].read_text().endswith(f"\n127 IN MX 10 {RELAY}.\n")
    refused(await salsactl(*argv), 1, "is there already", "2.0.192.in-addr.arpa.zone")
    refused(await salsactl(*argv[:-1], "/dev/null/zones"), 1, "cannot be written", "Not a directory")
    (tmp_path / "zones" / "2.0.192.in-addr.arpa.zone").unlink()
    assert (await salsactl("192.0.2.0/24", *argv[1:], "--json")).out == json.dumps({"files": [str(files[0])]}) + "\n"


def test_bad_arguments_get_a_clear_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    mx = f"10:{RELAY}"
    for argv, words in (
        (["192.0.2.0/24", "--mx", mx, "--refuse"], "not allowed with"),
        (["192.0.2.1/24", "--refuse"], "the prefix is 192.0.2.0/24"),
        (["192.0.2.0/33", "--refuse"], "is no IPv4 or IPv6 prefix"),
        (["127.1.0.0/16", "--refuse"], "no agent asks for an address in 127.0.0.0/8"),
        (["fe80::1%eth0", "--refuse"], "knows no zones"),
        (["fe80::/64", "--refuse"], "no agent asks"),
        (["192.0.2.0/24", "--mx", RELAY], "not of the form PREFERENCE:HOST"),
        (["192.0.2.0/24", "--mx", f"65536:{RELAY}"], "from 0 to 65535"),
        (["192.0.2.0/24", "--mx", f"+1:{RELAY}"], "from 0 to 65535"),
        (["192.0.2.0/24", "--mx", "10:192.0.2.25"], "a host name, not an address"),
        (["192.0.2.0/24", "--mx", "10:[2001:db8::25]"], "a host name, not an address"),
        (["192.0.2.0/24", "--mx", "10:relay"], "a single label"),
        (["192.0.2.0/24", "--mx", "10:a_b.example"], "not letters, digits and hyphens"),
        (["192.0.2.0/24", "--mx", "10:x.localhost"], "under localhost"),
        (["192.0.2.0/24", "--mx", "10:a.example. IN MX 1 b"], "not letters, digits and hyphens"),
        (["192.0.2.0/24", "--mx", "10:."], "0:. (RFC 7505)"),
        (["192.0.2.0/24", "--submissions", RELAY], "not of the form PRIORITY:HOST or PRIORITY:HOST:PORT"),
        (["192.0.2.0/24", "--submissions", f"1:{RELAY}:0"], "not of the form"),
        (["192.0.2.0/24", "--submission", f"1:{RELAY}:65536"], "not of the form"),
        (["192.0.2.0/24", "--submission", "1:"], "not of the form"),
        (["192.0.2.0/24", "--submission", "1:192.0.2.25"], "all-numeric"),
        (["192.0.2.0/24", "--submission", "1:."], "no host name"),
        (["192.0.2.0/24", "--refuse", "--ttl", "59"], "from 60 to 86400"),
        (["192.0.2.0/24", "--refuse", "--ttl", "86401"], "from 60 to 86400"),
        (["192.0.2.0/24", "--refuse", "--ns", "ns1"], "no host name (a single label)"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            ctl.main(["zone", *argv])
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err.splitlines()[-1], (argv, err)


async def test_sets_that_agents_would_not_use_are_refused() -> None:
    mx = f"10:{RELAY}"
    refused(await salsactl("192.0.2.0/24", "--mx", mx, "--mx", "0:."), 2, "stands alone (RFC 7505 section 3)")
    refused(await salsactl("192.0.2.0/24", "--mx", mx, "--mx", f"20:{RELAY.upper()}"), 2, "given twice")
    refused(await salsactl("192.0.2.0/24", "--refuse", "--soa"), 2, "--soa needs --ns HOST")
    needed = "one of the arguments --mx --refuse --relay --submissions --submission is required"
    refused(await salsactl("192.0.2.0/24"), 2, needed)
    tls = ("--submissions", mx, "--submissions", f"20:{RELAY}:465")
    refused(await salsactl("192.0.2.0/24", *tls), 2, f"--submissions {RELAY} with port 465 is given twice")
    refused(await salsactl("192.0.2.0/24", "--relay", "postfix", *tls), 2, "--submissions is about zones")
    refused(await salsactl("2001:db8::/96", "--refuse"), 2, "4,294,967,296 names in all, more than 65,536")
    many = [word for n in range(33) for word in ("--mx", f"1:r{n}.example.net")]
    refused(await salsactl("192.0.2.0/24", *many), 2, "the 32 best")
    assert (await salsactl("192.0.2.0/24", *many[2:])).status == 0


# --- real servers

PREFIXES = (
    "10.16.0.0/12",  # sixteen zones
    "198.51.100.0/22",  # four zones
    "192.0.2.64/26",  # RFC 2317
    "203.0.113.9",
    "2001:db8:0:10::/60",  # sixteen names
    "2001:db8:40::/42",  # four zones of sixteen names
    "2001:db8:ff:ff::5",
)
INSIDE = (
    ("10.16.0.1", 16), ("10.31.255.254", 16), ("198.51.100.1", 24), ("198.51.103.254", 24), ("192.0.2.64", 32),
    ("192.0.2.127", 32), ("203.0.113.9", 32), ("2001:db8:0:10::1", 64), ("2001:db8:0:1f:ffff::1", 64),
    ("2001:db8:40::1", 48), ("2001:db8:7f:ffff::1", 48), ("2001:db8:ff:ff::5", 128),
)  # fmt: skip
OUTSIDE = (
    "10.15.255.254", "10.32.0.1", "198.51.99.1", "198.51.104.1", "192.0.2.63", "192.0.2.128", "203.0.113.8",
    "203.0.113.10", "2001:db8:0:f::1", "2001:db8:0:20::1", "2001:db8:3f:ffff::1", "2001:db8:80::1", "2001:db8:ff:ff::4",
)  # fmt: skip
APEX = "$TTL 300\n@ IN SOA ns1.example.net. hostmaster.example.net. 1 2 3 4 5\n@ IN NS ns1.example.net.\n"
EXCHANGE = f"{APEX}ns1 IN A 192.0.2.53\n{RELAY}. IN A 198.51.100.25\n"


async def looked_up(server: Server, address: str) -> LookupResult:
    return await lookup(ip_address(address), Settings(), ServerView((server,)), Resolver(Dns(timeout=10)))


def relays(looked: LookupResult) -> list[tuple[str, int | None]]:
    return [(relay.key.host, relay.level) for relay in looked.relays]


async def written(where: Path, *argv: str) -> dict[str, Path]:
    """The files that `salsactl zone` writes, by the zone that is in them."""
    done = await salsactl(*argv, "--mx", f"10:{RELAY}", "--ns", "ns1.example.net", "--directory", str(where))
    assert (done.status, done.err) == (0, "")
    files: dict[str, Path] = {}
    for file in map(Path, done.out.split()):
        [origin] = re.findall(r"^\$ORIGIN (.+)\.$", file.read_text(), re.MULTILINE)
        files[origin] = file
    return files


def with_exchange(where: Path, files: dict[str, Path]) -> dict[str, Path]:
    (where / "example.net").write_text(EXCHANGE)
    return files | {"example.net": where / "example.net"}


async def found_inside_only(kind: str, where: Path, files: dict[str, Path]) -> None:
    with serving(kind, where, files) as (server, log):
        await loaded(server, log, files)
        for address, level in INSIDE:
            looked = await looked_up(server, address)
            assert relays(looked) == [(RELAY, level)], (address, log.read_text(errors="replace"))
        for address in OUTSIDE:
            assert relays(await looked_up(server, address)) == [], address


@pytest.mark.parametrize("kind", KINDS)
async def test_whole_zones_load_and_are_found(kind: str, tmp_path: Path) -> None:
    files = await written(tmp_path / "zones", *PREFIXES, "--soa")
    await found_inside_only(kind, tmp_path, with_exchange(tmp_path, files))


@pytest.mark.parametrize("kind", KINDS)
async def test_records_at_the_end_of_zones_that_stand_load_and_are_found(kind: str, tmp_path: Path) -> None:
    """Zones further up, too: what is printed names its own origin."""
    pieces = await written(tmp_path / "pieces", *PREFIXES)
    homes = {
        "10.in-addr.arpa": [name for name in pieces if name.endswith(".10.in-addr.arpa")],
        "51.198.in-addr.arpa": [name for name in pieces if name.endswith(".51.198.in-addr.arpa")],
        "8.b.d.0.1.0.0.2.ip6.arpa": [name for name in pieces if name.endswith(".8.b.d.0.1.0.0.2.ip6.arpa")],
    }
    housed = {name for names in homes.values() for name in names}
    homes |= {name: [name] for name in pieces if name not in housed}
    files = {}
    for number, (home, names) in enumerate(homes.items()):
        files[home] = tmp_path / f"{number}.zone"
        files[home].write_text(APEX + "".join(pieces[name].read_text() for name in names))
    await found_inside_only(kind, tmp_path, with_exchange(tmp_path, files))


async def test_bind_needs_no_check_names_with_a_dash(tmp_path: Path) -> None:
    files = await written(tmp_path / "zones", "192.0.2.64/26", "--soa", "--separator", "-")
    assert "check-names" not in "".join(file.read_text() for file in files.values())
    files = with_exchange(tmp_path, files)
    with serving("named", tmp_path, files) as (server, log):
        await loaded(server, log, files)
        assert "check-names ignore" not in (tmp_path / "named.conf").read_text()
        assert relays(await looked_up(server, "192.0.2.65")) == [(RELAY, 32)]


async def test_a_null_mx_is_found_as_one(tmp_path: Path) -> None:
    done = await salsactl("192.0.2.0/24", "--refuse", "--soa", "--ns", "ns1.example.net")
    (tmp_path / "zone").write_text(done.out)
    files = with_exchange(tmp_path, {"2.0.192.in-addr.arpa": tmp_path / "zone"})
    with serving("nsd", tmp_path, files) as (server, log):
        await loaded(server, log, files)
        looked = await looked_up(server, "192.0.2.1")
    assert looked.relays == []
    assert [asked.answer.outcome for asked in looked.questions if asked.level == 24] == [Outcome.REFUSED]
