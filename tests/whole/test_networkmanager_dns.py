"""Roams under a real NetworkManager that keeps resolv.conf itself, or runs a local forwarder (rule E6).

At each change of connection resolv.conf is empty for some milliseconds, or the forwarder has nobody to ask and says
REFUSED. Neither is an answer of the network: the static relay must not be published for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.booted import Booted
from tests.lab.run import run
from tests.lab.site import RELAY, SERVER, Site

STATIC = "10.53.0.25:26"  # which refuses at once: the last resort (rule D3) would be published without a delay
ROAMS = 8
CONFIG = """\
[main]
plugins=keyfile
no-auto-default=*
dns={dns}
rc-manager=file
[device]
match-device=type:veth
managed=1
[connectivity]
enabled=false
"""
PROFILE = """\
[connection]
id={name}
uuid=00000000-0000-4000-8000-00000000000{number}
type=ethernet
interface-name=wan0
autoconnect={autoconnect}
[ipv4]
method=manual
address1=10.53.0.5{number}/24,10.53.0.1
dns={server};
dad-timeout=0
[ipv6]
method=disabled
"""
AGENT = f"[static]\nrelays = ['{STATIC}']\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    run("install", DESTDIR=str(root), PREFIX="/usr")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").write_text("")
    return root


@contextmanager
def managed(files: Path, dns: str) -> Iterator[Booted]:
    """A machine whose network NetworkManager manages, with two connections for its one link, and the agent running."""
    with Site() as site, Booted(files) as machine:
        machine.run("systemd-sysusers")
        machine.write("/etc/salsa-agent.toml", AGENT)
        machine.write("/etc/NetworkManager/NetworkManager.conf", CONFIG.format(dns=dns))
        machine.run("sh", "-c", "rm -f /etc/network/interfaces /etc/NetworkManager/system-connections/*")
        for number, name in enumerate(("one", "two")):
            file = f"/etc/NetworkManager/system-connections/{name}.nmconnection"
            machine.write(
                file, PROFILE.format(name=name, number=number, server=SERVER, autoconnect=str(number == 0).lower())
            )
            machine.run("chmod", "600", file)
        machine.run("systemctl", "start", "NetworkManager")
        machine.cable("wan0", site, "host0")
        site.plug("host0")
        machine.run("systemctl", "start", "salsa-agent")
        machine.until(lambda: best(machine) == RELAY, "the network's relay is used", 60)
        yield machine


def best(machine: Booted) -> str:
    return machine.run("salsactl", "best", check=False).rpartition(":")[0]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("dns", ["default", "dnsmasq"])
def test_e6_a_roam_does_not_pass_through_the_static_relay(files: Path, dns: str) -> None:
    with managed(files, dns) as machine:
        before = machine.journal("salsa-agent").count("\n")
        for roam in range(ROAMS):
            name, address = (("two", "10.53.0.51"), ("one", "10.53.0.50"))[roam % 2]
            machine.run("nmcli", "connection", "up", name)
            machine.until(lambda: address in status(machine), f"the agent uses {address}")  # noqa: B023
        since = machine.journal("salsa-agent").split("\n")[before:]
        assert len([line for line in since if "network change" in line]) >= ROAMS, since
        assert [line for line in since if f"relay is now {STATIC}" in line] == []


def status(machine: Booted) -> str:
    """The addresses and the state, once the round has decided."""
    said = machine.run("salsactl", "status", check=False)
    return said if RELAY in said and "resolving" not in said else ""
