"""The agent as a process: exit statuses, signals, buses, one line for what went wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bus import NOBODY, PATIENCE, PROJECT
from tests.lab.whole import CONFIG, HOME, NET16, NOC, VERTEX, World, until


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(world: World, number: int) -> None:
    agent = world.agent()
    world.wait_for_best(HOME)
    assert agent.end(number) == 0
    assert "Traceback" not in agent.log


@pytest.mark.parametrize("option", ["--nonsense", "--log-level=loud", "extra"])
def test_a_wrong_option_is_status_2(world: World, option: str) -> None:
    agent = world.agent(None, option)
    assert agent.popen.wait(PATIENCE) == 2
    assert "usage:" in agent.log


def test_h3_no_bus_is_status_69_and_one_line(world: World) -> None:
    agent = world.agent(CONFIG, "--bus", "unix:path=/nowhere/bus")
    assert agent.popen.wait(PATIENCE) == 69
    assert len(agent.log.splitlines()) == 1
    assert "/nowhere/bus" in agent.log


@pytest.mark.parametrize("most", [5, 6])  # with four Python itself cannot start
def test_h3_too_few_descriptors_for_a_bus_are_status_69_and_one_line(world: World, most: int) -> None:
    argv = [sys.executable, "-m", "salsa_agent.cli.agent", "--config", "/dev/null", "--bus", world.bus.address]
    agent = world.start(world.host, ["prlimit", f"--nofile={most}:{most}", "--", *argv])
    assert agent.popen.wait(PATIENCE) == 69
    assert len(agent.log.splitlines()) == 1
    assert "no bus" in agent.log or world.bus.address in agent.log


def test_h3_a_name_that_is_taken_is_status_69_and_one_line(world: World) -> None:
    world.agent()
    world.wait_for_best(HOME)
    second = world.agent()
    assert second.popen.wait(PATIENCE) == 69
    assert next(line for line in second.log.splitlines() if "taken" in line).count("org.salsa.Agent1") == 1
    assert "Traceback" not in second.log


def test_a_second_agent_leaves_the_files_of_the_first_alone(world: World, tmp_path: Path) -> None:
    """As somebody starts one by hand for a look at its log: the service had no relay files until the next change."""
    text = CONFIG + f'[output]\ndirectory = "{tmp_path}"\n'
    first = world.agent(text)
    world.wait_for_best(HOME)
    until(lambda: (tmp_path / "relay").exists(), bool)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert before.keys() == {"relay", "relays", "relay.env", "relay.json"}
    second = world.agent(text)
    assert second.popen.wait(PATIENCE) == 69
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    world.publish({"": {"*": {"silent": True}}})
    world.join("165.154.15.1")  # so that the third asks for the name when its five seconds are over
    third = world.agent(text)
    until(world.queries, bool)
    first.end()
    third.wait_for("on the bus")
    until(lambda: (tmp_path / "relay").exists(), bool)
    third.end()
    assert list(tmp_path.iterdir()) == []


def test_h3_a_bus_that_dies_in_mid_round_is_status_69(world: World) -> None:
    agent = world.agent()
    world.wait_for_best(HOME)
    world.publish(world.zone | {NET16: {"MX": {"silent": True}}})
    world.join("165.154.15.1")
    until(world.queries, bool)
    world.bus.kill()
    assert agent.popen.wait(PATIENCE) == 69
    assert "lost" in agent.log.splitlines()[-1]
    assert "Traceback" not in agent.log


DEFECTIVE = """
import sys
from salsa_agent.cli.{program} import main
from salsa_agent.core.engine import Engine
from salsa_agent.netlink.monitor import Netlink

def fail(self, *_):
    raise RuntimeError("out of luck")

