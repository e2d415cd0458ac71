"""DHCP option 69 by the real dhcpcd, with the hook of docs/dhcp.md (rule C9)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.run import PROJECT
from tests.lab.unpacked import Unpacked
from tests.lab.whole import NOC, RELAYS, VERTEX, World, until

PAGE = (PROJECT / "docs" / "dhcp.md").read_text()
BLOCKS = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SERVER = "165.154.15.253"
LEASES = [
    "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--log-facility=/dev/null",
    "--interface=down0", "--bind-dynamic", "--pid-file=", "--dhcp-leasefile=/dev/null", "--dhcp-authoritative",
    "--dhcp-range=165.154.15.1,165.154.15.1,255.255.255.0,2m", "--dhcp-option=option:router,165.154.15.254",
]  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for relay in (NOC, VERTEX):
            made.relay(relay)
        made.far.ip("addr", "add", f"{SERVER}/24", "dev", "down0")
        yield made


def given(world: World) -> list[str]:
    """The relays of source `link`."""
    return [relay["host"] for relay in world.get("Relays") or [] if relay["source"] == "link"]


def test_c9_dhcpcd_hands_option_69_over_and_takes_it_back(world: World) -> None:
    smtp = f"--dhcp-option=option:smtp-server,{RELAYS[VERTEX]}"
    with Unpacked(world.host, "dhcpcd-base") as inside:
        inside.path("/run/dbus").mkdir()
        inside.path("/run/dbus/system_bus_socket").symlink_to(world.bus.address.partition("path=")[2].partition(",")[0])
        with inside.path("/etc/dhcpcd.conf").open("a") as conf:
            conf.write(BLOCKS["dhcpcd/dhcpcd.conf"])
        inside.write("/etc/dhcpcd.exit-hook", BLOCKS["dhcpcd/exit-hook"])
        world.agent()
        until(lambda: world.get("State"), lambda state: state == "offline")
        server = world.start(world.far, [*LEASES, smtp])
        client = inside.argv("dhcpcd", "--nobackground", "-4", "--noarp", "--nohook", "resolv.conf", "up0")
        first = world.start(world.host, client)
        until(lambda: given(world), lambda seen: seen == [RELAYS[VERTEX]])

        server.end()
        world.start(world.far, LEASES)
        inside.run("dhcpcd", "--rebind", "up0")
        until(lambda: given(world), lambda seen: seen == [])
        first.end()
