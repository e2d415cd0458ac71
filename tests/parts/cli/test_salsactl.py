"""`salsactl` as a user has it: the real process and service on a real bus, with made-up relays."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser

from salsa_agent.bus import message as wire
from salsa_agent.bus.api import Explanation, InvalidArgs, LimitsExceeded, NoSuchRelay
from salsa_agent.bus.codec import Value
from salsa_agent.bus.interface import INTERFACE, PATH, PROPERTY_TYPES
from salsa_agent.cli.salsactl.main import main
from salsa_agent.core.model import (
    Answer,
    Asked,
    Best,
    ListedRelay,
    Outcome,
    Publication,
    Question,
    Relay,
    RelayKey,
    RRType,
    SenderChoice,
    Source,
    State,
    Verdict,
)
from tests.lab.bus import PATIENCE, PROJECT, Bus, Done, RawClient, system_bus
from tests.lab.busagent import Agent, serving
from tests.parts.cli import samples as say

OPENMETRICS: Any = parser  # it says that it has types, but not which
PROMETHEUS: Any = text_parser
SALSACTL = [
    "env",
    f"PYTHONPATH={PROJECT}",
    sys.executable,
    "-m",
    "salsa_agent.cli.salsactl.main",
]  # this tree, whatever is installed


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus() as running:
        yield running


async def ctl(bus: Bus, *argv: str, **environment: str) -> Done:
    extra = [f"{name}={value}" for name, value in environment.items()]
    return await bus.run(["env", *extra, *SALSACTL, *argv])


def refused(done: Done, status: int, *words: str) -> None:
    """It ended with this status and one line that holds the words; no traceback."""
    assert done.status == status, done
    assert done.out == ""
    assert re.fullmatch(r"salsactl: [^\n]+\n", done.err), done.err
    for word in words:
        assert word in done.err


# --- best


async def test_best_prints_host_and_port(bus: Bus) -> None:
    async with serving(bus, say.WHOLE):
        assert await ctl(bus, "best") == Done(0, "vertex.tor.hookup.net:25\n", "")


async def test_best_literal_ipv6_in_brackets(bus: Bus) -> None:
    async with serving(bus, replace(say.WHOLE, best=Best("2001:db8:53::25", 587, Source.LINK))):
        assert (await ctl(bus, "best")).out == "[2001:db8:53::25]:587\n"


async def test_best_status_1_when_there_is_none(bus: Bus) -> None:
    async with serving(bus, say.NOTHING):
        refused(await ctl(bus, "best"), 1, "no relay")
        done = await ctl(bus, "best", "--json")
        none = {"BestRelay": "", "BestRelayPort": 0, "BestRelaySource": "none", "BestRelayTls": ""}
        assert (done.status, json.loads(done.out)) == (1, {"host": "", "port": 0, "source": "none", "tls": ""} | none)


# --- JSON


async def test_json_is_the_dbus_values_before_or_after_the_command(bus: Bus) -> None:
    async with serving(bus, say.WHOLE) as agent:
        agent.requests.explanation = say.EXPLAINED
        status = json.loads((await ctl(bus, "status", "--json")).out)
        assert status.keys() == PROPERTY_TYPES.keys()
        assert status["BestRelay"] == "vertex.tor.hookup.net"
        assert status["Relays"][3]["starttls"] is True
        assert status["Relays"][4] == {
            "host": "smtp.clear.net.nz", "port": 25, "source": "static", "verdict": "unverified",
        }  # fmt: skip
        assert json.loads((await ctl(bus, "--json", "status")).out) == status
        best = json.loads((await ctl(bus, "--json", "best")).out)
        assert best == {"host": "vertex.tor.hookup.net", "port": 25, "source": "dns", "tls": status["BestRelayTls"]} | {
            name: status[name] for name in ("BestRelay", "BestRelayPort", "BestRelaySource", "BestRelayTls")
        }
        explained = json.loads((await ctl(bus, "explain", "--json")).out)
        assert explained.keys() == {"questions", "dropped"}
        assert explained["dropped"][1] == {
            "host": "localhost", "rule": "C2", "reason": "a single label", "name": say.NAME_16, "address": str(say.V4),
        }  # fmt: skip
        for argv in (["refresh", "--json"], ["--json", "report-failure", "a.example"]):
            assert await ctl(bus, *argv) == Done(0, "{}\n", "")


# --- status and explain


async def test_status_at_80_columns(bus: Bus) -> None:
    async with serving(bus, say.WHOLE):
        out = (await ctl(bus, "status")).out
    lines = out.splitlines()
    assert {line.split()[0] for line in lines if len(line) > 80} <= {f"{say.LONG_HOST}:25"}  # a name is never cut
    assert "\x1b" not in out
    starred = [line for line in lines if line.startswith("*")]
    assert [line.split()[1:3] for line in starred] == [["vertex.tor.hookup.net:25", "ok"]]
    order = [f"  {say.LONG_HOST}:25", "  [2001:db8:53::25]:587", "  noc.tor", "* vertex.tor", "  smtp.clear.net.nz"]
    places = [out.index(f"\n{one}") for one in order]
    assert places == sorted(places)
    for fact in (
        "connection refused",
        f"dns {say.V4} on ppp0 at /16, {say.NAME_16}",
        "State  degraded",
        "the first of the list that is ok after 3 that failed",
        say.NAME_128,
        "203.0.113.9",
        "ppp0 (nat)",
    ):
        assert fact in out
    (minutes,) = set(re.findall(r"in (\d+) min", out))
    assert -PATIENCE < say.START + 3540 - time.time() - 60 * int(minutes) < 60, "what is left of 59 minutes"
    assert re.search(r"Since  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(.* ago\)", out)


async def test_status_with_nothing(bus: Bus) -> None:
    async with serving(bus, say.NOTHING):
        out = (await ctl(bus, "status")).out
    assert "Relay  none" in out
    assert "offline" in out
    assert "Since" not in out


async def test_explain_shows_each_question_and_each_drop(bus: Bus) -> None:
    async with serving(bus, say.WHOLE) as agent:
        agent.requests.explanation = say.EXPLAINED
        out = (await ctl(bus, "explain")).out
        ladder = out[out.index("165.154.15.1 on ppp0: found at /16") :]
        rows = [line.split() for line in ladder.splitlines()[2:5]]
        assert rows == [
            ["/32", "none", "NXDOMAIN", "10.0.0.53", "12", "ms", "300", say.NAME_32],
            ["/24", "failed", "SERVFAIL", "10.0.0.53", "12", "ms", say.NAME_24],
            ["*", "/16", "found", "NOERROR", "10.0.0.53", "12", "ms", "3600", say.NAME_16],
        ]
        assert re.search(r"A +found +NOERROR +10\.0\.0\.53 +1\.2 s +60 +noc\.tor\.hookup\.net", out)
        assert re.search(r"C4 +mail\.tor\.hookup\.net +has the own address 165\.154\.15\.1", out)
        assert re.search(r"C2 +localhost +a single label", out)
        assert "No question" not in out


async def test_explain_says_so_where_nothing_was_asked(bus: Bus) -> None:
    """As on a host that is offline (E6): it said what status says, and not that this is all."""
    async with serving(bus, say.NOTHING) as agent:
        agent.requests.explanation = Explanation([], [])
        done = await ctl(bus, "explain")
        assert done.out.endswith("State  offline: no address that counts\n\nNo question was asked.\n")
        assert (done.status, done.err) == (0, "")
        assert json.loads((await ctl(bus, "explain", "--json")).out) == {"questions": [], "dropped": []}


# --- what is written for a terminal

EVIL = "a\x1b[2J\x9b31m\u202eb\r\n"


async def test_control_characters_never_reach_the_terminal(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salsa_agent.bus.convert.clean", str)  # an agent that lets everything through
    evil = say.NOC._replace(name=EVIL, address=EVIL, interface=EVIL, key=say.NOC.key._replace(host=EVIL))
    said = replace(
        say.WHOLE, best=Best(EVIL, 25, Source.DNS), relays=(ListedRelay(evil, Verdict.FAILED, EVIL),),
        evidence=(say.WHOLE.evidence[0]._replace(name=EVIL),),
    )  # fmt: skip
    async with serving(bus, said) as agent:
        agent.requests.explanation = Explanation(
            [one._replace(answer=one.answer._replace(server=EVIL, rcode=EVIL)) for one in say.EXPLAINED.questions],
            [one._replace(host=EVIL, reason=EVIL, name=EVIL, address=EVIL) for one in say.EXPLAINED.dropped],
        )
        agent.requests.error = None
        for argv in (
            ["status"],
            ["explain"],
            ["status", "--json"],
            ["explain", "--json"],
        ):
            done = await ctl(bus, *argv, PYTHONUTF8="1")
            assert done.status == (1 if "status" in argv else 0), done  # it has failed
            assert done.out.count("a?[2J?31m?b??") or "--json" in argv
            assert all(c.isprintable() or c == "\n" for c in done.out), argv
        agent.requests.error = InvalidArgs(EVIL)
        refused(await ctl(bus, "report-failure", "a.example"), 1, "?[2J")


@pytest.mark.parametrize("host", [EVIL, "a$(id)", "a;b", "a|ok=9", "-oProxyCommand=x", "a b", "é"])
async def test_a_host_that_is_none_is_refused_where_programs_read(
    bus: Bus, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("salsa_agent.bus.convert.clean", lambda text: str(text).replace("\0", ""))
    ran = tmp_path / "ran"
    async with serving(bus, replace(say.WHOLE, best=Best(host, 25, Source.DNS))):
        for argv in (
            ["best"],
            ["best", "--json"],
            ["best", "--wait=5"],
            ["watch", "--exec", f"touch {ran}"],
            ["watch", "--events"],
            ["check"],
        ):
            done = await ctl(bus, *argv, PYTHONUTF8="1")
            if argv == ["check"]:  # 1 would mean WARNING to a monitor, and it shows what is on standard output
                assert (done.status, done.err) == (3, "")
                assert done.out.startswith("SALSA UNKNOWN - the agent names a host that is none: ")
                assert "|" not in done.out, "performance data that anybody who has the name could make up"
            else:
                assert (done.status, done.out) == (1, ""), done
                assert "names a host that is none" in done.err
    assert not ran.exists()


async def test_a_relay_without_a_port_is_refused_where_programs_read(bus: Bus) -> None:
    async with serving(bus, replace(say.WHOLE, best=Best("a.example", 0, Source.DNS))):
        for argv in (["best"], ["watch"]):
            refused(await ctl(bus, *argv), 1, "the agent names a relay without a port: a.example")


@pytest.mark.parametrize(
    "argv", [["status"], ["explain"], ["best", "--sender=a@b.example"], ["watch", "--events"], ["check"], ["metrics"]]
)
async def test_who_has_the_name_and_is_no_agent_is_told_from_it(
    bus: Bus, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a session bus anybody may have the name: entries without what they have to hold are one line."""
    for kind in ("relay", "asked", "sender"):
        monkeypatch.setattr(f"salsa_agent.bus.convert.{kind}", lambda *_: {"port": Value("s", "x")})
    async with serving(bus, replace(say.WHOLE, senders=(SenderChoice(("*",)),))) as agent:
        agent.requests.explanation = say.EXPLAINED
        done = await ctl(bus, *argv)
    assert done.status == (3 if argv == ["check"] else 1)
    assert "is no salsa-agent" in done.out + done.err
    assert "Traceback" not in done.err


