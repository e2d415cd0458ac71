"""The real agent on real buses, while users of the machine make connections and calls as fast as they can."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bus import KINDS, NOBODY, PATIENCE, PROJECT, STRANGERS, Bus, system_bus
from tests.lab.whole import until

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"
SECONDS = 4.0


@contextlib.contextmanager
def agent(bus: Bus, directory: Path) -> Iterator[int]:
    """The agent without a network; its process id."""
    config = directory / "agent.toml"
    config.write_text('[static]\nrelays = ["192.0.2.1"]\n')
    environment = {**bus.environment, "RUNTIME_DIRECTORY": str(directory)}
    command = [sys.executable, "-m", "salsa_agent.cli.agent", "--bus", "system", "--config", str(config)]
    process = subprocess.Popen(["unshare", "--net", *command], cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: busctl(bus, "get-property", NAME, PATH, NAME, "State"), lambda done: done.returncode == 0)
        yield process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE)


def busctl(bus: Bus, *args: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", f"--reuid={uid}", "--clear-groups", "busctl", "--system", "--auto-start=no", *args]
    return subprocess.run(command, env=bus.environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def memory(pid: int, what: str) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


@pytest.mark.needs("namespaces", "users")
@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_come_and_go_fill_no_memory_and_root_is_heard_meanwhile(kind: str, tmp_path: Path) -> None:
    """Before: 114 MiB in ten seconds on dbus-daemon, 228 on dbus-broker, and calls of root lost."""
    with system_bus(kind) as bus, agent(bus, tmp_path) as pid, contextlib.ExitStack() as stack:
        before = memory(pid, "VmRSS")
        attackers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.lab.churn", bus.address, str(uid), str(SECONDS)],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for uid in (NOBODY, STRANGERS[0])
        ]
        for attacker in attackers:
            assert attacker.stdout
            stack.callback(attacker.wait)
            stack.callback(attacker.stdout.close)
            stack.callback(attacker.kill)
        kept = tmp_path / "link-relays.json"
        for number in range(1, 9):
            said = ["SetLinkRelays", "ias", "1", "1", f"192.0.2.{number}"]
            done = busctl(bus, "--expect-reply=no", "call", NAME, PATH, NAME, *said)
            assert done.returncode == 0, done.stderr
            until(
                lambda: json.loads(kept.read_text())[0]["relays"] if kept.exists() else [],
                lambda relays, number=number: relays == [f"192.0.2.{number}"],  # type: ignore[misc]
            )
        made = [int(attacker.communicate(timeout=PATIENCE)[0]) for attacker in attackers]
        assert min(made) > 100
        # what the bus still held of theirs is worked off
        until(
            lambda: busctl(bus, "call", NAME, PATH, NAME, "Refresh", uid=STRANGERS[1]), lambda done: not done.returncode
        )
        assert memory(pid, "VmHWM") - before < 16 * 1024
        assert memory(pid, "VmHWM") < 64 * 1024
