"""The whole program against real DNS servers, in the story's network, each serving the same reverse zones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab.realdns import KINDS, real_dns
from tests.lab.whole import CONFIG, NOC, SERVER, VERTEX, World

AT = {NOC: "192.0.2.25", VERTEX: "192.0.2.26"}  # where realdns has them


@pytest.mark.parametrize("kind", KINDS)
def test_each_real_server_gives_the_same_relay(kind: str, tmp_path: Path) -> None:
    with World() as world:
        world.dns.end()
        with world.far.inside(), real_dns(kind, tmp_path, SERVER, 53):
            for address in AT.values():
                world.far.ip("addr", "add", f"{address}/32", "dev", "down0")
                relay = [sys.executable, "-m", "tests.lab.smtpserver", "--listen", address]
                world.start(world.far, relay).wait_for("listening", where="out")
            world.join("165.154.15.1")
            world.agent(CONFIG + "[dns]\ntimeout = 5\n")
            world.wait_for_best(NOC)
            relays = [(one["host"], one["source"], one["level"]) for one in world.get("Relays")[:2]]
            assert relays == [(NOC, "dns", 24), (VERTEX, "dns", 24)]
            world.leave()
            world.join("165.154.15.3")  # a null MX (RFC 7505)
            world.wait_for_best("smtp.clear.net.nz")
            assert [one["outcome"] for one in world.get("Addresses")] == ["refused"]
