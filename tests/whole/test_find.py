"""`salsactl find`: the answer of the agent, once, without an agent, a bus or anything left behind."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from salsa_agent.cli.format import mail_programs
from salsa_agent.core.model import Best, ListedRelay, Publication, Relay, RelayKey, Source, State, Verdict
from tests.lab.whole import CONFIG, FULL, HOME, NET16, NOC, SERVER, VERTEX, ZONE, World, until

ADDRESS = "165.154.15.1"
SITE = f'[[site]]\nname = "office"\n{{}}\nrelays = ["{VERTEX}"]\n'
SENDERS = CONFIG + f'[[sender]]\naddress = ["*@home.example"]\nrelays = ["{VERTEX}:25"]\n'
NO_RETRIES = "[dns]\ntimeout = 0.2\nattempts = 1\n[verify]\ntimeout = 0.5\n"
NOWHERE = "/nonexistent/bus"


class Found(NamedTuple):
    status: int
    out: str
    err: str
    seconds: float


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.join(ADDRESS)
        yield made


def find(world: World, *options: str, config: str = CONFIG, before: tuple[str, ...] = (), bus: str = NOWHERE) -> Found:
    """Run it where there is no bus at all."""
    world.configure(config)
    argv = [*before, sys.executable, "-m", "salsa_agent.cli.salsactl.main", "find", "--config", str(world.config)]
    started = time.monotonic()
    process = world.start(world.host, [*argv, *options], DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={bus}")
    status = process.popen.wait(60)
    return Found(status, process.out, process.log, time.monotonic() - started)


def test_find_prints_the_relay_of_the_network(world: World) -> None:
    log = world.directory / "talks"
    world.relay(NOC, "ok", "--log", str(log))
    assert find(world)[:3] == (0, f"{NOC}:25\n", "")
    until(log.exists, bool)
    talk = json.loads(log.read_text())
    assert [line.split()[0] for line in talk["lines"]] == ["EHLO", "QUIT"], "nobody is left hanging"


def test_find_of_a_relay_without_verification(world: World) -> None:
    assert find(world, "--no-verify")[:3] == (0, f"{NOC}:25\n", "")


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("text", f"{NOC}:25\n"),
        ("env", f"SALSA_HOST={NOC}\nSALSA_PORT=25\nSALSA_SOURCE=dns\nSALSA_TLS=starttls\n"),
        ("postfix", f"relayhost = [{NOC}]:25, [{HOME}]:25\n"),
        ("msmtp", f"host {NOC}\nport 25\ntls on\ntls_starttls on\n"),
        ("nullmailer", f"{NOC} smtp port=25 starttls\n"),
    ],
)
def test_find_formats(world: World, form: str, wanted: str) -> None:
    world.relay(NOC, "starttls")
    world.relay(VERTEX, "554")
    world.relay(HOME)
    assert find(world, "--format", form)[:3] == (0, wanted, "")


@pytest.mark.parametrize("options", [("--format", "json"), ("--json",)])
def test_find_json_is_relay_json(world: World, options: tuple[str, ...]) -> None:
    world.relay(NOC, "starttls")
    world.relay(VERTEX)
    found = find(world, *options, config=SENDERS)
    assert (found.status, found.err) == (0, "")
    said = json.loads(found.out)
    of_sender = {"host": VERTEX, "port": 25, "source": "sender", "tls": "none"}
    assert said == {
        "host": NOC, "port": 25, "source": "dns", "tls": "starttls", "verdict": "ok", "state": said["state"],
        "senders": [{"address": ["*@home.example"], "network": "never", **of_sender}],
    }  # fmt: skip
    assert said["state"] in ("ready", "degraded")


def test_find_that_is_not_decided_in_time_prints_nothing_and_ends_with_75(world: World) -> None:
    world.publish({"": {"*": {"silent": True}}})
    found = find(world, "--timeout", "1.5")
    assert (found.status, found.out) == (75, "")
    assert "not decided within 1.5 seconds" in found.err
    assert found.seconds < 15


def test_find_without_a_relay_prints_nothing_and_ends_with_1(world: World) -> None:
    world.publish({name: data for name, data in ZONE.items() if name != NET16})
    for form in ("text", "json", "env", "postfix", "msmtp", "nullmailer"):
        found = find(world, "--format", form, config="")
        assert (found.status, found.out) == (1, "")
        assert "there is no relay" in found.err


def test_d3_find_prints_the_last_resort_that_failed_and_ends_with_1(world: World) -> None:
    assert find(world, config=CONFIG + NO_RETRIES)[:2] == (1, f"{HOME}:25\n")
    assert json.loads(find(world, "--json", config=CONFIG + NO_RETRIES).out)["verdict"] == "failed"


def test_e6_find_without_an_address_has_the_static_relay(world: World) -> None:
    world.leave()
    assert find(world)[:2] == (0, f"{HOME}:25\n")


def test_c11_find_for_a_sender(world: World) -> None:
    world.relay(NOC)
    world.relay(VERTEX)
    assert find(world, "--sender", "me@HOME.example", config=SENDERS)[:2] == (0, f"{VERTEX}:25\n")
    assert find(world, "--sender", "you@other.example", config=SENDERS)[:2] == (0, f"{NOC}:25\n")
    assert find(world, "--sender", "<>", config=SENDERS)[:2] == (0, f"{NOC}:25\n")
    found = json.loads(find(world, "--sender", "me@home.example", "--json", config=SENDERS).out)
    assert (found["host"], found["source"], found["verdict"]) == (VERTEX, "sender", "ok")


@pytest.mark.parametrize("criterion", ['prefix = ["165.154.15.0/24"]', 'domain = ["corp.example"]'])
def test_c10_find_waits_for_what_a_site_asks_of_the_link(world: World, criterion: str) -> None:
    world.relay(VERTEX)
    world.relay(NOC)
    with open(f"/etc/netns/{world.host.name}/resolv.conf", "a") as file:
        file.write("search corp.example\n")
    assert find(world, config=SITE.format(criterion))[:2] == (0, f"{VERTEX}:25\n")


def test_c10_find_decides_nothing_before_the_links_are_known(world: World) -> None:
    """What the agent reads late is a network change to it; here the first decision is the last."""
    world.relay(VERTEX)
    world.relay(NOC)
    with open(f"/etc/netns/{world.host.name}/resolv.conf", "a") as file:
        file.write("search corp.example\n")
    config = SITE.format('domain = ["corp.example"]') + f'[dns]\nservers = ["{SERVER}"]\n'
    with socket.socket(socket.AF_UNIX) as hung:  # a bus that takes connections and says nothing
        hung.bind(str(world.directory / "hung"))
        hung.listen()
        found = find(world, config=config, bus=str(world.directory / "hung"))
    assert found[:2] == (0, f"{VERTEX}:25\n")


def test_find_of_a_bad_configuration_or_option(world: World) -> None:
    assert find(world, config="[statik]\n")[:2] == (78, "")
    assert find(world, "--timeout", "soon").status == 2
    assert find(world, "--sender", "me@example\r\nX: y").status == 2


def test_find_with_a_read_only_root_and_without_ipv6_and_bus(world: World) -> None:
    world.relay(NOC)
    for name in ("all", "default", "lo"):
        world.host.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    read_only = ("sh", "-ec", 'mount --rbind / /mnt; mount -o remount,ro,bind /mnt; exec chroot /mnt "$@"', "sh")
    check = ("sh", "-ec", 'if touch /x 2>/dev/null; then exit 9; fi; cd /; exec "$@"', "sh")
    assert find(world, before=(*read_only, *check))[:3] == (0, f"{NOC}:25\n", "")


WORLDS = {
    "network": (ZONE, {NOC: "ok", VERTEX: "ok", HOME: "ok"}),
    "first one refuses": (ZONE, {NOC: "554", VERTEX: "ok", HOME: "ok"}),
    "all refuse": (ZONE, {NOC: "554", VERTEX: "554", HOME: "ok"}),
    "null MX": ({**ZONE, FULL: {"MX": ["0 ."]}}, {NOC: "ok", HOME: "ok"}),
    "a level fails": ({**ZONE, FULL: {"MX": {"rcode": "SERVFAIL"}}}, {NOC: "ok", HOME: "ok"}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_find_says_what_the_agent_says(world: World, name: str) -> None:
    zone, relays = WORLDS[name]
    world.publish(zone)
    for relay, behaviour in relays.items():
        world.relay(relay, behaviour)
    found = find(world)
    world.agent(CONFIG)
    until(lambda: world.get("State"), lambda seen: seen not in (None, "starting", "resolving"))
    assert (found.status, found.out) == (0, f"{world.best}\n")


# --- formats (rule D10)


def said(source: Source, port: int = 25, tls: str = "none", host: str = "a.example") -> Publication:
    relay = Relay(RelayKey(host, port), source, administrator=source is not Source.DNS)
    return Publication(State.READY, Best(host, port, source), (ListedRelay(relay, Verdict.OK, tls=tls),))


@pytest.mark.parametrize(
    ("given", "msmtp", "nullmailer"),
    [
        (said(Source.DNS), "tls off\ntls_starttls off\n", ""),
        (said(Source.DNS, tls=""), "tls on\ntls_starttls on\n", " starttls"),
        (said(Source.DNS, tls="starttls"), "tls on\ntls_starttls on\n", " starttls"),
        (said(Source.STATIC), "tls on\ntls_starttls on\n", " starttls"),
        (said(Source.SITE), "tls on\ntls_starttls on\n", " starttls"),
        (said(Source.STATIC, 465), "tls on\ntls_starttls off\n", " ssl"),
    ],
)
def test_d10_no_format_turns_tls_off_for_a_relay_of_the_administrator(
    given: Publication, msmtp: str, nullmailer: str
) -> None:
    port = given.best.port
    assert mail_programs.msmtp(given) == f"host a.example\nport {port}\n{msmtp}"
    assert mail_programs.nullmailer(given) == f"a.example smtp port={port}{nullmailer}\n"


def test_postfix_takes_a_literal_in_brackets() -> None:
    given = said(Source.STATIC, host="2001:db8::1")
    assert mail_programs.postfix(given, verified=True) == "relayhost = [2001:db8::1]:25\n"