async def on_terminal(bus: Bus, argv: list[str], columns: int = 80, **environment: str) -> str:
    """What a program writes when standard output is a terminal."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *SALSACTL,
            *argv,
            stdout=slave,
            stdin=slave,
            env={key: value for key, value in bus.environment.items() if key not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm", "NO_COLOR": ""}
            | environment,
        )
        read = asyncio.get_running_loop().run_in_executor(None, _read_all, master)
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        finally:
            os.close(slave)
            if process.returncode is None:
                process.kill()
                await process.wait()
            out = await read
        return out
    finally:
        os.close(master)


def _read_all(master: int) -> str:
    got = bytearray()
    while True:
        try:
            more = os.read(master, 4096)
        except OSError:  # EIO: the last writer has closed it
            return got.decode()
        if not more:
            return got.decode()
        got += more


async def test_colour_only_on_a_terminal_and_not_with_no_color(bus: Bus) -> None:
    async with serving(bus, say.WHOLE):
        assert "\x1b[31mfailed" in await on_terminal(bus, ["status"])
        assert "\x1b" not in await on_terminal(bus, ["status"], NO_COLOR="1")
        assert "\x1b" not in await on_terminal(bus, ["status"], TERM="dumb")
        wide = await on_terminal(bus, ["status"], columns=160)
        assert f"on wlp0s20f3 at /128, {say.NAME_128}" in wide


# --- status: how it ends, senders, TLS


@pytest.mark.parametrize(
    ("best", "verdict", "status"),
    [
        ("a.example", Verdict.OK, 0),
        ("a.example", Verdict.UNVERIFIED, 0),
        ("a.example", Verdict.FAILED, 1),
        ("", None, 1),
    ],
)
async def test_status_ends_with_1_without_a_relay_that_may_work(
    bus: Bus, best: str, verdict: Verdict | None, status: int
) -> None:
    relay = Relay(RelayKey("a.example", 25), Source.STATIC)
    listed = (ListedRelay(relay, verdict),) if verdict else ()
    shown = Publication(State.READY, Best(best, 25, Source.STATIC) if best else Best(), listed)
    async with serving(bus, shown):
        assert (await ctl(bus, "status")).status == status
        assert (await ctl(bus, "status", "--json")).status == status


HOME_KEY = RelayKey("smtp.home.example", 465)
HOME = SenderChoice(
    ("*@home.example", "me@b.example"), "never", Best(*HOME_KEY, Source.SENDER),
    (ListedRelay(Relay(HOME_KEY, Source.SENDER), Verdict.OK),), True,
)  # fmt: skip
LATE = SenderChoice(("*@late.example",), "last")


async def test_c11_status_shows_senders_sites_and_tls(bus: Bus) -> None:
    site = ListedRelay(
        Relay(RelayKey("mail.corp.example", 25), Source.SITE, site="office", interface="eth0"), Verdict.OK,
        tls="starttls", wants_auth=True,
    )  # fmt: skip
    said = replace(say.WHOLE, relays=(site, *say.WHOLE.relays), senders=(HOME, LATE))
    async with serving(bus, said) as agent:
        agent.requests.explanation = say.EXPLAINED
        for command in ("status", "explain"):
            out = (await ctl(bus, command)).out
            assert re.search(r"\*@home\.example me@b\.example +smtp\.home\.example:465 +sender +implicit", out)
            assert re.search(r"\*@late\.example +none yet", out)
            assert 'site "office" on eth0' in out
            assert re.search(r"mail\.corp\.example:25 +ok +starttls", out)
            assert "wants a password" in out


# --- best: waiting, senders


@pytest.mark.parametrize(
    ("sender", "host"),
    [("me@HOME.example", "smtp.home.example:465"), ("me@b.example", "smtp.home.example:465"),
     ("you@b.example", "vertex.tor.hookup.net:25"), ("", "vertex.tor.hookup.net:25"),
     ("<>", "vertex.tor.hookup.net:25")],
)  # fmt: skip
async def test_c11_best_of_a_sender(bus: Bus, sender: str, host: str) -> None:
    async with serving(bus, replace(say.WHOLE, senders=(HOME, LATE))):
        assert await ctl(bus, "best", "--sender", sender) == Done(0, f"{host}\n", "")


async def test_c11_best_of_a_sender_without_a_relay(bus: Bus) -> None:
    async with serving(bus, replace(say.WHOLE, senders=(HOME, LATE))):
        refused(await ctl(bus, "best", "--sender", "me@late.example"), 1, "no relay for this sender")
        done = await ctl(bus, "best", "--json", "--sender", "me@home.example")
        assert json.loads(done.out) == {"host": "smtp.home.example", "port": 465, "source": "sender", "tls": "implicit"}


@pytest.mark.parametrize("state", [State.STARTING, State.RESOLVING])
async def test_best_wait_returns_at_the_decision(bus: Bus, state: State) -> None:
    old = Best("old.example", 25, Source.DNS) if state is State.RESOLVING else Best()
    async with serving(bus, Publication(state, old)) as agent:
        assert (await ctl(bus, "best")).out == ("old.example:25\n" if old.host else "")
        async with Watching(bus, "best", "--wait") as waiting:
            agent.publish(Publication(state, old, evidence=say.WHOLE.evidence))  # a change, but no decision
            agent.publish(best("new.example"))
            assert await waiting.line() == "new.example:25"
            assert await waiting.end() == 0


async def test_best_wait_ends_with_75_in_time(bus: Bus) -> None:
    async with serving(bus, Publication(State.RESOLVING, Best("old.example", 25, Source.DNS))):
        refused(await ctl(bus, "best", "--wait=0.2"), 75, "not decided in time")
        refused(await ctl(bus, "best", "--wait", "0"), 75)
        refused(await ctl(bus, "best", "--json", "--wait=0"), 75)
    async with serving(bus, say.NOTHING):
        refused(await ctl(bus, "best", "--wait=9"), 1, "no relay (offline)")  # that is a decision
    refused(await ctl(bus, "--bus", "system", "best", "--wait=9"), 69)


async def test_best_wait_of_no_time_has_a_decision_that_is_there(bus: Bus) -> None:
    """75 is for a state that still is `starting` or `resolving`."""
    async with serving(bus, replace(say.WHOLE, senders=(HOME, LATE))):
        for seconds in ("0", "0.001"):
            assert await ctl(bus, "best", f"--wait={seconds}") == Done(0, "vertex.tor.hookup.net:25\n", "")
        assert (await ctl(bus, "best", "--wait=0", "--sender", "me@home.example")).out == "smtp.home.example:465\n"
        refused(await ctl(bus, "best", "--wait=0", "--sender", "me@late.example"), 1, "no relay for this sender")
    async with serving(bus, say.NOTHING):
        refused(await ctl(bus, "best", "--wait=0"), 1, "no relay (offline)")
    refused(await ctl(bus, "--bus", "system", "best", "--wait=0"), 69)


async def test_best_wait_of_a_sender_waits_for_its_list(bus: Bus) -> None:
    async with (
        serving(bus, replace(say.WHOLE, senders=(HOME._replace(best=Best(), relays=(), decided=False),))) as agent,
        Watching(bus, "best", "--wait", "--sender", "me@home.example") as waiting,
    ):
        await agent_was_asked(agent)
        agent.publish(replace(say.WHOLE, senders=(HOME,)))
        assert await waiting.line() == "smtp.home.example:465"


async def agent_was_asked(agent: Agent) -> None:
    """Wait until somebody has read the properties."""
    async with asyncio.timeout(PATIENCE):
        while not agent.service._properties._values:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf", "1e9"])
def test_best_wait_takes_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(["best", f"--wait={seconds}"], capsys)


@pytest.mark.parametrize("sender", ["a" * 321, "a\nb"])
def test_c11_a_sender_has_at_most_320_characters_and_no_control_character(
    sender: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usage_error(["best", "--sender", sender], capsys)
    usage_error(["watch", "--sender", sender], capsys)


# --- check and metrics


def state(now: State, verdict: Verdict | None, source: Source = Source.DNS, *others: ListedRelay) -> Publication:
    relay = Relay(RelayKey("a.example", 25), source)
    if verdict is None:
        return Publication(now, Best(), others)
    return Publication(now, Best("a.example", 25, source), (ListedRelay(relay, verdict), *others))


FAILED_STATIC = ListedRelay(Relay(RelayKey("s.example", 25), Source.STATIC), Verdict.FAILED)
FAILED_DNS = ListedRelay(Relay(RelayKey("d.example", 25), Source.DNS), Verdict.FAILED)


@pytest.mark.parametrize(
    ("publication", "status"),
    [
        (state(State.READY, Verdict.OK), 0),
        (state(State.READY, Verdict.UNVERIFIED, Source.STATIC), 0),
        (state(State.READY, None), 0),
        (state(State.DEGRADED, Verdict.OK), 1),
        (state(State.RESOLVING, Verdict.OK), 1),
        (state(State.STARTING, None), 1),
        (state(State.READY, Verdict.FAILED, Source.STATIC), 2),
        (state(State.DEGRADED, Verdict.FAILED, Source.STATIC), 2),
        (state(State.RESOLVING, Verdict.FAILED, Source.STATIC), 2),
        (state(State.READY, None, Source.DNS, FAILED_STATIC), 2),
        (state(State.DEGRADED, None, Source.DNS, FAILED_DNS), 2),
        (state(State.RESOLVING, None), 2),
        (state(State.OFFLINE, None), 2),
        (state(State.OFFLINE, Verdict.UNVERIFIED, Source.STATIC), 2),
    ],
)
async def test_check_says_one_line_in_the_convention_of_nagios(bus: Bus, publication: Publication, status: int) -> None:
    async with serving(bus, publication):
        done = await ctl(bus, "check")
        word = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[status]
        listed = publication.relays
        counts = [len(listed), *(sum(one.verdict is kind for one in listed) for kind in (Verdict.OK, Verdict.FAILED))]
        assert (done.status, done.err) == (status, "")
        pattern = rf"SALSA {word} - [^|\n]+\|relays={counts[0]} ok={counts[1]} failed={counts[2]}\n"
        assert re.fullmatch(pattern, done.out), done.out
        assert json.loads((await ctl(bus, "check", "--json")).out)["code"] == status


async def test_c12_check_is_critical_where_a_configured_domain_names_no_relay(bus: Bus) -> None:
    """0 is for no relay and none configured; an `srv:` entry that stands for nothing is configured."""
    nothing = Answer(Outcome.NONE, rcode="NXDOMAIN", server="10.0.0.53")

    def asked(name: str) -> Explanation:
        return Explanation([Asked(Question(name, RRType.SRV, ()), nothing)], [])

    async with serving(bus, state(State.READY, None)) as agent:
        agent.requests.explanation = asked("_submissions._tcp.15.154.165.in-addr.arpa")  # dns.srv: the network's
        assert (await ctl(bus, "check")).status == 0
        agent.requests.explanation = asked("_submissions._tcp.home.example")
        done = await ctl(bus, "check")
        assert done.status == 2
        assert done.out.startswith("SALSA CRITICAL - there is no relay, _submissions._tcp.home.example names none, ")
        agent.publish(replace(state(State.READY, None), senders=(HOME,)))  # it may be the sender's
        assert (await ctl(bus, "check")).status == 0


async def test_check_is_unknown_without_an_agent_and_for_bad_usage(bus: Bus) -> None:
    done = await ctl(bus, "--bus", "system", "check")
    assert (done.status, done.out.startswith("SALSA UNKNOWN - no agent runs")) == (3, True)
    done = await ctl(bus, "--bus", "system", "--json", "check")
    text = "no agent runs on the system bus"
    assert (done.status, json.loads(done.out)) == (3, {"status": "UNKNOWN", "code": 3, "text": text})
    for argv in (["check", "--nonsense"], ["--bus", "nonsense", "check"], ["check", "x"], ["--bus", "check"]):
        done = await ctl(bus, *argv)
        assert (done.status, done.out) == (3, "SALSA UNKNOWN - bad usage\n")
    for argv in (["lookup", "check"], ["--json", "best", "--sender", "check", "--nonsense"]):
        done = await ctl(bus, *argv)
        assert (done.status, done.out) == (2, ""), "another command's argument is no command"


async def test_metrics_are_openmetrics(bus: Bus) -> None:
    async with serving(bus, say.WHOLE):
        done = await ctl(bus, "metrics")
        counters = json.loads((await ctl(bus, "status", "--json")).out)["Statistics"]
    assert done.status == 0
    families = {family.name: family for family in OPENMETRICS.text_fd_to_metric_families(io.StringIO(done.out))}
    assert done.out.endswith("# EOF\n")
    states = {sample.labels["salsa_state"]: sample.value for sample in families["salsa_state"].samples}
    assert states == {"starting": 0, "offline": 0, "resolving": 0, "degraded": 1, "ready": 0}
    assert families["salsa_state"].type == "stateset"
    verdicts = {sample.labels["verdict"]: sample.value for sample in families["salsa_relays"].samples}
    assert verdicts == {"ok": 1, "failed": 3, "unverified": 1}
    for name in counters.keys() - {"started"}:
        assert families[f"salsa_{name}"].type == "counter"
        (sample,) = families[f"salsa_{name}"].samples
        assert (sample.name, sample.value) == (f"salsa_{name}_total", counters[name])
    (sample,) = families["salsa_start_time_seconds"].samples
    assert sample.value == pytest.approx(counters["started"] / 1e6)


async def test_metrics_print_nothing_without_an_agent(bus: Bus) -> None:
    refused(await ctl(bus, "--bus", "system", "metrics"), 69)


async def test_metrics_in_a_file_are_of_the_text_format_of_prometheus(bus: Bus, tmp_path: Path) -> None:
    """node_exporter's collector knows no stateset, and no family whose samples are named otherwise."""
    file = tmp_path / "salsa.prom"
    file.write_text("old")
    old = os.umask(0o077)
    try:
        async with serving(bus, say.WHOLE):
            done = await ctl(bus, "metrics", "--textfile", str(file))
            counters = json.loads((await ctl(bus, "status", "--json")).out)["Statistics"]
    finally:
        os.umask(old)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["salsa.prom"]
    assert file.stat().st_mode & 0o777 == 0o644
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in PROMETHEUS.text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    assert values["salsa_up",] == 1
    assert [values["salsa_state", state] for state in ("ready", "degraded")] == [0, 1]
    assert values["salsa_relays", "failed"] == 3
    assert {name: values[f"salsa_{name}_total",] for name in counters.keys() - {"started"}} == {
        name: counters[name] for name in counters.keys() - {"started"}
    }
    kinds = dict(line.split()[2:] for line in file.read_text().splitlines() if line.startswith("# TYPE"))
    assert set(kinds.values()) == {"gauge", "counter"}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        f"salsa_{name}_total" for name in counters.keys() - {"started"}
    }


