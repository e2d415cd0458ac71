"""G1 with the whole program: behind a real masquerading router, by NAT-PMP (miniupnpd) and STUN (coturn)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.bus import PATIENCE, PROJECT, Bus, system_bus
from tests.lab.nat import CLIENT, ROUTER_OUTSIDE, SERVER, Home
from tests.lab.whole import INTERFACE, NAME, PATH, plain, until

RELAY = "relay.site.example"
ZONE = {"33.22.11.in-addr.arpa": {"MX": [f"10 {RELAY}."]}, RELAY: {"A": [SERVER]}}
DNS = f'[dns]\nservers = ["{SERVER}"]\n'
METHODS = {
    "nat-pmp": f'{DNS}[network]\nipv6_levels = []\nnat = "nat-pmp"\n',
    "stun": f'{DNS}[network]\nipv6_levels = []\nnat = "stun"\nstun_server = "{SERVER}:3478"\n',
}


@contextmanager
def site(directory: Path) -> Iterator[tuple[Home, Bus]]:
    """The home network; outside of it a DNS server, a relay, both kinds of NAT helpers."""
    with Home() as home, system_bus() as bus:
        (directory / "zone.json").write_text(json.dumps(ZONE))
        lab = [sys.executable, "-m"]
        for argv in (
            ["tests.lab.dnsserver", "--listen", SERVER, str(directory / "zone.json")],
            ["tests.lab.smtpserver", "--listen", SERVER],
        ):
            process = home.outside.exec([*lab, *argv], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
            assert process.stdout
            assert process.stdout.readline().strip() in ("ready", "listening")
        with home.miniupnpd(directory), home.coturn(directory, home.outside, SERVER):
            yield home, bus


def get(bus: Bus, name: str) -> Any:
    done = subprocess.run(
        ["busctl", f"--address={bus.address}", "--json=short", "get-property", NAME, PATH, INTERFACE, name],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    return plain(json.loads(done.stdout)) if done.returncode == 0 else None


@pytest.mark.parametrize("method", METHODS)
def test_g1_the_external_address_finds_the_relay(tmp_path: Path, method: str) -> None:
    (tmp_path / "config.toml").write_text(METHODS[method])
    with site(tmp_path) as (home, bus):
        argv = [sys.executable, "-m", "salsa_agent.cli.agent", "--config", str(tmp_path / "config.toml")]
        with (tmp_path / "log").open("wb") as log:
            agent = home.client.exec(argv, cwd=PROJECT, stderr=log, env=bus.environment)
        until(lambda: get(bus, "BestRelay"), lambda best: best == RELAY)
        found = [(one["address"], one["origin"], one["outcome"]) for one in get(bus, "Addresses")]
        assert found == [(CLIENT, "link", "none"), (ROUTER_OUTSIDE, "nat", "found")]
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(PATIENCE) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
