"""Rule C10 by the whole program: a roam between an office, a home and a network without an entry (docs/sites.md)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.ca import Ca
from tests.lab.netns import FILES, veth
from tests.lab.networkmanager import networkmanager
from tests.lab.resolved import POLICY, resolved
from tests.lab.whole import GATEWAYS, HOME, NOC, RELAYS, SERVER, VERTEX, World, plain, said, until

OFFICE, HOUSE = "165.154.15.1", "198.51.100.7"  # in networks that differ; the first publishes NOC and VERTEX
SITES = f"""
[static]
relays = ["192.0.2.99"]

[[site]]
name = "office"
domain = ["Corp.Example."]
relays = ["{VERTEX}"]

[[site]]
name = "home"
prefix = ["198.51.100.0/24"]
relays = ["{HOME}"]
use = "only"
"""


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for relay in (NOC, VERTEX, HOME):
            made.relay(relay)
        yield made


def search(world: World, domain: str) -> None:
    """What DHCP would make of resolv.conf; the agent's own name server is the same."""
    line = f"search {domain}\n" if domain else ""
    (FILES / world.host.name / "resolv.conf").write_text(f"nameserver {SERVER}\n{line}")


def listed(world: World) -> list[tuple[str, str, str]]:
    """The relays as host, source and site."""
    return [(one["host"], one["source"], one.get("site", "")) for one in world.get("Relays") or []]


def test_c10_a_roam_between_an_office_a_home_and_a_network_without_an_entry(world: World) -> None:
    agent = world.agent(SITES)
    search(world, "corp.example")
    world.join(OFFICE)
    world.wait_for_best(VERTEX, "ready")
    assert listed(world) == [(VERTEX, "site", "office"), (NOC, "dns", ""), ("192.0.2.99", "static", "")]
    assert world.get("BestRelaySource") == "site"
    assert [(one["outcome"], one["site"]) for one in world.get("Addresses")] == [("found", "office")]
    signals = world.signals()

    world.leave()
    search(world, "")
    world.join(HOUSE)
    world.wait_for_best(HOME, "ready")
    asked = world.queries()
    assert listed(world) == [(HOME, "site", "home"), ("192.0.2.99", "static", "")]
    assert [(one["outcome"], one["site"]) for one in world.get("Addresses")] == [("site", "home")]
    assert not [name for name in asked if name.endswith("51.198.in-addr.arpa")], "nothing is asked of this network"

    world.leave()
    world.join(OFFICE)  # somebody else's, as it were: no domain says that it is the office
    world.wait_for_best(NOC, "ready")
    assert [(one["host"], one["source"]) for one in world.get("Relays")][:2] == [(NOC, "dns"), (VERTEX, "dns")]
    assert "site" not in world.get("Addresses")[0]

    changes = said(signals, "BestRelayChanged")
    assert changes == [[HOME, 25, "site"], [NOC, 25, "dns"]]
    assert agent.end() == 0
    assert "Traceback" not in agent.log


def test_f4_a_domain_that_comes_later_is_a_change_of_the_network(world: World) -> None:
    world.agent(SITES)
    world.join(OFFICE)
    world.wait_for_best(NOC, "ready")
    search(world, "lan corp.example")
    world.wait_for_best(VERTEX, "ready")
    search(world, "lan")
    world.wait_for_best(NOC, "ready")


def test_c10_with_real_systemd_resolved_the_domains_are_those_of_each_link() -> None:
    with World(extra=POLICY) as world:
        for relay in (NOC, VERTEX, HOME):
            world.relay(relay)
        world.join(OFFICE)
        veth(world.host, "vpn0", world.far, "far-vpn0")
        world.host.ip("addr", "add", "198.51.100.7/24", "dev", "vpn0")
        with resolved(world.host, world.bus, conf="Domains=corp.example") as running:  # global: of no link
            asyncio.run(running.start())
            for link in ("up0", "vpn0"):
                asyncio.run(running.set_link_dns(world.host.index(link), SERVER))
            world.agent(SITES.replace(VERTEX, HOME).replace("198.51.100.0/24", "203.0.113.0/24"))
            world.wait_for_best(NOC, "ready")
            assert "site" not in {source for _, source, _ in listed(world)}
            index = world.host.index("vpn0")
            # of domains it tells nobody but by files, which are in a /run of its own here; of servers it does
            asyncio.run(running.manager("SetLinkDomains", "ia(sb)", index, 1, "corp.example", "false"))
            asyncio.run(running.set_link_dns(index, SERVER, "192.0.2.54"))
            until(lambda: listed(world), lambda seen: (HOME, "site", "office") in seen)
            relays = {one["host"]: one for one in world.get("Relays")}
            assert (relays[HOME]["interface"], relays[HOME]["address"]) == ("vpn0", "198.51.100.7")
            asyncio.run(running.manager("SetLinkDomains", "ia(sb)", index, 0))
            asyncio.run(running.set_link_dns(index, SERVER))
            until(lambda: listed(world), lambda seen: "site" not in {source for _, source, _ in seen})