async def test_metrics_in_a_file_say_that_no_agent_runs(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "salsa.prom"
    refused(await ctl(bus, "--bus", "system", "metrics", "--textfile", str(file)), 69)
    assert file.read_text().splitlines()[-1] == "salsa_up 0"
    assert "salsa_state" not in file.read_text()


async def test_metrics_in_a_file_though_a_run_with_the_same_number_was_killed(bus: Bus, tmp_path: Path) -> None:
    """In a container each run has the number of the last one: none after it wrote the file."""
    words = f'touch {tmp_path}/.salsa.prom.$$.new; exec "$@" --bus system metrics --textfile {tmp_path}/salsa.prom'
    async with serving(bus, say.WHOLE):
        done = await bus.run(["sh", "-c", words, "sh", *SALSACTL])
    assert (done.status, done.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["salsa.prom"]


async def test_metrics_in_a_file_that_cannot_be_written_is_one_line(bus: Bus, tmp_path: Path) -> None:
    nowhere = tmp_path / "none" / "salsa.prom"
    async with serving(bus, say.WHOLE):
        refused(await ctl(bus, "metrics", "--textfile", str(nowhere)), 1, f"cannot write {nowhere}: No such file")
        refused(await ctl(bus, "--json", "metrics", "--textfile", str(nowhere)), 2, "without --json")


# --- refresh and report-failure


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("a.example", "a.example", 25),
        ("a.example:587", "a.example", 587),
        ("192.0.2.1:26", "192.0.2.1", 26),
        ("2001:db8::25", "2001:db8::25", 25),
        ("[2001:db8::25]", "2001:db8::25", 25),
        ("[2001:db8::25]:465", "2001:db8::25", 465),
    ],
)
async def test_report_failure_forms(bus: Bus, given: str, host: str, port: int) -> None:
    async with serving(bus) as agent:
        assert await ctl(bus, "report-failure", given, "no luck") == Done(0, "", "")
        assert agent.requests.asked == [("report_failure", host, port, "no luck", 0)]


