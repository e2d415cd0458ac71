"""NetworkManager's and systemd-networkd's dispatchers with a script: a link of their own, and files of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.lab import PEERS, Lab, owner, until
from tests.lab.netns import veth

LINK = "net0"
STAYS = "10.250.0.7/32"  # an address that the link has already; no measured one is in its network


@dataclass(frozen=True)
class Dispatcher:
    """A daemon and its dispatcher. `undo`: what makes the link as new once its address is gone."""

    label: str
    script: str
    ready: Callable[[Lab], bool]
    undo: tuple[str, ...] = ()

    def start(self, lab: Lab) -> None:
        """Start them in this lab, which is theirs from then on; they end with it."""
        veth(lab.host, LINK, lab.far, "net1")
        lab.start(["unshare", "--mount", "--uts", "sh", str(PEERS / self.script), lab.bus, str(lab.directory), LINK])
        until(lambda: self.ready(lab), f"{self.label} is ready")

    def take_address(self, lab: Lab) -> None:
        """The link gets one for good, and its script is called for that."""
        calls = lab.directory / "calls"
        before = calls.read_text() if calls.exists() else ""
        lab.host.ip("addr", "add", STAYS, "dev", LINK)
        until(lambda: calls.exists() and calls.read_text() != before, f"{self.label} calls its script")


def _networkmanager(lab: Lab) -> bool:
    nmcli = ["env", f"DBUS_SYSTEM_BUS_ADDRESS={lab.bus}", "nmcli", "--terse", "--fields", "DEVICE,STATE", "device"]
    with suppress(RuntimeError):  # it is not quite there
        return owner(lab, "org.freedesktop.NetworkManager") and f"{LINK}:disconnected" in lab.run(nmcli)
    return False


def _networkd(lab: Lab) -> bool:
    path = f"/org/freedesktop/network1/link/_3{lab.host.index(LINK)}"  # its first digit is escaped
    link = ("org.freedesktop.network1", path, "org.freedesktop.network1.Link", "AdministrativeState")
    return "Startup complete" in lab.log() and lab.get(*link) == "configured"


NETWORKMANAGER = Dispatcher(
    "NetworkManager's dispatcher",
    "networkmanager.sh",
    _networkmanager,
    # an address of the kernel's is taken for a connection, which stays without it
    ("nmcli", "device", "disconnect", LINK),
)
NETWORKD = Dispatcher("networkd's dispatcher", "networkd.sh", _networkd)
