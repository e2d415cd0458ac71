"""A home network: a client and a neighbour behind a router that masquerades, and what lies outside. All of it is real.

The outside has a network that is in use in the world, as miniupnpd takes none of the documentation prefixes for public.
Nothing in here has a way to the world.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.lab.needs import Need, require
from tests.lab.netns import Netns, veth

CLIENT, NEIGHBOUR, GATEWAY = "192.168.1.10", "192.168.1.66", "192.168.1.1"
CLIENT6, GATEWAY6 = "2001:db8:1::10", "2001:db8:1::1"
ROUTER_OUTSIDE, SERVER = "11.22.33.1", "11.22.33.9"
PATIENCE = 30.0

_MASQUERADE = """
table inet filter {
    chain forward { type filter hook forward priority 0; }
    chain miniupnpd { }
}
table inet nat {
    chain postrouting { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""

_MINIUPNPD = """
ext_ifname=wan0
listening_ip=lan0
enable_natpmp=yes
enable_upnp=no
upnp_table_name=filter
upnp_nat_table_name=nat
"""


class Home:
    """The four namespaces, for the length of a `with` block. The client has `up0`, the router `lan0` and `wan0`."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self.client, self.neighbour, self.router, self.outside = (
                self._stack.enter_context(Netns()) for _ in range(4)
            )
            self._build()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        self.router.ip("link", "add", "lan0", "type", "bridge")
        veth(self.client, "up0", self.router, "lan1")
        veth(self.neighbour, "up0", self.router, "lan2")
        veth(self.router, "wan0", self.outside, "down0")
        self.router.batch(
            [
                "link set lan1 master lan0",
                "link set lan2 master lan0",
                "link set lan0 up",
                f"addr add {GATEWAY}/24 dev lan0",
                f"addr add {GATEWAY6}/64 dev lan0 nodad",
                f"addr add {ROUTER_OUTSIDE}/24 dev wan0",
            ]
        )
        self.client.batch(
            [
                f"addr add {CLIENT}/24 dev up0",
                f"addr add {CLIENT6}/64 dev up0 nodad",
                f"route add default via {GATEWAY}",
            ]
        )
        self.neighbour.ip("addr", "add", f"{NEIGHBOUR}/24", "dev", "up0")
        self.outside.ip("addr", "add", f"{SERVER}/24", "dev", "down0")
        self.router.sysctl("net/ipv4/ip_forward", 1)
        self.router.run(["nft", "-f", "-"], input=_MASQUERADE)

    @contextmanager
    def miniupnpd(self, directory: Path) -> Iterator[subprocess.Popen[Any]]:
        """A NAT-PMP gateway on the router. On SIGUSR1 it announces its external address."""
        conf = directory / "miniupnpd.conf"
        conf.write_text(_MINIUPNPD)
        argv = ["miniupnpd", "-d", "-f", str(conf), "-P", str(directory / "miniupnpd.pid")]
        with _daemon(self.router, argv, directory, port=5351) as process:
            yield process

    @contextmanager
    def coturn(self, directory: Path, space: Netns, *addresses: str, port: int = 3478) -> Iterator[None]:
        """A STUN server in `space` at the `addresses`."""
        said = subprocess.run(["turnserver", "-h"], capture_output=True, text=True, timeout=30).stdout
        argv = ["turnserver", "-n", "-p", str(port), "--no-tls", "--stun-only"]
        argv += [option for option in ("--no-dtls", "--no-cli") if option in said]  # off anyway where they are gone
        argv += [f"--log-file={directory / 'coturn.log'}", "--simple-log", f"--pidfile={directory / 'coturn.pid'}"]
        for address in addresses:
            argv += ["-L", address]
        with _daemon(space, argv, directory, port=port):
            yield

    @contextmanager
    def dnsmasq(self, directory: Path, *records: str) -> Iterator[None]:
        """A DNS server outside, with these `--host-record`s."""
        require(Need.USERS)  # it sets its groups, also as root
        argv = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"]
        argv += ["--pid-file=", *(f"--host-record={record}" for record in records)]
        with _daemon(self.outside, argv, directory, port=53):
            yield


@contextmanager
def _daemon(space: Netns, argv: Sequence[str], directory: Path, port: int) -> Iterator[subprocess.Popen[Any]]:
    """A server in the foreground, from the moment it listens on a UDP port."""
    log = directory / f"{argv[0]}.out"
    with log.open("wb") as out:
        process = space.exec(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + PATIENCE
        while not space.run(["ss", "-H", "-uln", f"sport = :{port}"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} does not listen: {log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