@pytest.mark.parametrize(
    "given", ["", "a:0", "a:65536", "a:x", "a:", ":25", "[a]:25", "[::1", "[::1]x", "1:2:3", "a:\u0663", "\udcff"]
)
def test_report_failure_bad_relay_is_a_usage_error(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(["report-failure", given], capsys)


@pytest.mark.parametrize(
    "error", [NoSuchRelay("It is not in the list."), LimitsExceeded("Too many."), InvalidArgs("No.")]
)
async def test_errors_of_the_agent_are_one_line_and_status_1(bus: Bus, error: Exception) -> None:
    async with serving(bus, say.WHOLE) as agent:
        agent.requests.error = error
        listed = ("vertex.tor.hookup.net:25", "[2001:db8:53::25]:587")
        refused(await ctl(bus, "report-failure", "a.example"), 1, "a.example:25", str(error), *listed)


async def test_report_failure_names_no_list_for_a_relay_that_is_in_it(bus: Bus) -> None:
    async with serving(bus, say.WHOLE) as agent:
        agent.requests.error = LimitsExceeded("Too many.")
        done = await ctl(bus, "report-failure", "noc.tor.hookup.net")
        assert done == Done(1, "", "salsactl: noc.tor.hookup.net:25: Too many.\n")


async def test_refresh_returns_at_the_decision(bus: Bus) -> None:
    async with serving(bus) as agent:
        agent.requests.gate.clear()
        running = asyncio.create_task(ctl(bus, "refresh"))
        async with asyncio.timeout(PATIENCE):
            while not agent.requests.now:
                await asyncio.sleep(0.01)
        assert not running.done()
        agent.requests.gate.set()
        assert await running == Done(0, "", "")


# --- buses and exit statuses


async def test_status_69_and_one_line_when_no_agent_runs(bus: Bus) -> None:
    for argv in (["status"], ["best"], ["watch"], ["refresh"], ["explain"], ["report-failure", "a.example"]):
        refused(await ctl(bus, "--bus", "system", *argv), 69, "no agent runs on the system bus")
    refused(await ctl(bus, "--bus", bus.address, "best"), 69, "no agent runs", "--bus unix:path=")  # what to do
    refused(await ctl(bus, "best", DBUS_SESSION_BUS_ADDRESS="unix:path=/nonexistent"), 69, "no agent runs")


async def test_status_69_without_any_bus(bus: Bus, tmp_path: Path) -> None:
    nowhere = f"unix:path={tmp_path}/none"
    buses = {"DBUS_SYSTEM_BUS_ADDRESS": nowhere, "DBUS_SESSION_BUS_ADDRESS": nowhere}
    for where in ("auto", "session", nowhere):
        refused(await ctl(bus, "--bus", where, "best", **buses), 69)
    buses = {"DBUS_SESSION_BUS_ADDRESS": "", "XDG_RUNTIME_DIR": ""}
    refused(await ctl(bus, "--bus", "session", "best", **buses), 69, "no session bus")


@pytest.mark.needs("namespaces")
async def test_status_69_where_no_directory_for_temporary_files_can_be_written(bus: Bus) -> None:
    """As in a container with a read-only root, or where all is full: what was said was a traceback."""
    words = "for d in /tmp /var/tmp /usr; do mount --bind $d $d; mount -o remount,bind,ro $d; done; cd /usr; exec "
    nowhere = "PYTHONDONTWRITEBYTECODE=1 DBUS_SYSTEM_BUS_ADDRESS=unix:path=/no/system DBUS_SESSION_BUS_ADDRESS="
    for command in (["best"], ["watch"], ["metrics"]):
        inside = words + " ".join(["env -u TMPDIR -u XDG_RUNTIME_DIR", nowhere, *SALSACTL[1:], *command])
        done = await bus.run(["unshare", "--mount", "sh", "-c", inside])
        refused(done, 69, "no agent runs")
        elsewhere = "you have one on a bus of its own: --bus unix:path=/tmp/"  # where another test has one at the time
        assert "systemctl start" in done.err or elsewhere in done.err


async def test_auto_takes_the_bus_on_which_the_name_has_an_owner(bus: Bus) -> None:
    other = replace(say.WHOLE, best=Best("other.example", 25, Source.STATIC))
    with system_bus() as second:
        async with serving(second, other):
            assert (await ctl(bus, "best", DBUS_SESSION_BUS_ADDRESS=second.address)).out == "other.example:25\n"
            async with serving(bus, say.WHOLE):
                assert (await ctl(bus, "best", DBUS_SESSION_BUS_ADDRESS=second.address)).out.startswith("vertex.")
                session = await ctl(bus, "best", "--bus", "session", DBUS_SESSION_BUS_ADDRESS=second.address)
                assert session.out == "other.example:25\n"
                assert (await ctl(bus, "--bus", second.address, "best")).out == "other.example:25\n"


async def test_auto_takes_the_bus_on_which_the_name_is_activatable(bus: Bus) -> None:
    (bus.directory / "services" / "org.salsa.Agent1.service").write_text(
        "[D-BUS Service]\nName=org.salsa.Agent1\nExec=/bin/false\nUser=root\n"
    )
    daemon = "org.freedesktop.DBus"
    await bus.busctl("call", daemon, "/org/freedesktop/DBus", daemon, "ReloadConfig")
    with system_bus() as second:
        async with serving(second, say.WHOLE):
            done = await ctl(bus, "best", DBUS_SESSION_BUS_ADDRESS=second.address)
    refused(done, 69, "no agent runs on the system bus")  # the first bus was asked to start it


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["stat"],
        ["best", "x"],
        ["--bus", "nonsense", "best"],
        ["watch", "--exec", "a 'b"],
        ["watch", "--exec", ""],
        ["lookup", "nonsense"],
        ["lookup", "fe80::1%eth0"],
        ["report-failure"],
        ["zone", "--bus", "system", "192.0.2.0/24", "--refuse"],
        ["audit", "--bus", "system", "192.0.2.0/24"],
    ],
)
def test_usage_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(argv, capsys)


def usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: salsactl")


def test_a_defect_is_one_line_and_status_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def examine(*_: Any) -> None:
        logging.getLogger("salsa-agent").error("a probe\nfailed", exc_info=ValueError("no"))
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("salsa_agent.oneshot.doctor.examine.examine", examine)
    monkeypatch.setattr(logging.root, "handlers", [])
    assert main(["doctor", "--config", "/dev/null"]) == 70
    logged, said = capsys.readouterr().err.splitlines()
    assert logged == "salsactl: a probe?failed (ValueError: no)"
    assert said.startswith("salsactl: internal error: doctor: ZeroDivisionError: division?by zero (test_salsactl.py:")


async def test_closed_or_full_output_is_no_traceback(bus: Bus) -> None:
    async with serving(bus, say.WHOLE):
        for command in ("best", "status --json"):
            script = f"{' '.join(SALSACTL)} {command}"
            done = await bus.run(["bash", "-c", f"{script} | true; echo ${{PIPESTATUS[0]}}"])
            assert done.err == ""
            assert done.out in ("141\n", "0\n")  # 0: it had written before `true` ended
            refused(await bus.run(["sh", "-c", f"{script} >/dev/full"]), 1, "No space left")
            assert (await bus.run(["sh", "-c", f"{script} >&-"])).err == ""


