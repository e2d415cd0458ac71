"""`salsactl doctor` on hosts whose network is broken in one place: the bus, a NAT, DNS, ports, senders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.bus import PATIENCE, PROJECT, system_bus
from tests.lab.ca import Ca
from tests.lab.nat import ROUTER_OUTSIDE, SERVER, Home
from tests.lab.resolved import POLICY, resolved
from tests.lab.whole import FULL, HOME, NOC, RELAYS, VERTEX, ZONE, Process, World, until
from tests.whole.test_doctor import ADDRESS, NO_AGENT, OF_THIS_MACHINE, QUICK, agent, doctor, salsactl

SECOND = "192.0.2.54"  # another DNS server


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.join(ADDRESS)
        for name in (NOC, VERTEX, HOME):
            made.relay(name, "takes", "--name", name)
        yield made


def also(world: World, name: str, port: int, behaviour: str, *more: str) -> Process:
    """A relay at one more port."""
    argv = ["-m", "tests.lab.smtpserver", "--listen", RELAYS[name], "--port", str(port), "--behaviour", behaviour]
    process = world.start(world.far, [sys.executable, *argv, *more])
    process.wait_for("listening", where="out")
    return process


def problem(world: World, code: str, *options: str, **environment: str) -> str:
    """What is said of it."""
    command = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "doctor", "--json", "--config", str(world.config)]
    process = world.start(world.host, [*command, *options], **environment)
    process.popen.wait(90)
    return next(str(one["problem"]) for one in json.loads(process.out)["findings"] if one["code"] == code)


# --- the bus


def test_h3_a_bus_that_refuses_the_name() -> None:
    with World(policy=False) as world:
        world.join(ADDRESS)
        for name in (NOC, VERTEX, HOME):
            world.relay(name, "takes", "--name", name)
        assert doctor(world) == {NO_AGENT: "fault", "name-refused": "fault"}
        assert "org.salsa.Agent1" in problem(world, "name-refused")


def test_to_look_for_a_refused_name_leaves_nothing_behind(world: World) -> None:
    assert doctor(world) == {NO_AGENT: "fault"}  # root may have it here
    agent(world)  # and the agent gets it
    assert doctor(world) == {}


def test_an_agent_on_a_bus_of_its_own_is_named_with_its_address(world: World, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    world.configure(QUICK)
    command = [sys.executable, "-m", "salsa_agent.cli.agent", "--config", str(world.config)]
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere", "XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
    private = world.start(world.host, command, **nowhere)
    until(lambda: private.out, lambda said: said.endswith("\n"))
    address = private.out.strip().partition(",")[0]
    assert address in problem(world, "agent-on-another-bus", XDG_RUNTIME_DIR="", TMPDIR=str(tmp_path))
    there = world.start(
        world.host,
        [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "status"],
        XDG_RUNTIME_DIR="",
        TMPDIR=str(tmp_path),
    )
    assert there.popen.wait(PATIENCE) == 69
    assert f"--bus {address}" in there.log
    assert private.end() == 0


# --- NAT


def test_g1_what_nat_pmp_would_find(tmp_path: Path) -> None:
    relay = "relay.site.example"
    zone = {"33.22.11.in-addr.arpa": {"MX": [f"10 {relay}."]}, relay: {"A": [SERVER]}}
    config = f'[dns]\nservers = ["{SERVER}"]\ntimeout = 0.5\nattempts = 1\n[network]\nipv6_levels = []\n'

    def found(config: str) -> dict[str, dict[str, str]]:
        (tmp_path / "config.toml").write_text(config)
        done = home.client.exec(
            [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "doctor", "--json", "--config",
             str(tmp_path / "config.toml")],
            cwd=PROJECT, stdout=subprocess.PIPE, text=True, env=bus.environment | {"DBUS_SESSION_BUS_ADDRESS": ""},
        )  # fmt: skip
        out, _ = done.communicate(timeout=60)
        return {one["code"]: one for one in json.loads(out)["findings"] if one["code"] not in OF_THIS_MACHINE}

    with Home() as home, system_bus() as bus:
        (tmp_path / "zone.json").write_text(json.dumps(zone))
        argv = [sys.executable, "-m", "tests.lab.dnsserver", "--listen", SERVER, str(tmp_path / "zone.json")]
        dns = home.outside.exec(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert dns.stdout
        assert dns.stdout.readline().strip() == "ready"
        assert "nat-relay" not in found(config)  # nobody answers yet
        with home.miniupnpd(tmp_path):
            said = found(config)["nat-relay"]
            assert f"The outside sees {ROUTER_OUTSIDE}" in said["problem"]
            assert f"publishes {relay}:25" in said["problem"]
            assert 'network.nat = "nat-pmp"' in said["cure"]
            assert "nat-relay" not in found(f'{config}nat = "nat-pmp"\n')
        assert found(f'{config}nat = "nat-pmp"\n')["nat-silent"]["severity"] == "warning"
        with home.coturn(tmp_path, home.outside, SERVER):
            assert 'network.nat = "stun"' in found(f'{config}stun_server = "{SERVER}:3478"\n')["nat-relay"]["cure"]


# --- DNS


def test_split_horizon(world: World) -> None:
    agent(world)
    world.far.batch([f"addr add {SECOND}/32 dev down0"])
    (world.directory / "public.json").write_text(json.dumps({name: {"A": [ip]} for name, ip in RELAYS.items()}))
    argv = ["-m", "tests.lab.dnsserver", "--listen", SECOND, str(world.directory / "public.json")]
    world.start(world.far, [sys.executable, *argv]).wait_for("ready", where="out")
    config = QUICK.replace("[dns]\n", f'[dns]\nservers = ["{SECOND}"]\n')
    assert doctor(world, config=config) == {"split-horizon": "warning"}
    assert "192.0.2.53 is not asked, since dns.servers is set" in problem(world, "split-horizon")


async def test_f1_a_stub_that_answers_itself() -> None:
    with World(extra=POLICY) as world:
        world.join(ADDRESS)
        for name in (NOC, VERTEX, HOME):
            world.relay(name, "takes", "--name", name)
        with resolved(world.host, world.bus, hosts=f"127.0.0.1 localhost\n{ADDRESS} laptop\n") as running:
            await running.start()
            await running.set_link_dns(world.host.index("up0"), "192.0.2.53")
            agent(world)
            world.publish({**ZONE, FULL: {"MX": [f"10 {VERTEX}."]}})
            stub = QUICK.replace("[dns]\n", '[dns]\nservers = ["127.0.0.53"]\n')
            assert doctor(world, config=QUICK) == {}
            # what it hides is seen, too, at the server behind it
            assert doctor(world, config=stub) == {"split-horizon": "warning", "stub-answers-itself": "warning"}


def test_a_resolver_that_refuses(world: World) -> None:
    agent(world)
    world.publish({"": {"*": {"rcode": "REFUSED"}}})
    assert doctor(world)["resolver-refuses"] == "fault"


def test_a_static_relay_whose_name_cannot_be_looked_up(world: World) -> None:
    agent(world)
    world.publish({**ZONE, HOME: {"*": {"rcode": "SERVFAIL"}}})
    assert doctor(world)["name-failed"] == "warning"


# --- relays


TLS = QUICK.replace("[verify]\n", '[verify]\ntls = "valid"\n')


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("expired", "its certificate has expired"),
        ("other name", "its certificate is for another name"),
        ("unknown authority", "its certificate is from an authority that this host does not know"),
    ],
)
def test_d7_each_bad_certificate_has_its_sentence(world: World, tmp_path: Path, kind: str, words: str) -> None:
    agent(world)
    (tmp_path / "stranger").mkdir()
    known, stranger = Ca(tmp_path), Ca(tmp_path / "stranger", "A stranger")
    bad = {
        "expired": known.issue(NOC, days=-1),
        "other name": known.issue("www.tor.hookup.net"),
        "unknown authority": stranger.issue(NOC),
    }[kind]
    for name, issued in ((NOC, bad), (VERTEX, known.issue(VERTEX))):
        world.relay(name, "starttls", "--name", name, "--certificate", str(issued.file), "--key", str(issued.key))
    world.configure(TLS)
    assert f"{NOC}:25 failed: {words}" in problem(world, "relay-certificate", SSL_CERT_FILE=str(known.file))


def test_the_certificate_of_an_own_relay_is_looked_at_where_the_agent_does_not(world: World, tmp_path: Path) -> None:
    agent(world)
    ca = Ca(tmp_path)
    for days, wanted in ((-1, {"relay-certificate": "warning"}), (7, {})):
        issued = ca.issue(HOME, days=days)
        world.relay(HOME, "takes", "--name", HOME)
        files = ("--certificate", str(issued.file), "--key", str(issued.key), "--implicit-tls")
        secure = also(world, HOME, 465, "ok", "--name", HOME, *files)
        config = QUICK.replace(f'relays = ["{HOME}"]', f'relays = ["{HOME}:465"]')
        world.publish({HOME: {"A": [RELAYS[HOME]]}})  # the network names none
        assert doctor(world, config=config, trust=str(ca.file)) == wanted
        secure.end()


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ("wants-tls", {"relay-wants-tls": "note"}),
        ("wants-password", {"relay-wants-password": "warning"}),
        ("blocks", {"relay-refuses": "warning"}),
    ],
)
def test_a_relay_that_answers_and_takes_no_mail_in_the_clear(
    world: World, behaviour: str, found: dict[str, str]
) -> None:
    agent(world)
    world.relay(NOC, behaviour, "--name", NOC)
    assert doctor(world) == found


def test_a_relay_that_answers_slowly(world: World) -> None:
    agent(world)
    world.relay(NOC, "slow")
    config = QUICK.replace("timeout = 1.0", "timeout = 10.0")
    assert doctor(world, config=config) == {"relay-slow": "warning"}


# --- port 25


def test_port_25_is_blocked(world: World) -> None:
    agent(world)
    also(world, HOME, 587, "ok", "--name", HOME)
    world.host.run(["nft", "-f", "-"], input="table inet t { chain o { type filter hook output priority 0; "
                   "tcp dport 25 drop; }; }\n")  # fmt: skip
    found = doctor(world)
    assert found["port-25-blocked"] == "warning"


def test_port_25_greets_otherwise_than_port_587(world: World) -> None:
    agent(world)
    also(world, NOC, 587, "ok", "--name", NOC)
    assert doctor(world) == {}
    world.relay(NOC, "takes", "--name", "gateway.hotel.example")
    assert doctor(world) == {"port-25-intercepted": "warning"}


def test_starttls_that_was_there_is_gone(world: World) -> None:
    world.relay(NOC, "starttls", "--name", NOC)
    agent(world)
    assert doctor(world) == {}
    world.relay(NOC, "takes", "--name", NOC)
    assert doctor(world) == {"port-25-intercepted": "warning"}
    assert "offered STARTTLS to the agent on port 25" in problem(world, "port-25-intercepted")


# --- senders


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("v=spf1 include:_spf.example.net -all", {"spf-fail": "warning", "dmarc-reject": "warning"}),
        ("v=spf1 include:_spf.example.net ip4:203.0.113.0/28 -all", {}),
        ("v=spf1 a:noc.tor.hookup.net -all", {}),
        ("v=spf1 ~all", {"spf-softfail": "warning", "dmarc-reject": "warning"}),
        ("v=spf1 include:_loop.example.net -all", {"spf-permerror": "warning", "dmarc-reject": "warning"}),
    ],
)
def test_spf_and_dmarc_of_a_sender(world: World, record: str, found: dict[str, str]) -> None:
    agent(world)
    zone: dict[str, dict[str, Any]] = {
        "example.net": {"TXT": [f'"{record}"']},
        "_spf.example.net": {"TXT": ['"v=spf1 ip4:198.51.100.0/24 ~all"']},
        "_loop.example.net": {"TXT": ['"v=spf1 include:_loop.example.net -all"']},
        "_dmarc.example.net": {"TXT": ['"v=DMARC1; p=reject"']},
    }
    world.publish({**ZONE, **zone})
    assert doctor(world, "--sender", "me@example.net") == found
    assert doctor(world) == {}
    assert salsactl(world, "doctor", "--config", str(world.config), "--sender", "me@example.net").popen.returncode == 0
