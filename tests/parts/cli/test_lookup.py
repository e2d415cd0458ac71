"""`salsactl lookup`: the real process, a real DNS server, no agent and no bus."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from salsa_agent.bus.client import plain
from salsa_agent.bus.convert import asked, relay
from salsa_agent.core.model import ListedRelay
from tests.lab.bus import PATIENCE, Done
from tests.lab.dnsserver import dns_server
from tests.parts.cli import samples as say
from tests.parts.cli.test_salsactl import SALSACTL, refused

ZONE = {
    "154.165.in-addr.arpa": {"MX": ["10 noc.tor.hookup.net.", "20 localhost."]},
    "noc.tor.hookup.net": {"A": ["192.0.2.25"]},
    "8.b.d.0.1.0.0.2.ip6.arpa": {"MX": ["0 ."]},
}


async def lookup(*argv: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *SALSACTL, "lookup", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


def configured(tmp_path: Path, port: int) -> str:
    config = tmp_path / "salsa.toml"
    config.write_text(f'[dns]\nservers = ["127.0.0.1:{port}"]\n')
    return f"--config={config}"


async def test_lookup_needs_no_agent(tmp_path: Path) -> None:
    async with dns_server(ZONE) as server:
        config = configured(tmp_path, server.port)
        shown = await lookup("165.154.15.1", config)
        told = await lookup("165.154.15.1", config, "--json")
    assert (shown.status, shown.err) == (0, "")
    assert "* /16    found    NOERROR   127.0.0.1" in shown.out
    assert "noc.tor.hookup.net:25" in shown.out
    found = json.loads(told.out)
    assert [(one["host"], one["port"], one["source"], one["level"]) for one in found["relays"]] == [
        ("noc.tor.hookup.net", 25, "dns", 16)
    ]
    assert [(one["name"], one["type"], one["outcome"]) for one in found["questions"]][:3] == [
        (say.NAME_32, "MX", "none"), (say.NAME_24, "MX", "none"), (say.NAME_16, "MX", "found"),
    ]  # fmt: skip


async def test_lookup_json_has_the_keys_of_the_method(tmp_path: Path) -> None:
    async with dns_server(ZONE) as server:
        told = json.loads((await lookup("165.154.15.1", configured(tmp_path, server.port), "--json")).out)
    assert told.keys() == {"relays", "questions"}
    [of] = told["relays"]
    assert of.keys() <= plain(relay(ListedRelay(say.NOC), lambda _: 0)).keys()
    for one in told["questions"]:
        assert one.keys() <= plain(asked(say.EXPLAINED.questions[0])).keys()


async def test_b8_lookup_asks_for_srv_records_where_the_configuration_says_so(tmp_path: Path) -> None:
    name = "_submissions._tcp.154.165.in-addr.arpa"
    async with dns_server({**ZONE, name: {"SRV": ["10 0 465 noc.tor.hookup.net."]}}) as server:
        config = configured(tmp_path, server.port)
        assert "SRV" not in (await lookup("165.154.15.1", config)).out
        with (tmp_path / "salsa.toml").open("a") as file:
            file.write("srv = true\n")
        shown = await lookup("165.154.15.1", config)
        told = json.loads((await lookup("165.154.15.1", config, "--json")).out)
    assert (shown.status, shown.err) == (0, "")
    assert re.search(rf"^\* SRV +found .*\n +{re.escape(name)}$", shown.out, re.MULTILINE)
    assert "noc.tor.hookup.net:465" in shown.out
    [found] = told["relays"]
    assert (found["port"], found["name"], found["level"], found["tls"]) == (465, name, 16, "implicit")
    services = [one for one in told["questions"] if one["type"] == "SRV"]
    assert len(services) == 6
    assert all("level" not in one for one in services), "only questions for MX have one"


async def test_lookup_status_1_when_no_relay_is_found(tmp_path: Path) -> None:
    async with dns_server(ZONE) as server:
        config = configured(tmp_path, server.port)
        for address in ("192.0.2.1", "2001:db8::1"):
            done = await lookup(config, address)
            assert (done.status, done.err) == (1, "")
            assert "No relay" in done.out
            done = await lookup(config, "--json", address)
            assert (done.status, json.loads(done.out)["relays"]) == (1, [])
        assert "refused" in (await lookup(config, "2001:db8::1")).out


async def test_lookup_bad_configuration_is_status_78(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[dns]\ntimeout = 900\n")
    refused(await lookup("192.0.2.1", "--config", str(tmp_path / "bad.toml")), 78, "dns.timeout")
    refused(await lookup("192.0.2.1", "--config", str(tmp_path / "none.toml")), 78, "none.toml")
