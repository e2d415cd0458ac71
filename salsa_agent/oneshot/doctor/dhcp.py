"""Whether the DHCP client asks for option 69, by which a network may name its relays (rule C9)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from salsa_agent.oneshot.doctor.files import read
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity

_IFA_F_PERMANENT = 0x80  # linux/if_addr.h; an address from a lease has a lifetime
_NETWORKMANAGER = ("etc/NetworkManager/conf.d", "run/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")
_DHCLIENT = ("etc/dhcp/dhclient.conf", "etc/dhclient.conf")
_DHCPCD = ("etc/dhcpcd.conf",)
_ASKS = {
    "dhclient": re.compile(r"^[^#]*\brequest\b[^;#]*\bsmtp-server\b", re.MULTILINE),
    "dhcpcd": re.compile(r"^\s*option\s[^#\n]*\b(smtp_server|69)\b", re.MULTILINE),
}
_CURES = {
    "dhclient": 'Put "also request smtp-server;" into /etc/dhcp/dhclient.conf',
    "dhcpcd": 'Put "option smtp_server" into /etc/dhcpcd.conf, and the hook of docs/dhcp.md beside it',
    "internal": "Set dhcp=dhclient in the section [main] of NetworkManager.conf, with \"also request smtp-server;\" in "
    "/etc/dhcp/dhclient.conf",
}  # fmt: skip


def findings(scene: Scene) -> Iterator[Finding]:
    """An address from a lease, and a client that is not set up to ask for the option."""
    counting = {(one.ip, one.ifindex) for one in scene.addresses}
    leased = [
        host
        for host in scene.facts.addresses
        if host.ip.version == 4 and not host.flags & _IFA_F_PERMANENT and (host.ip, host.index) in counting
    ]
    if not leased or scene.agents.of_links:
        return
    client = _client(scene)
    text = _all(scene.root, _DHCLIENT if client == "dhclient" else _DHCPCD)
    if not client or (client in _ASKS and _ASKS[client].search(text)):
        return
    who = "NetworkManager's own DHCP client" if client == "internal" else client
    yield Finding(
        Severity.NOTE,
        "dhcp-option-not-asked",
        f"{leased[0].ip} comes from DHCP, and {who} does not ask for option 69 (SMTP server): a relay that this "
        "network names there is not seen.",
        f"{_CURES[client]}; a relay that the network publishes in the reverse tree is found without.",
    )


def _client(scene: Scene) -> str:
    """`internal` (NetworkManager's own), `dhclient`, `dhcpcd`; empty: none that is known."""
    if scene.networkmanager:
        files = [
            "etc/NetworkManager/NetworkManager.conf",
            *(str(file.relative_to(scene.root)) for where in _NETWORKMANAGER for file in _confs(scene.root / where)),
        ]
        named = re.findall(r"^\s*dhcp\s*=\s*(\S+)", _all(scene.root, files), re.MULTILINE)
        return named[-1] if named and named[-1] in _ASKS else "internal"
    places = {"dhclient": _DHCLIENT, "dhcpcd": _DHCPCD}
    return next((one for one in places if any((scene.root / file).exists() for file in places[one])), "")


def _confs(directory: Path) -> list[Path]:
    try:
        return sorted(directory.glob("*.conf"))
    except OSError:
        return []


def _all(root: Path, files: Sequence[str]) -> str:
    return "\n".join(read(root / file) for file in files)
