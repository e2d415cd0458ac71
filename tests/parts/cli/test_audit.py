"""`salsactl audit`: each fault is named with what to change; asked of a real server, its relays really spoken to."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.core.model import (
    Answer,
    CheckResult,
    IPAddress,
    Mx,
    Outcome,
    Question,
    RelayKey,
    RRType,
    Server,
    ServerView,
    Verdict,
)
from salsa_agent.core.settings import Dns, Network, Policy, Settings
from salsa_agent.oneshot.auditing.audit import Audit, AuditRequest, audit, samples
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.auditing.findings import findings
from salsa_agent.oneshot.severity import Severity
from salsa_agent.oneshot.zone import prefix
from salsa_agent.resolver.resolver import Resolver
from tests.lab.bus import PATIENCE, Done
from tests.lab.dnsserver import Zone, dns_server
from tests.lab.netns import Netns
from tests.lab.run import PROJECT
from tests.lab.whole import until
from tests.parts.cli.test_salsactl import SALSACTL, refused

NET, ABOVE, HOST = "2.0.192.in-addr.arpa", "0.192.in-addr.arpa", "17.2.0.192.in-addr.arpa"
RELAY = "relay.example.net"
GOOD: Zone = {NET: {"MX": [f"10 {RELAY}."]}, RELAY: {"A": ["198.51.100.25"]}}


async def audited(
    zone: Mapping[str, Any], target: str = "192.0.2.0/24", count: int | None = None, **settings: Any
) -> tuple[Audit, list[Finding]]:
    """What is found without relays being spoken to, with this over the good zone."""
    async with dns_server({**GOOD, **zone}) as server:
        dns = Dns(servers=(server.server,), timeout=5.0)
        settings = {"dns": dns, **settings}
        resolver = Resolver(dns)
        request = AuditRequest(prefix(target), Settings(**settings), ServerView(dns.servers), count)
        seen = await audit(request, resolver, None)
    return seen, findings(seen)


async def one(zone: Mapping[str, Any], code: str, target: str = "192.0.2.0/24", **settings: Any) -> Finding:
    """The one finding of this code."""
    _, found = await audited(zone, target, **settings)
    [finding] = [finding for finding in found if finding.code == code]
    assert all(text.isascii() and text.isprintable() for text in (finding.problem, finding.change))
    return finding


# --- which addresses


@pytest.mark.parametrize(
    ("target", "count", "wanted"),
    [
        ("192.0.2.0/24", 3, ["192.0.2.1", "192.0.2.127", "192.0.2.254"]),
        ("192.0.2.64/30", 64, ["192.0.2.65", "192.0.2.66"]),
        ("192.0.2.64/31", 64, ["192.0.2.64", "192.0.2.65"]),
        ("192.0.2.64", 64, ["192.0.2.64"]),
        ("2001:db8::/48", 2, ["2001:db8::1", "2001:db8:0:ffff:ffff:ffff:ffff:ffff"]),
        ("2001:db8::/127", 64, ["2001:db8::", "2001:db8::1"]),
        ("0.0.0.0/0", 2, ["0.0.0.1", "255.255.255.254"]),
    ],
)
def test_samples_are_first_last_and_spread(target: str, count: int, wanted: list[str]) -> None:
    assert [str(ip) for ip in samples(prefix(target), count)] == wanted


@pytest.mark.parametrize("length", range(17, 24))
def test_samples_have_one_below_each_name(length: int) -> None:
    seen = samples(prefix(f"10.0.0.0/{length}"), 1 << (24 - length))
    assert len({int(ip) >> 8 for ip in seen}) == len(seen) == 1 << (24 - length)


async def test_a_prefix_is_asked_at_each_of_its_names_and_16_addresses_at_least() -> None:
    for target, names, addresses in (
        ("192.0.2.0/24", 1, 16), ("10.0.0.0/19", 32, 32), ("10.0.0.0/17", 128, 64), ("192.0.2.64/26", 64, 62),
        ("192.0.2.64", 1, 1), ("2001:db8::/44", 16, 16),
    ):  # fmt: skip
        seen, _ = await audited({}, target)
        assert (seen.names, len(seen.asked)) == (names, addresses), target
    seen, _ = await audited({}, "10.0.0.0/17", 128)
    assert len(seen.asked) == 128


async def test_levels_of_the_configuration_are_asked() -> None:
    seen, found = await audited({}, network=Network(ipv4_levels=(24,)))
    assert {level for level in seen.choice.wanted.values() if level} == {24}
    assert found == []


async def test_policy_and_static_relays_do_not_count() -> None:
    seen, found = await audited({}, policy=Policy(deny=("*",)), static_relays=(RelayKey("smtp.example.net", 25),))
    assert [relay.key.host for relay in seen.choice.relays] == [RELAY]
    assert found == []


# --- what is found


async def test_nothing_is_wrong_with_a_good_zone() -> None:
    seen, found = await audited({})
    assert found == []
    assert len(seen.choice.evidence) == 16


async def test_no_mx_at_any_level() -> None:
    finding = await one({NET: {}}, "no-mx")
    assert finding.severity is Severity.FAULT
    assert finding.problem == "No MX record at any level (/32 to /16) for any of the 16 addresses asked about."
    assert "salsactl zone 192.0.2.0/24 --mx" in finding.change
    part = await one({}, "no-mx", "192.0.2.0/23")
    assert "8 of the 16 addresses asked about (192.0.3.16, 192.0.3.50," in part.problem
    assert len(part.addresses) == 8


async def test_c3_no_address() -> None:
    finding = await one({RELAY: {}}, "no-address")
    assert finding.severity is Severity.FAULT
    assert finding.problem == f"The exchange {RELAY} has no A or AAAA record."
    assert finding.change == f"Add one, or remove {RELAY} from the MX set at {NET}."
    assert (finding.exchange, finding.names) == (RELAY, (NET,))
    stuck = await one({RELAY: {}, ABOVE: {"MX": ["10 other.example.net."]}}, "no-usable-exchange")
    assert "agents look no further: there is no relay for any of the 16 addresses" in stuck.problem


async def test_c3_address_lookup_fails() -> None:
    servfail = {"rcode": "SERVFAIL"}
    finding = await one({RELAY: {"*": servfail}}, "exchange-lookup-failed")
    assert finding.severity is Severity.FAULT
    assert "SERVFAIL" in finding.problem
    finding = await one({RELAY: {"A": ["198.51.100.25"], "AAAA": servfail}}, "exchange-lookup-failed")
    assert finding.severity is Severity.WARNING


async def test_c3_unusable_addresses() -> None:
    finding = await one({RELAY: {"A": ["127.0.0.1"], "AAAA": ["fe80::1"]}}, "unusable-address")
    assert finding.severity is Severity.FAULT
    assert finding.problem.endswith(
        "has only addresses that agents do not speak to: fe80::1 (link-local), 127.0.0.1 (loopback)."
    )
    finding = await one({RELAY: {"A": ["127.0.0.1", "198.51.100.25"]}}, "unusable-address")
    assert (finding.severity, finding.change) == (Severity.WARNING, "Remove them.")


@pytest.mark.parametrize("chase", [True, False], ids=["in one answer", "asked again"])
async def test_alias_exchange(chase: bool) -> None:
    alias = {"A": {"answer": [], "chase": chase}, "CNAME": {"answer": ["Real.example.net."], "chase": chase}}
    del alias["A"]
    finding = await one({RELAY: alias, "real.example.net": {"A": ["198.51.100.25"]}}, "alias-exchange")
    assert finding.severity is Severity.FAULT
    assert finding.problem == f"The exchange {RELAY} is an alias (CNAME) of real.example.net."
    assert f"Name real.example.net itself in the MX set at {NET}" in finding.change


async def test_alias_exchange_that_leads_nowhere() -> None:
    _, found = await audited({RELAY: {"CNAME": ["gone.example.net."]}})
    assert [finding.code for finding in found] == ["alias-exchange", "no-address", "no-usable-exchange"]


async def test_b6_an_alias_at_the_reverse_name_is_no_fault() -> None:
    zone = {HOST: {"CNAME": [f"17.0/25.{NET}."]}, f"17.0/25.{NET}": {"MX": [f"10 {RELAY}."]}, NET: {}}
    seen, found = await audited(zone, "192.0.2.17")
    assert found == []
    assert seen.choice.evidence[0].level == 32


async def test_b7_null_mx_among_others() -> None:
    finding = await one({NET: {"MX": [f"10 {RELAY}.", "0 ."]}}, "null-mx-among-others")
    assert finding.severity is Severity.FAULT
    assert finding.problem == f'"MX 0 ." at {NET} stands among other MX records, and is dropped.'


async def test_b7_null_mx_with_a_preference() -> None:
    finding = await one({NET: {"MX": ["10 ."]}}, "null-mx-preference")
    assert (finding.severity, finding.change) == (Severity.FAULT, "Set its preference to 0.")


async def test_b7_null_mx_is_a_note() -> None:
    finding = await one({NET: {"MX": ["0 ."]}}, "refused")
    assert finding.severity is Severity.NOTE
    assert finding.names == (NET,)


async def test_c2_no_host_name() -> None:
    finding = await one({NET: {"MX": [f"10 {RELAY}.", "20 192.0.2.25."]}}, "no-host-name")
    assert finding.severity is Severity.FAULT
    assert '"MX 20 192.0.2.25."' in finding.problem
    assert "An exchange is a name" in finding.change
    finding = await one({NET: {"MX": [f"10 {RELAY}.", "20 a_b.example."]}}, "no-host-name")
    assert "letters, digits and hyphens" in finding.problem


async def test_what_a_hostile_zone_says_is_printable() -> None:
    finding = await one({NET: {"MX": [f"10 {RELAY}.", r"20 \027[31m\007\195.example."]}}, "no-host-name")
    assert "\\027[31m\\007\\195.example" in finding.problem


async def test_c5_too_many_exchanges_and_addresses() -> None:
    hosts = [f"r{n}.example.net" for n in range(33)]
    zone = {NET: {"MX": [f"10 {host}." for host in hosts]}, **{host: {"A": ["198.51.100.25"]} for host in hosts}}
    finding = await one(zone, "too-many-exchanges")
    assert finding.severity is Severity.FAULT
    assert "has 33 exchanges; agents use the 32 best ones" in finding.problem
    finding = await one({RELAY: {"A": [f"198.51.100.{n}" for n in range(17)]}}, "too-many-addresses")
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
async def test_b5_a_level_that_fails(rcode: str) -> None:
    finding = await one({HOST: {"MX": {"rcode": rcode}}}, "lookup-failed", "192.0.2.17")
    assert finding.severity is Severity.FAULT
    assert finding.problem.startswith(f"MX questions at /32 fail for {HOST}: 127.0.0.1:")
    assert rcode in finding.problem
    assert finding.names == (HOST,)


async def test_b5_a_level_without_an_answer() -> None:
    async with dns_server({**GOOD, HOST: {"MX": {"silent": True}}}) as server:
        dns = Dns(servers=(server.server,), timeout=0.2, attempts=1)
        resolver = Resolver(Dns(timeout=0.2, attempts=1))
        request = AuditRequest(prefix("192.0.2.17"), Settings(dns=dns), ServerView(dns.servers))
        seen = await audit(request, resolver, None)
    assert any(finding.code == "lookup-failed" and finding.names == (HOST,) for finding in findings(seen))


async def test_b5_a_lame_server() -> None:
    referral = {"MX": {"answer": [], "soa": None, "authority": [f"{HOST}. 300 IN NS ns.example.org."]}}
    finding = await one({HOST: referral}, "lookup-failed", "192.0.2.17")
    assert "referral to other servers" in finding.problem


async def test_b5_levels_that_fail_alike_are_one_finding() -> None:
    _, found = await audited({"": {"*": {"rcode": "REFUSED"}}})
    alike, above = (finding for finding in found if finding.code == "lookup-failed")
    assert "at /32" in alike.problem
    assert "and 13 more" in alike.problem
    assert (len(alike.names), above.names) == (16, (ABOVE,))


@pytest.mark.parametrize(
    ("ttl", "code"), [(59, "ttl-too-short"), (60, ""), (86400, ""), (86401, "ttl-too-long")]
)  # fmt: skip
async def test_e1_ttl_out_of_bounds(ttl: int, code: str) -> None:
    for zone, what in (
        ({NET: {"MX": {"answer": [f"10 {RELAY}."], "ttl": ttl}}}, f"The MX set at {NET} has a TTL of {ttl} s"),
        ({NET: {"MX": {"answer": ["0 ."], "ttl": ttl}}}, f"The null MX at {NET} has a TTL of {ttl} s"),
        (
            {RELAY: {"A": {"answer": ["198.51.100.25"], "ttl": ttl}}},
            f"The A records of the exchange {RELAY} have a",
        ),
    ):
        _, found = await audited(zone)
        warnings = [finding for finding in found if finding.severity is Severity.WARNING]
        assert [finding.code for finding in warnings] == ([code] if code else [])
        assert all(finding.problem.startswith(what) for finding in warnings)


async def test_b3_a_level_that_hides_another_is_a_note() -> None:
    above = {ABOVE: {"MX": ["10 other.example.net."]}}
    finding = await one(above, "hides-level")
    assert finding.severity is Severity.NOTE
    assert finding.names == (NET, ABOVE)
    assert finding.problem == (
        f"What is published at /24 ({NET}) hides other records at /16 ({ABOVE}) from all 16 addresses asked about."
    )
    _, found = await audited({ABOVE: {"MX": [f"10 {RELAY}."]}})  # the same
    assert found == []
    finding = await one({HOST: {"MX": ["0 ."]}}, "hides-level", "192.0.2.17")
    assert finding.names == (HOST, NET)


async def test_b1_temporary_addresses_find_nothing_below_64() -> None:
    host = ip_address("2001:db8::17").reverse_pointer
    zone = {host: {"MX": [f"10 {RELAY}."]}}
    assert (await one(zone, "temporary-addresses", "2001:db8::17")).severity is Severity.NOTE
    wide = {".".join(host.split(".")[20:]): {"MX": [f"10 {RELAY}."]}}
    _, found = await audited(zone | wide, "2001:db8::17")
    assert found == []


class Checker:
    """Verdicts as they are told; the real verifier speaks to real relays further down."""

    def __init__(self, **verdicts: CheckResult) -> None:
        self.asked: list[RelayKey] = []
        self.now = self.most = 0
        self._verdicts = verdicts

    async def check(self, key: RelayKey, addresses: tuple[IPAddress, ...], srv: str = "") -> CheckResult:
        self.asked.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return self._verdicts.get(key.host.partition(".")[0], CheckResult(Verdict.OK, starttls=True))


class Counting:
    """How many questions are in flight."""

    def __init__(self, inner: Resolver) -> None:
        self.now = self.most = 0
        self._inner = inner

    async def ask(self, question: Question) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._inner.ask(question)
        finally:
            self.now -= 1


async def test_b2_d2_64_questions_and_4_conversations_at_once_and_progress_is_told() -> None:
    hosts = [f"r{n}.example.net" for n in range(9)]
    zone = {NET: {"MX": [f"{n} {host}." for n, host in enumerate(hosts)]}}
    zone |= {host: {"A": ["198.51.100.25"]} for host in hosts}
    told: list[tuple[str, int, int]] = []
    async with dns_server(zone) as server:
        settings, checker = Settings(dns=Dns(servers=(server.server,), timeout=10)), Checker()
        resolver = Counting(Resolver(Dns(timeout=10)))
        request = AuditRequest(prefix("192.0.2.0/24"), settings, ServerView((server.server,)), 200)
        seen = await audit(request, resolver, checker, lambda *now: told.append(now))
    assert (resolver.most, checker.most) == (64, 4)
    assert sorted(key.host for key in checker.asked) == hosts
    assert told[-1] == ("relays", 9, 9)
    assert ("questions", 202 + 18, 202 + 18) in told
    assert set(seen.checks) == set(checker.asked)


class Instant:
    """Answers at once and for ever, or never."""

    def __init__(self, silent: bool = False) -> None:
        self.asked = 0
        self._silent = silent

    async def ask(self, question: Question) -> Answer:
        self.asked += 1
        if self._silent:
            await asyncio.Event().wait()
        if question.rtype is RRType.A:
            return Answer(Outcome.FOUND, addresses=(ip_address("203.0.113.9"),), ttl=300, rcode="NOERROR")
        if question.rtype is RRType.MX and question.name.count(".") == 5:  # one set for each address
            hosts = (f"r{n}.{question.name.partition('.in-addr')[0]}.example.net." for n in range(8))
            return Answer(Outcome.FOUND, mx=tuple(Mx(n, h) for n, h in enumerate(hosts)), ttl=300, rcode="NOERROR")
        return Answer(Outcome.NONE, rcode="NXDOMAIN")


async def test_c5_an_audit_of_4096_addresses_ends() -> None:
    """Each with an MX set of its own, all of whose exchanges have addresses."""
    request = AuditRequest(prefix("10.0.0.0/16"), Settings(), ServerView((Server("192.0.2.53"),)), 4096)
    start = time.process_time()
    seen = await audit(request, Instant(), None)
    found = findings(seen)
    assert time.process_time() - start < 6
    assert (len(seen.asked), len(seen.choice.relays)) == (4096, 64)
    assert any(finding.code == "not-all-relays" for finding in found)


async def test_b5_an_audit_of_4096_addresses_ends_where_no_server_answers() -> None:
    settings = Settings(dns=Dns(timeout=0.1, attempts=1))
    request = AuditRequest(prefix("10.0.0.0/16"), settings, ServerView((Server("192.0.2.53"),)), 4096)
    resolver = Instant(silent=True)
    async with asyncio.timeout(30):
        seen = await audit(request, resolver, None)
    assert resolver.asked <= 2 * 64
    silent = [answer for answer in seen.answers.values() if answer.reason == "no answer in time"]
    assert all(answer.elapsed >= 0.2 for answer in silent), "how long it took"
    assert any(finding.code == "lookup-failed" for finding in findings(seen))


async def test_d7_a_relay_without_starttls_is_a_note() -> None:
    for starttls, codes in ((False, ["no-starttls"]), (True, []), (None, [])):
        async with dns_server(GOOD) as server:
            settings = Settings(dns=Dns(servers=(server.server,), timeout=10))
            checker = Checker(relay=CheckResult(Verdict.OK, starttls=starttls))
            resolver = Resolver(Dns(timeout=10))
            request = AuditRequest(prefix("192.0.2.17"), settings, ServerView((server.server,)))
            seen = await audit(request, resolver, checker)
        found = findings(seen)
        assert [finding.code for finding in found] == codes
        assert all(finding.severity is Severity.NOTE for finding in found)


async def test_c5_64_relays_are_looked_at() -> None:
    hosts = [f"r{n}.example.net" for n in range(70)]
    zone: Zone = {host: {"A": ["198.51.100.25"]} for host in hosts}
    zone |= {f"{n}.0.10.in-addr.arpa": {"MX": [f"10 {host}."]} for n, host in enumerate(hosts[:64])}
    zone["1.0.10.in-addr.arpa"] = {"MX": [f"10 {host}." for host in hosts[40:]]}
    finding = await one(zone, "not-all-relays", "10.0.0.0/18")
    assert finding.severity is Severity.NOTE


# --- the command, its relays really spoken to

HOSTS = {RELAY: "198.51.100.25", "refuses.example.net": "198.51.100.26", "dead.example.net": "198.51.100.27"}
SITE: Zone = {
    NET: {"MX": [f"{10 * n} {host}." for n, host in enumerate(HOSTS, 1)]},
    "3.0.192.in-addr.arpa": {"MX": [f"10 {RELAY}."]},
    **{host: {"A": [address]} for host, address in HOSTS.items()},
}


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Netns, Path]]:
    """A namespace with a name server and two relays, and a directory with a configuration for it."""
    with tempfile.TemporaryDirectory(prefix="salsa-audit-") as name, Netns() as space:
        where = Path(name)
        (where / "zone.json").write_text(json.dumps(SITE))
        (where / "salsa.toml").write_text('[dns]\nservers = ["192.0.2.53"]\ntimeout = 10.0\n[verify]\ntimeout = 20.0\n')
        space.batch([f"addr add {address}/32 dev lo" for address in ("192.0.2.53", *HOSTS.values())])
        programs = (
            ("dnsserver", "--listen", "192.0.2.53", str(where / "zone.json")),
            ("smtpserver", "--listen", HOSTS[RELAY], "--behaviour", "starttls"),
            ("smtpserver", "--listen", HOSTS["refuses.example.net"], "--behaviour", "554"),
        )
        outs: list[Path] = []
        for program, *argv in programs:
            outs.append(where / f"out{len(outs)}")
            with outs[-1].open("wb") as to:
                space.exec([sys.executable, "-m", f"tests.lab.{program}", *argv], cwd=PROJECT, stdout=to, stderr=to)
        for out in outs:
            until(out.read_text, lambda text: "ready" in text or "listening" in text)
        yield space, where


def salsactl(site: tuple[Netns, Path], *argv: str) -> Done:
    space, where = site
    with space.inside():
        done = subprocess.run(
            [*SALSACTL, "audit", "--config", where / "salsa.toml", *argv],
            check=False, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def test_d1_relays_that_refuse_or_do_not_answer(site: tuple[Netns, Path]) -> None:
    done = salsactl(site, "192.0.2.0/24")
    assert (done.status, done.err) == (1, "")
    text = " ".join(done.out.split())
    assert "The relay refuses.example.net, port 25, does not answer as it should: 198.51.100.26: greeting: " in text
    assert "554 5.3.2 no service for you" in text
    assert "198.51.100.27: connect: Connection refused" in text
    assert f"or remove it from the MX set at {NET}. If it refuses this host alone, audit from inside" in text
    assert text.endswith("2 faults.")
    assert re.search(rf"{RELAY}:25 +ok +yes\n", done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def test_status_0_without_faults(site: tuple[Netns, Path]) -> None:
    done = salsactl(site, "192.0.3.0/24")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("No faults.\n")
    assert "asked about 16 addresses, from 192.0.3.1 to 192.0.3.254" in done.out
    assert "/24    found    300  16           3.0.192.in-addr.arpa" in done.out


def test_no_verify_speaks_to_no_relay(site: tuple[Netns, Path]) -> None:
    done = salsactl(site, "192.0.2.0/24", "--no-verify")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("unverified") == 3
    _, where = site
    off = where / "off.toml"
    off.write_text((where / "salsa.toml").read_text() + "enabled = false\n")
    done = salsactl(site, "192.0.2.0/24", "--config", str(off))
    assert (done.status, done.out.count("unverified")) == (0, 3)


def test_json_has_the_documented_keys(site: tuple[Netns, Path]) -> None:
    done = salsactl(site, "192.0.2.0/23", "--json", "--samples", "2")
    told = json.loads(done.out)
    assert (done.status, done.err) == (1, "")
    assert list(told) == ["prefix", "names", "addresses", "published", "relays", "findings"]
    assert (told["prefix"], told["names"]) == ("192.0.2.0/23", 2)
    assert told["addresses"] == [
        {"address": "192.0.2.1", "outcome": "found", "level": 24, "name": NET},
        {"address": "192.0.3.254", "outcome": "found", "level": 24, "name": "3.0.192.in-addr.arpa"},
    ]
    [published] = [one for one in told["published"] if one["name"] == "3.0.192.in-addr.arpa"]
    assert published == {
        "name": "3.0.192.in-addr.arpa", "level": 24, "outcome": "found", "rcode": "NOERROR", "server": "192.0.2.53",
        "reason": "", "ttl": 300, "mx": [{"preference": 10, "exchange": f"{RELAY}."}],
    }  # fmt: skip
    assert told["relays"][0] == {
        "host": RELAY, "port": 25, "addresses": ["198.51.100.25"], "verdict": "ok", "starttls": True,
    }  # fmt: skip
    assert "554" in told["relays"][1]["reason"]
    assert [one["code"] for one in told["findings"]] == ["relay-failed"] * 2
    for finding in told["findings"]:
        assert list(finding) == ["severity", "code", "problem", "change", "names", "exchange", "addresses"]
    page = (PROJECT / "man" / "salsactl.1").read_text().partition(".Sh JSON OUTPUT")[2]
    keys = {*told, *told["addresses"][0], *published, *told["relays"][1], "starttls", *told["findings"][0]}
    assert {key for key in keys if not re.search(rf"\b{key}\b", page)} == set()


def test_progress_on_a_terminal_only_and_gone_at_the_end(site: tuple[Netns, Path]) -> None:
    space, where = site
    master, slave = pty.openpty()
    try:
        with space.inside():
            done = subprocess.run(
                [*SALSACTL, "audit", "192.0.2.0/24", "--config", where / "salsa.toml"],
                check=False, stdout=subprocess.PIPE, stderr=slave, stdin=subprocess.DEVNULL, timeout=PATIENCE,
            )  # fmt: skip
        os.close(slave)
        shown = b""
        while b"\r\x1b[K" not in shown:
            shown += os.read(master, 65536)
    finally:
        os.close(master)
    assert b"questions: 1 of " in shown
    assert b"relays: 3 of 3" in shown
    assert shown.endswith(b"\r\x1b[K")
    assert b"\x1b" not in done.stdout


def test_every_code_is_in_the_man_page() -> None:
    page = (PROJECT / "man" / "salsactl.1").read_text().partition(".Ss What an audit finds")[2].partition(".Sh")[0]
    modules = (PROJECT / "salsa_agent" / "oneshot" / "auditing").glob("*.py")
    source = "".join(module.read_text() for module in modules)
    codes = set(re.findall(r'^ +Severity\.[^\n]*,\n +"([a-z0-9-]+)",$', source, re.MULTILINE))
    assert len(codes) >= 17
    assert codes == set(
        re.findall(r"[a-z]+(?:-[a-z]+)+|refused(?= ,)", " ".join(re.findall(r"^\.It Li (.*)$", page, re.M)))
    )


async def test_bad_arguments_and_configuration(tmp_path: Path) -> None:
    async def run(*argv: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            *SALSACTL, "audit", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        return Done(process.returncode or 0, out.decode(), err.decode())

    for argv, words in (
        (["192.0.2.1/24"], "the prefix is 192.0.2.0/24"),
        (["here"], "is no IPv4 or IPv6 prefix"),
        (["192.0.2.0/24", "--samples", "1"], "from 2 to 4096"),
    ):
        done = await run(*argv)
        assert (done.status, done.out) == (2, "")
        assert words in done.err.splitlines()[-1]
    bad = tmp_path / "bad.toml"
    bad.write_text("[dns]\ntimeout = 900\n")
    refused(await run("192.0.2.0/24", "--config", str(bad)), 78, "dns.timeout")
    bad.write_text("[network]\nipv6_levels = []\n")
    refused(await run("2001:db8::/48", "--config", str(bad)), 78, "network.ipv6_levels is empty")


# --- B8: SRV records

TLS, STARTTLS = f"_submissions._tcp.{NET}", f"_submission._tcp.{NET}"


async def with_srv(zone: Mapping[str, Any], target: str = "192.0.2.0/24") -> tuple[Audit, dict[str, Finding]]:
    """What is found where SRV records are asked for."""
    async with dns_server({**GOOD, **zone}) as server:
        dns = Dns(servers=(server.server,), timeout=5.0, srv=True)
        request = AuditRequest(prefix(target), Settings(dns=dns), ServerView(dns.servers))
        seen = await audit(request, Resolver(dns), None)
    return seen, {finding.code: finding for finding in findings(seen)}


async def test_b8_srv_records_beside_an_mx_set_are_no_finding() -> None:
    seen, found = await with_srv({TLS: {"SRV": [f"10 0 465 {RELAY}."]}, STARTTLS: {"SRV": ["0 0 0 ."]}})
    assert found == {}
    assert [(relay.key.port, relay.srv) for relay in seen.choice.relays] == [(465, "submissions")]


async def test_b8_what_agents_drop_of_them() -> None:
    records = [f"10 0 465 {RELAY}.", "1 0 465 localhost.", "2 0 465 .", f"3 0 0 {RELAY}.", "4 0 465 gone.example.net."]
    _, found = await with_srv({TLS: {"SRV": records}})
    assert set(found) == {"no-host-name", "no-service-among-others", "no-port", "no-address"}
    assert found["no-port"].problem == f'"SRV 3 0 0 {RELAY}." at {TLS} has port 0, and is dropped.'
    assert found["no-address"].change == f"Add one, or remove gone.example.net from the SRV set at {TLS}."


async def test_b8_a_set_of_which_nothing_is_usable_hides_the_mx_set_beside_it() -> None:
    _, found = await with_srv({TLS: {"SRV": ["1 0 465 gone.example.net."]}})
    assert found["no-usable-exchange"].problem.startswith(f"No exchange of the SRV set at {TLS} is usable")
    _, found = await with_srv({TLS: {"SRV": ["1 0 465 gone.example.net."]}, STARTTLS: {"SRV": [f"1 0 587 {RELAY}."]}})
    assert "no-usable-exchange" not in found


async def test_b8_srv_records_that_most_hosts_do_not_ask_for_stand_alone() -> None:
    _, found = await with_srv({NET: {}, TLS: {"SRV": [f"1 0 465 {RELAY}."]}})
    assert found["no-mx-beside-srv"].severity is Severity.NOTE
    _, found = await with_srv({NET: {"MX": ["0 ."]}, TLS: {"SRV": [f"1 0 465 {RELAY}."]}})
    assert found == {}


async def test_b8_lookups_that_fail_and_levels_that_are_hidden() -> None:
    _, found = await with_srv({STARTTLS: "REFUSED"})
    assert found["lookup-failed"].problem.startswith(f"SRV questions at /24 fail for {STARTTLS}")
    above = {f"_submissions._tcp.{ABOVE}": {"SRV": [f"1 0 465 {RELAY}."]}}
    _, found = await with_srv({TLS: {"SRV": [f"1 0 465 {RELAY}."]}, **above})
    assert "hides-level" not in found
    _, found = await with_srv(above)
    assert found["hides-level"].names == (NET, f"_submissions._tcp.{ABOVE}")


def test_b8_the_option_asks_for_them_and_speaks_tls(site: tuple[Netns, Path]) -> None:
    assert json.loads(salsactl(site, "192.0.3.0/24", "--json").out)["published"][0].get("type") is None
    done = salsactl(site, "192.0.3.0/24", "--json", "--submissions", "--no-verify")
    told = json.loads(done.out)
    assert (done.status, done.err) == (0, "")
    kinds = {(one["name"], one.get("type")) for one in told["published"]}
    assert ("_submissions._tcp.3.0.192.in-addr.arpa", "SRV") in kinds
    assert ("3.0.192.in-addr.arpa", None) in kinds
