"""A network that publishes a relay in its reverse tree: 10.53.0.0/24, served by real dnsmasq, its relay on port 25.

name server 10.53.0.1     relay.site.example 10.53.0.25, MX of 0.53.10.in-addr.arpa
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.lab.needs import Need, require
from tests.lab.netns import Netns
from tests.lab.run import PROJECT

RELAY = "relay.site.example"
SERVER = "10.53.0.1"
HOST = "10.53.0.10"  # a host in it, for who gives addresses by hand
OPTIONS = f"""
    --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root --log-facility=/dev/null
    --interface=site0 --bind-interfaces --local=/site.example/ --local=/10.in-addr.arpa/
    --host-record={RELAY},10.53.0.25 --mx-host=0.53.10.in-addr.arpa,{RELAY},10
"""


class Site(Netns):
    """Its router `site0` waits for a cable; `dnsmasq` options, such as those of DHCP, may be added."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    def __enter__(self) -> Self:
        super().__enter__()
        self.ip("link", "add", "site0", "type", "bridge")
        for address in (SERVER, "10.53.0.25"):
            self.ip("address", "add", f"{address}/24", "dev", "site0")
        self.ip("link", "set", "site0", "up")
        require(Need.USERS)  # dnsmasq sets its groups, also as root
        self.exec(["dnsmasq", *OPTIONS.split(), *self._options])
        self.exec(
            [sys.executable, "-m", "tests.lab.smtpserver", "--listen", "10.53.0.25", "--port", "25"],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
        )
        return self

    def plug(self, link: str) -> None:
        """Put the far end of a cable into the switch."""
        self.ip("link", "set", link, "master", "site0")


def leases(directory: Path) -> list[str]:
    """dnsmasq options for a DHCP server that gives option 69."""
    return [
        "--dhcp-range=10.53.0.50,10.53.0.90,2m",
        "--dhcp-option=option:smtp-server,10.53.0.25",
        f"--dhcp-leasefile={directory}/leases",
    ]