def test_c12_the_home_provider_is_found_by_its_own_records(world: World, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ca = Ca(tmp_path)
    tls, starttls = "mail.home.example", "mx.home.example"
    for name, address, more in (
        (tls, RELAYS[VERTEX], ("--port", "465", "--implicit-tls")),
        (starttls, RELAYS[HOME], ("--port", "587", "--behaviour", "starttls")),
    ):
        made = ca.issue(name)
        argv = [
            "-m",
            "tests.lab.smtpserver",
            "--listen",
            address,
            "--certificate",
            str(made.file),
            "--key",
            str(made.key),
        ]
        world.start(world.far, [sys.executable, *argv, *more]).wait_for("listening", where="out")
    world.publish(
        world.zone
        | {
            "_submissions._tcp.home.example": {"SRV": ["0 1 465 mail.home.example."]},
            "_submission._tcp.home.example": {"SRV": ["0 1 587 mx.home.example.", "0 1 587 mx.evil.example."]},
            tls: {"A": [RELAYS[VERTEX]]},
            starttls: {"A": [RELAYS[HOME]]},
        }
    )
    world.join(HOUSE)
    world.agent('[static]\nrelays = ["srv:home.example"]\n', SSL_CERT_FILE=str(ca.file))
    until(lambda: (world.best, world.get("State")), lambda seen: seen == (f"{tls}:465", "ready"))
    relays = until(lambda: world.get("Relays"), lambda seen: [one["verdict"] for one in seen] == ["ok", "ok"])
    assert [(one["host"], one["port"], one["source"], one["name"], one["preference"]) for one in relays] == [
        (tls, 465, "static", "_submissions._tcp.home.example", 0),
        (starttls, 587, "static", "_submission._tcp.home.example", 0),
    ]
    assert [one["tls"] for one in relays] == ["implicit", "starttls"]
    dropped = explained(world)["dropped"]
    assert [(one["host"], one["rule"]) for one in dropped] == [("mx.evil.example", "C12")]
    assert {one["type"] for one in explained(world)["questions"]} >= {"SRV"}


def explained(world: World) -> dict[str, Any]:
    said = plain(json.loads(world.call("Explain")))
    found: dict[str, Any] = said[0] if isinstance(said, list) else said
    return found


OFFICE_UUID, HOUSE_UUID = "0f3c62aa-9b1e-4d5a-8b9b-2f0f0a4a5c11", "b2a7c0de-5a58-4f3c-8a53-1f9a3b7f4c22"
CONNECTIONS = f"""
[static]
relays = ["192.0.2.99"]

[[site]]
name = "office"
connection = ["{OFFICE_UUID}"]
relays = ["{VERTEX}"]

[[site]]
name = "home"
connection = ["Home Wi-Fi"]
relays = ["{HOME}"]
use = "only"
"""


def test_c10_with_real_networkmanager_the_connection_says_which_site_it_is() -> None:
    """All three connections are on the same link, two of them in the same network."""
    with World(extra=POLICY) as world, networkmanager(world.host, world.bus) as manager:
        for relay in (NOC, VERTEX, HOME):
            world.relay(relay)
        addresses = {name: f"{ip}/24,{GATEWAYS[ip.rpartition('.')[0]]}" for name, ip in (("a", OFFICE), ("b", HOUSE))}
        manager.profile("Office", OFFICE_UUID, "up0", addresses["a"], autoconnect=False)
        manager.profile("Home Wi-Fi", HOUSE_UUID, "up0", addresses["b"], autoconnect=False)
        other = "5d1f8f39-7d57-4b8e-9f6e-6c2a4a1f0e33"
        manager.profile("Somewhere", other, "up0", addresses["a"], autoconnect=False)
        asyncio.run(manager.start())
        agent = world.agent(CONNECTIONS)
        for uuid, best in ((OFFICE_UUID, VERTEX), (other, NOC), (HOUSE_UUID, HOME), (OFFICE_UUID, VERTEX)):
            assert asyncio.run(manager.nmcli("connection", "up", uuid))
            world.wait_for_best(best, "ready")
        assert listed(world)[0] == (VERTEX, "site", "office")
        assert agent.end() == 0
        assert "Traceback" not in agent.log
