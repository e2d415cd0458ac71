"""The whole program beside a real systemd-resolved (F1): each address is asked for at the servers of its own link."""

from __future__ import annotations

import asyncio
import json
import sys

from tests.lab.netns import veth
from tests.lab.resolved import POLICY, resolved
from tests.lab.whole import HOME, NET16, NOC, SERVER, VERTEX, World, plain, until

OTHER = "198.51.100.53"  # the name server of the second link
OTHER_NET = "100.51.198.in-addr.arpa"


def test_f1_split_dns_and_a_hosts_file_that_lists_the_hosts_own_address() -> None:
    """The stub answers for addresses of the hosts file itself and never asks the network; the agent passes it by."""
    with World(extra=POLICY) as world:
        for relay in (NOC, VERTEX, HOME):
            world.relay(relay)
        world.join("165.154.15.1")
        veth(world.host, "vpn0", world.far, "far-vpn0")
        world.host.ip("addr", "add", "198.51.100.7/24", "dev", "vpn0")
        world.far.ip("addr", "add", f"{OTHER}/32", "dev", "far-vpn0")
        world.far.ip("route", "replace", "198.51.100.7/32", "dev", "far-vpn0")
        # each zone is known to one of the two servers only, and so is the address of its relay
        inside = {OTHER_NET: {"MX": [f"10 {VERTEX}."]}, VERTEX: {"A": ["203.0.113.2"]}}
        world.publish({name: entry for name, entry in world.zone.items() if name != VERTEX} | {
            NET16: {"MX": [f"10 {NOC}."]}
        })  # fmt: skip
        (world.directory / "inside.json").write_text(json.dumps(inside))
        lab = [sys.executable, "-m", "tests.lab.dnsserver", "--listen", OTHER, str(world.directory / "inside.json")]
        world.start(world.far, lab).wait_for("ready", where="out")
        with resolved(world.host, world.bus, hosts="127.0.0.1 localhost\n165.154.15.1 laptop\n") as running:
            asyncio.run(running.start())
            asyncio.run(running.set_link_dns(world.host.index("up0"), SERVER))
            asyncio.run(running.set_link_dns(world.host.index("vpn0"), OTHER))
            world.agent()
            world.wait_for_best(NOC)
            found = until(lambda: world.get("Relays"), lambda relays: len(relays) == 3)
            assert [(one["host"], one["interface"]) for one in found[:2]] == [(NOC, "up0"), (VERTEX, "vpn0")]
            servers = {one["name"]: one["server"] for one in questions(world) if one["type"] == "MX"}
            assert servers[NET16] == SERVER
            assert servers[OTHER_NET] == OTHER
            asyncio.run(running.set_link_dns(world.host.index("vpn0"), SERVER))  # followed
            until(lambda: [one["host"] for one in world.get("Relays")], lambda hosts: hosts == [NOC, HOME])


def questions(world: World) -> list[dict[str, str]]:
    said = plain(json.loads(world.call("Explain")))
    questions: list[dict[str, str]] = (said[0] if isinstance(said, list) else said)["questions"]
    return questions