async def test_best_is_quick_to_start() -> None:
    """No command but `lookup` loads the DNS or netlink libraries."""
    script = "import sys, salsa_agent.cli.salsactl.main; print(*[n for n in ('dns', 'pyroute2') if n in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"\n"


# --- watch


class Watch:
    """A running `salsactl watch`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def complaint(self) -> str:
        assert self.process.stderr
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stderr.readline()).decode().rstrip("\n")

    async def end(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


class Watching:
    """`async with Watching(bus, ...) as watch`."""

    def __init__(self, bus: Bus, *argv: str, **environment: str) -> None:
        self.argv = argv
        self.environment = bus.environment | environment

    async def __aenter__(self) -> Watch:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *SALSACTL, *self.argv, stdout=pipe, stderr=pipe, env=self.environment
        )
        return Watch(self.process)

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


def best(host: str, port: int = 25) -> Publication:
    return Publication(State.READY, Best(host, port, Source.STATIC if host else Source.NONE), changed=float(len(host)))


async def test_watch_prints_the_relay_now_then_a_line_for_each_change(bus: Bus) -> None:
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch") as watch:
        assert await watch.line() == "a.example:25"
        agent.publish(replace(best("a.example"), state=State.RESOLVING))  # no change of the relay
        for host in ("b.example", "2001:db8::1", "", "a.example"):
            agent.publish(best(host, 0 if not host else 587))
        assert [await watch.line() for _ in range(4)] == ["b.example:587", "[2001:db8::1]:587", "none", "a.example:587"]
        watch.process.send_signal(2)
        assert await watch.end() == 130
        assert await watch.complaint() == ""


async def test_watch_json_is_an_object_a_line(bus: Bus) -> None:
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch", "--json") as watch:
        assert json.loads(await watch.line()) == {"host": "a.example", "port": 25, "source": "static"}
        agent.publish(best("", 0))
        assert json.loads(await watch.line()) == {"host": "", "port": 0, "source": "none"}


async def test_watch_goes_on_when_the_agent_is_restarted(bus: Bus) -> None:
    async with serving(bus, best("a.example")):
        watching = Watching(bus, "watch")
        watch = await watching.__aenter__()
        assert await watch.line() == "a.example:25"
    try:
        assert "waiting" in await watch.complaint()
        async with serving(bus, Publication()) as agent:  # comes up without a decision: nothing to say
            async with asyncio.timeout(PATIENCE):
                while not agent.service._properties._values:  # it has read that there is no decision
                    await asyncio.sleep(0.01)
            agent.publish(best("a.example"))  # the same as before it went
            agent.publish(best("b.example"))
            assert await watch.line() == "b.example:25"
        assert "waiting" in await watch.complaint()
        bus.kill()
        assert await watch.end() == 69
        assert "lost" in await watch.complaint()
    finally:
        await watching.__aexit__()


async def test_watch_believes_only_the_owner_of_the_name(bus: Bus) -> None:
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch") as watch:
        assert await watch.line() == "a.example:25"
        with await RawClient.open(bus.address) as liar:
            daemon = "org.freedesktop.DBus"
            names = (await liar.ask("/org/freedesktop/DBus", daemon, "ListNames"))[1][0]
            for name in names:
                if name.startswith(":"):
                    lie = ("BestRelayChanged", "sqs", "evil.example", 25, "dns")
                    await liar.call(PATH, INTERFACE, *lie, kind=wire.SIGNAL, destination=name)
            await liar.ask("/org/freedesktop/DBus", daemon, "GetId")  # the lies are delivered
        agent.publish(best("b.example"))
        assert await watch.line() == "b.example:25"


async def test_watch_ends_when_nobody_reads_it(bus: Bus) -> None:
    async with serving(bus, best("a.example")):
        done = await bus.run(
            ["bash", "-c", f"timeout 20 {' '.join(SALSACTL)} watch | head -1; echo ${{PIPESTATUS[0]}}"]
        )
    assert done == Done(0, "a.example:25\n141\n", "")


def record(tmp_path: Path, more: str = "") -> tuple[str, Path]:
    """A command that writes a line for each run, and where."""
    script, log = tmp_path / "hook one", tmp_path / "log"
    script.write_text(f'#!/bin/sh\necho "$# $1 $SALSA_HOST $SALSA_PORT $SALSA_SOURCE$SALSA_TLS" >>"{log}"\n{more}\n')
    script.chmod(0o755)
    return f"'{script}' '$HOME;x'", log


async def lines_of(log: Path, count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        while not log.exists() or len(log.read_text().splitlines()) < count:
            await asyncio.sleep(0.01)
    return log.read_text().splitlines()


async def test_watch_exec_runs_for_the_first_line_too_without_a_shell(bus: Bus, tmp_path: Path) -> None:
    command, log = record(tmp_path)
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch", "--exec", command):
        assert await lines_of(log, 1) == ["1 $HOME;x a.example 25 static"]
        agent.publish(best("2001:db8::1", 587))
        assert (await lines_of(log, 2))[1:] == ["1 $HOME;x 2001:db8::1 587 static"]
        agent.publish(best("", 0))
        assert (await lines_of(log, 3))[2:] == ["1 $HOME;x  0 none"]


async def test_watch_exec_has_the_tls_of_the_relay(bus: Bus, tmp_path: Path) -> None:
    command, log = record(tmp_path)
    listed = ListedRelay(Relay(RelayKey("a.example", 25), Source.STATIC), Verdict.OK, tls="starttls")
    async with serving(bus, replace(best("a.example"), relays=(listed,))), Watching(bus, "watch", "--exec", command):
        assert await lines_of(log, 1) == ["1 $HOME;x a.example 25 staticstarttls"]


async def test_c11_watch_of_a_sender(bus: Bus, tmp_path: Path) -> None:
    command, log = record(tmp_path)
    argv = ("watch", "--sender", "me@home.example", "--exec", command)
    async with serving(bus, replace(best("a.example"), senders=(LATE, HOME))) as agent, Watching(bus, *argv) as watch:
        assert await watch.line() == "smtp.home.example:465"
        assert await lines_of(log, 1) == ["1 $HOME;x smtp.home.example 465 senderimplicit"]
        agent.publish(replace(best("b.example"), senders=(LATE, HOME)))  # the others' relay
        agent.publish(
            replace(best("b.example"), senders=(LATE, HOME._replace(best=Best("x.example", 587, Source.SENDER))))
        )
        assert await watch.line() == "x.example:587"


async def test_watch_events_prints_each_change_of_state_list_and_verdict(bus: Bus) -> None:
    first, second = (Relay(RelayKey(f"{name}.example", 25), Source.DNS) for name in "ab")
    chosen = Best("a.example", 25, Source.DNS)
    started = Publication(State.READY, chosen, (ListedRelay(first, Verdict.OK),))
    steps = (
        replace(started, state=State.RESOLVING),
        replace(started, relays=(ListedRelay(first, Verdict.OK), ListedRelay(second))),
        replace(started, relays=(ListedRelay(first, Verdict.FAILED, "421 busy"), ListedRelay(second, Verdict.OK)),
                best=Best("b.example", 25, Source.DNS)),
    )  # fmt: skip
    lines = [
        "state: ready", "list: a.example:25", "verdict: a.example:25 ok", "best: a.example:25 (dns)",
        "state: resolving",
        "state: ready", "list: a.example:25 b.example:25",
        "verdict: a.example:25 failed: 421 busy", "verdict: b.example:25 ok", "best: b.example:25 (dns)",
    ]  # fmt: skip
    async with (
        serving(bus, started) as agent,
        Watching(bus, "watch", "--events") as plain,
        Watching(bus, "watch", "--events", "--json") as as_json,
    ):
        shown = [await plain.line() for _ in range(4)]
        objects = [json.loads(await as_json.line()) for _ in range(4)]
        for step in steps:
            agent.publish(step)
            await asyncio.sleep(0)
        shown += [await plain.line() for _ in range(6)]
        objects += [json.loads(await as_json.line()) for _ in range(6)]
    assert shown == lines
    assert [one["event"] for one in objects] == [line.partition(":")[0] for line in lines]
    assert objects[7] == {
        "event": "verdict",
        "host": "a.example",
        "port": 25,
        "verdict": "failed",
        "reason": "421 busy",
    }


async def test_watch_exec_one_at_a_time_and_the_last_state_is_not_lost(bus: Bus, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command, log = record(tmp_path, f'read -r _ <"{gate}"; echo end >>"{tmp_path}/log"')
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch", "--exec", command) as watch:
        await lines_of(log, 1)
        for host in ("b.example", "c.example", "d.example"):
            agent.publish(best(host))
        assert [await watch.line() for _ in range(4)][-1] == "d.example:25"  # lines do not wait for the command
        assert len(log.read_text().splitlines()) == 1
        for _ in range(2):
            await asyncio.to_thread(gate.write_text, "go\n")
            await lines_of(log, 3)
        lines = await lines_of(log, 4)
    assert [line.split()[2] if line != "end" else line for line in lines] == ["a.example", "end", "d.example", "end"]


async def test_watch_exec_for_the_last_line_though_the_bus_is_lost(bus: Bus, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command, log = record(tmp_path, f'read -r _ <"{gate}"')
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch", "--exec", command) as watch:
        await lines_of(log, 1)
        agent.publish(best("b.example"))
        assert [await watch.line() for _ in range(2)] == ["a.example:25", "b.example:25"]
        bus.kill()
        for count in (1, 2):
            await lines_of(log, count)
            await asyncio.to_thread(gate.write_text, "go\n")
        assert await watch.end() == 69
    assert [line.split()[2] for line in log.read_text().splitlines()] == ["a.example", "b.example"]


async def test_watch_exec_that_fails_is_told_and_is_no_end(bus: Bus, tmp_path: Path) -> None:
    command, log = record(tmp_path, "exit 3")
    async with serving(bus, best("a.example")) as agent, Watching(bus, "watch", "--exec", command) as watch:
        assert "ended with status 3" in await watch.complaint()
        agent.publish(best("b.example"))
        assert len(await lines_of(log, 2)) == 2
    refused(await ctl(bus, "watch", "--exec", "/nonexistent/command"), 2, "no such command")


async def test_watch_ended_ends_its_command(bus: Bus, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = f"sh -c 'echo $$ >{log}; exec sleep 1000'"
    async with serving(bus, best("a.example")), Watching(bus, "watch", "--exec", command) as watch:
        [pid] = await lines_of(log, 1)
        watch.process.terminate()
        assert await watch.end() == 143
        assert not Path("/proc", pid).exists()
