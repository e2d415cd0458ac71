"""`salsactl doctor` and `send-test` on a whole host: sound, and broken in one place."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.ca import Ca
from tests.lab.postfix import Postfix
from tests.lab.whole import CONFIG, FULL, HOME, NET16, NOC, RELAYS, VERTEX, ZONE, Process, World, until

ADDRESS = "165.154.15.1"
QUICK = CONFIG + "[dns]\ntimeout = 0.5\nattempts = 1\n[verify]\ntimeout = 1.0\n"
# what this machine has installed, and what of it asks the agent, is no part of these worlds
OF_THIS_MACHINE = ("program-not-asking", "no-policy", "no-unit")
NO_AGENT = "no-agent"
ELSEWHERE = "agent-on-another-bus"  # so it is called where other tests have agents on private buses at the time


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.join(ADDRESS)
        for name in (NOC, VERTEX, HOME):
            made.relay(name, "takes", "--name", name)
        yield made


def salsactl(world: World, *argv: str, stdin: bytes | None = None, trust: str = "") -> Process:
    command = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", *argv]
    if stdin is not None:
        answer = world.directory / "stdin"
        answer.write_bytes(stdin)
        command = ["sh", "-c", 'exec "$@" <"$0"', str(answer), *command]
    process = world.start(world.host, command, SSL_CERT_FILE=trust)
    process.popen.wait(90)
    return process


def doctor(world: World, *options: str, config: str = QUICK, trust: str = "") -> dict[str, str]:
    """The findings, severity by code. Its status says whether there is a fault."""
    world.configure(config)
    done = salsactl(world, "doctor", "--json", "--config", str(world.config), *options, trust=trust)
    found: list[dict[str, Any]] = json.loads(done.out or "null")["findings"]
    codes = [(NO_AGENT if one["code"] == ELSEWHERE else one["code"], one["severity"]) for one in found]
    named = {code: severity for code, severity in codes if code not in OF_THIS_MACHINE}
    assert done.popen.returncode == (1 if "fault" in [one["severity"] for one in found] else 0), done.log
    return named


def agent(world: World) -> None:
    world.agent(QUICK)
    until(lambda: world.get("State"), lambda state: state == "ready")


def test_nothing_is_named_in_a_sound_world(world: World) -> None:
    agent(world)
    assert doctor(world) == {}
    done = salsactl(world, "doctor", "--config", str(world.config))
    assert done.out.rstrip().endswith(("No faults.", "note.", "notes."))
    assert "\x1b" not in done.out


def test_a_missing_agent_is_a_finding(world: World) -> None:
    assert doctor(world) == {NO_AGENT: "fault"}
    done = salsactl(world, "doctor", "--config", str(world.config))
    assert done.popen.returncode == 1
    assert "No agent runs on the system or the session bus" in done.out


def test_a_host_without_an_address(world: World) -> None:
    agent(world)
    world.leave()
    assert doctor(world) == {"no-address": "fault"}


def test_a_resolver_that_does_not_answer(world: World) -> None:
    agent(world)
    world.publish({"": {"*": {"silent": True}}})
    found = doctor(world)
    assert found["resolver-silent"] == "fault"
    assert found["level-failed"] == "warning"


def test_a_resolver_that_answers_anything_with_anything(world: World) -> None:
    agent(world)
    world.publish({**ZONE, "": {"MX": ["10 portal.hotel.example."], "A": ["203.0.113.1"]}})
    assert doctor(world)["resolver-lies"] == "fault"


def test_a_level_that_fails_and_an_exchange_that_is_dropped(world: World) -> None:
    agent(world)
    world.publish({**ZONE, FULL: {"MX": {"rcode": "SERVFAIL"}}, NET16: {"MX": ["5 localhost.", f"10 {NOC}."]}})
    assert doctor(world) == {"level-failed": "warning", "relay-dropped": "warning"}


def test_a_relay_that_refuses_while_another_works(world: World) -> None:
    agent(world)
    world.relay(NOC, "554")
    assert doctor(world) == {"relay-refuses": "warning"}


def test_no_relay_answers(world: World) -> None:
    agent(world)
    for name in (NOC, VERTEX, HOME):
        world.kill(name)
    found = doctor(world)
    assert (found["no-relay-works"], found["relay-unreachable"]) == ("fault", "fault")


def test_a_relay_with_a_certificate_that_has_expired(world: World, tmp_path: Path) -> None:
    agent(world)
    ca = Ca(tmp_path)
    expired, good = ca.issue(NOC, days=-1), ca.issue(VERTEX)
    for name, issued in ((NOC, expired), (VERTEX, good)):
        files = ("--certificate", str(issued.file), "--key", str(issued.key))
        world.relay(name, "starttls", *files)
    tls = QUICK.replace("[verify]\n", '[verify]\ntls = "valid"\n')
    found = doctor(world, config=tls, trust=str(ca.file))
    assert found["relay-certificate"] == "warning"


def test_a_sender_whose_domain_rejects_mail_of_this_network(world: World) -> None:
    agent(world)
    world.publish({**ZONE, "_dmarc.example.net": {"TXT": ['"v=DMARC1; p=reject"']}})
    assert doctor(world, "--sender", "me@mail.example.net") == {"dmarc-reject": "warning"}
    own = f'[[sender]]\naddress = ["*@*.example.net"]\nrelays = ["{HOME}:25"]\n'
    assert doctor(world, "--sender", "me@mail.example.net", config=QUICK + own) == {}
    assert doctor(world, "--sender", "me@example.org") == {}


def test_port_25_is_intercepted(world: World) -> None:
    agent(world)
    for name in (NOC, VERTEX, HOME):
        world.relay(name, "ok", "--name", "gateway.hotel.example")
    assert doctor(world) == {"port-25-intercepted": "warning"}


# --- send-test


LETTER = ("--from", "me@example.net", "--to", "you@example.org")


def test_send_test_by_the_relay_in_use(world: World) -> None:
    agent(world)
    log = world.directory / "talk"
    world.relay(NOC, "takes", "--log", str(log))
    done = salsactl(world, "send-test", *LETTER, "--yes")
    assert done.popen.returncode == 0, done.log
    assert f"{NOC}:25 has taken the letter, queue id 4XyZ1abc." in done.out
    until(log.exists, bool)
    said = json.loads(log.read_text().splitlines()[-1])["lines"]
    mail, to = said[1], said[2]  # newer Pythons write `MAIL from:`
    assert "MAIL FROM:<ME@EXAMPLE.NET>" in mail.upper()
    assert to.upper() == "RCPT TO:<YOU@EXAMPLE.ORG>"
    assert json.loads(salsactl(world, "send-test", "--json", *LETTER, "--yes").out)["queue_id"] == "4XyZ1abc"


def test_send_test_asks_first(world: World) -> None:
    agent(world)
    for answer, status in ((b"n\n", 1), (b"", 1), (b"y\n", 0)):
        done = salsactl(world, "send-test", *LETTER, stdin=answer)
        assert done.popen.returncode == status
        assert f"by way of {NOC}:25? [y/N]" in done.log
        assert ("has taken" in done.out) is (status == 0)


def test_send_test_without_an_agent_or_by_a_relay_that_refuses(world: World) -> None:
    assert salsactl(world, "send-test", *LETTER, "--yes").popen.returncode == 69
    agent(world)
    for name in (NOC, VERTEX, HOME):
        world.relay(name, "reject")
    done = salsactl(world, "send-test", *LETTER, "--yes")
    assert done.popen.returncode == 1
    assert "554 5.7.1 Relay access denied" in done.out
    assert "has not taken the letter" in done.log


def test_send_test_by_a_real_postfix(world: World, tmp_path: Path) -> None:
    """Its answers, its queue id and the letter, which arrives; STARTTLS is used, as it is offered."""
    world.kill(NOC)
    main = {"inet_interfaces": RELAYS[NOC]}
    certificate = Ca(tmp_path).issue(NOC)
    with Postfix(world.far, NOC, receives=["example.org"], certificate=certificate, main=main) as relay:
        agent(world)
        until(lambda: world.best, lambda best: best == f"{NOC}:25")
        done = salsactl(world, "send-test", *LETTER, "--yes")
        assert done.popen.returncode == 0, done.log
        queued = re.search(r"queue id (\w+)\.", done.out)
        assert queued
        assert "STARTTLS  220 2.0.0 Ready to start TLS" in done.out
        assert "its certificate is not valid" in done.log
        relay.until(lambda: f"{queued.group(1)}: removed" in relay.log)
        assert f"{queued.group(1)}: from=<me@example.net>" in relay.log
        assert any("Subject: Test of the mail relay by salsactl" in letter for letter in relay.received())
        refused = salsactl(world, "send-test", "--from", "me@example.net", "--to", "you@elsewhere.example", "--yes")
        assert refused.popen.returncode == 1
        assert "Relay access denied" in refused.log