{part} = fail
sys.exit(main(sys.argv[1:]))
"""
PARTS = {"netlink": "Netlink.run", "engine": "Engine.handle"}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_ends_it_with_status_70_and_one_line_that_says_what_and_where(
    world: World, part: str
) -> None:
    """No part fails by anything that can be done to it from outside, so one is replaced."""
    program = DEFECTIVE.format(program="agent", part=PARTS[part])
    argv = [sys.executable, "-c", program, "--config", "/dev/null", "--bus", world.bus.address]
    agent = world.start(world.host, argv)
    assert agent.popen.wait(PATIENCE) == 70
    assert len(agent.log.splitlines()) == 1
    assert f"internal error: {part}: RuntimeError: out of luck (<string>:8)" in agent.log
    agent = world.start(world.host, [*argv, "--log-level", "debug"])
    assert agent.popen.wait(PATIENCE) == 70
    assert "Traceback" in agent.log


@pytest.mark.parametrize("command", ["find", "doctor"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_ends_find_and_doctor_in_the_same_way(world: World, part: str, command: str) -> None:
    """They showed a traceback, or waited until their time was over."""
    program = DEFECTIVE.format(program="salsactl.main", part=PARTS[part])
    argv = [sys.executable, "-c", program, command, "--config", "/dev/null"]
    once = world.start(world.host, argv)
    assert once.popen.wait(PATIENCE) == 70
    assert once.log == f"salsactl: internal error: {part}: RuntimeError: out of luck (<string>:8)\n"
    assert once.out == ""


def test_h3_the_name_comes_after_five_seconds_though_nothing_is_decided(world: World) -> None:
    world.publish({"": {"*": {"silent": True}}})
    world.join("165.154.15.1")
    world.agent(CONFIG + "[dns]\ntimeout = 10\n")
    until(lambda: world.get("State"), lambda state: state == "starting")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dns]\ntimeout = 0\n", ("dns.timeout",)),
        ("[dns]\nunknown = 1\n", ("dns.unknown",)),
        ("[static]\nrelays = 3\n", ("static.relays",)),
        ("not toml", ("line 1",)),
    ],
)
def test_a_bad_configuration_is_status_78_and_one_line(world: World, text: str, words: tuple[str, ...]) -> None:
    agent = world.agent(text)
    assert agent.popen.wait(PATIENCE) == 78
    assert len(agent.log.splitlines()) == 1
    assert all(word in agent.log for word in (str(world.config), *words))
    checked = world.agent(text, "--check-config")
    assert checked.popen.wait(PATIENCE) == 78


def test_sighup_reads_the_configuration_again_and_a_bad_one_changes_nothing(world: World) -> None:
    agent = world.agent()
    world.wait_for_best(HOME)
    world.configure('[static]\nrelays = ["192.0.2.77:587"]\n')
    agent.popen.send_signal(signal.SIGHUP)
    until(lambda: world.best, lambda best: best == "192.0.2.77:587")
    world.configure("[static]\nrelays = 7\n")
    agent.popen.send_signal(signal.SIGHUP)
    agent.wait_for("static.relays")
    assert str(world.config) in agent.log
    assert world.best == "192.0.2.77:587"


def test_a_storm_of_sighup_is_read_a_few_times_and_sigterm_is_not_lost_in_it(world: World) -> None:
    """Each was one reload: SIGTERM had to wait for half a million of them."""
    agent = world.agent()
    agent.wait_for("on the bus")
    sent, until_then = 0, time.monotonic() + 2.0
    while time.monotonic() < until_then:
        os.kill(agent.popen.pid, signal.SIGHUP)
        sent += 1
    agent.popen.send_signal(signal.SIGTERM)
    assert agent.popen.wait(5.0) == 0, f"{sent} sent"
    assert "unheard" not in agent.log


def test_a_fifo_as_configuration_at_sighup_hangs_nothing(world: World) -> None:
    agent = world.agent()
    world.wait_for_best(HOME)
    world.config.unlink()
    os.mkfifo(world.config)
    agent.popen.send_signal(signal.SIGHUP)
    agent.wait_for("an empty pipe")
    assert world.best == f"{HOME}:25"
    assert agent.end() == 0


def test_a_drop_in_counts_and_is_read_again(world: World) -> None:
    directory = world.config.with_name(f"{world.config.name}.d")
    directory.mkdir()
    (directory / "a.toml").write_text('[static]\nrelays = ["192.0.2.78:587"]\n')
    agent = world.agent()
    until(lambda: world.best, lambda best: best == "192.0.2.78:587")
    (directory / "a.toml").write_text('[static]\nrelays = ["192.0.2.79:587"]\n')
    agent.popen.send_signal(signal.SIGHUP)
    until(lambda: world.best, lambda best: best == "192.0.2.79:587")


def test_a_round_in_mid_flight_does_not_hold_the_end_up(world: World) -> None:
    world.publish({"": {"*": {"silent": True}}})
    world.join("165.154.15.1")
    agent = world.agent()
    until(world.queries, bool)
    assert agent.end() == 0
    assert "Traceback" not in agent.log


@pytest.mark.needs("users")
def test_bus_auto_makes_a_private_bus_where_there_is_no_other(world: World, tmp_path: Path) -> None:
    """An ordinary user without any bus: the address is printed, its directory is theirs alone, and gone at the end."""
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    world.configure(CONFIG)
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    argv += [sys.executable, "-m", "salsa_agent.cli.agent", "--config", str(world.config)]
    agent = world.start(
        world.host, argv, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nowhere", TMPDIR=str(tmp_path), XDG_RUNTIME_DIR=""
    )
    agent.wait_for("on the bus", where="log")
    address = agent.out.strip()
    directory = Path(address.partition("path=")[2].partition(",")[0]).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.stat().st_uid == NOBODY
    asked = subprocess.run(
        [*argv[:5], "busctl", f"--address={address}", "get-property", "org.salsa.Agent1", "/org/salsa/Agent1",
         "org.salsa.Agent1", "BestRelay"],
        check=True, capture_output=True, text=True, timeout=PATIENCE, cwd=PROJECT,
    )  # fmt: skip
    assert asked.stdout.strip() == f's "{HOME}"'
    assert agent.end() == 0
    assert not directory.exists()


def test_bus_auto_moves_on_where_the_policy_refuses_the_name(tmp_path: Path) -> None:
    with World(policy=False) as world:
        agent = world.agent(CONFIG, TMPDIR=str(tmp_path), XDG_RUNTIME_DIR="")
        agent.wait_for("on the bus")
        assert "private bus" in agent.log
        assert agent.out.startswith("unix:")


def test_readiness_follows_the_name(world: World, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        agent = world.agent(NOTIFY_SOCKET=str(tmp_path / "notify"))
        messages: list[str] = []
        while "READY=1" not in "".join(messages):
            messages.append(manager.recv(4096).decode())
        assert world.get("State") == "offline"
        agent.end()
        while "STOPPING=1" not in messages[-1]:
            messages.append(manager.recv(4096).decode())


def test_the_relay_file_is_kept_and_removed_at_the_end(world: World, tmp_path: Path) -> None:
    world.relay(NOC)
    world.join("165.154.15.1")
    agent = world.agent(CONFIG + f'[output]\ndirectory = "{tmp_path}"\n')
    world.wait_for_best(NOC)
    until(lambda: (tmp_path / "relay").read_text(), lambda text: text == f"{NOC}:25\n")
    assert os.stat(tmp_path / "relay").st_mode & 0o777 == 0o644
    agent.end()
    assert list(tmp_path.iterdir()) == []


def test_report_failure_moves_to_the_next_relay_and_says_why(world: World) -> None:
    for relay in (NOC, VERTEX):
        world.relay(relay)
    world.join("165.154.15.1")
    world.agent()
    world.wait_for_best(NOC)
    world.relay(NOC, "silent")  # else it is found to answer, and stands again
    world.call("ReportFailure", "sqs", NOC, "25", "554 relaying denied")
    assert world.best == f"{VERTEX}:25"
    assert world.get("Relays")[0]["reason"] == "554 relaying denied"
    refused = world.call("ReportFailure", "sqs", "other.example", "25", "", check=False)
    assert "neither in the list" in refused


def test_c11_a_sender_has_its_own_relay_in_every_output(world: World, tmp_path: Path) -> None:
    for relay in (NOC, VERTEX):
        world.relay(relay)
    world.join("165.154.15.1")
    listen = tmp_path / "map"
    world.agent(
        f'{CONFIG}[postfix]\nlisten = ["unix:{listen}"]\n[output]\ndirectory = "{tmp_path}"\n'
        f'[[sender]]\naddress = ["*@home.example"]\nrelays = ["{VERTEX}:25"]\n'
    )
    world.wait_for_best(NOC)
    until(lambda: json.loads((tmp_path / "relay.json").read_text())["senders"], lambda seen: seen[0]["host"] == VERTEX)
    assert json.loads(world.call("RelayFor", "s", "me@home.example"))["data"][:3] == [VERTEX, 25, "sender"]
    best = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "best", "--wait", "--sender"]
    for sender, relay in (("me@home.example", VERTEX), ("me@work.example", NOC), ("<>", NOC)):
        done = subprocess.run(
            [*best, sender], capture_output=True, text=True, timeout=PATIENCE, check=True, cwd=PROJECT,
            env=os.environ | world.bus.environment,
        )  # fmt: skip
        assert done.stdout == f"{relay}:25\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(listen))
            query = f"relay {sender}"
            client.sendall(f"{len(query)}:{query},".encode())
            assert f":OK [{relay}]:25" in client.recv(1000).decode()
