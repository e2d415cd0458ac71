"""A real systemd-resolved in a network namespace, on a bus that stands in for the system bus.

It sees a /run and an /etc/resolv.conf of its own, which from here are files in `directory`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.bus import PATIENCE, Bus
from tests.lab.needs import Need, require
from tests.lab.netns import Netns

NAME = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"
POLICY = "<includedir>/usr/share/dbus-1/system.d</includedir>"  # for `system_bus(extra=...)`: what the package ships

_IN_RESOLVED = """\
mount --bind "$1/run" /run && mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts &&
exec /lib/systemd/systemd-resolved
"""


class Resolved:
    """`uplinks` and `stub`: the resolv.conf files that it writes."""

    def __init__(self, space: Netns, bus: Bus, directory: Path) -> None:
        self.directory = directory
        self.uplinks = directory / "run/systemd/resolve/resolv.conf"
        self.stub = directory / "run/systemd/resolve/stub-resolv.conf"
        self._space = space
        self._bus = bus
        self.process: subprocess.Popen[Any] | None = None

    async def start(self) -> None:
        """Start it, and wait until it is on the bus."""
        with (self.directory / "log").open("ab") as log:
            self.process = self._space.exec(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _IN_RESOLVED, "sh", str(self.directory)],
                env=self._bus.environment | {"SYSTEMD_LOG_TARGET": "console"},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while (await self._bus.busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                                      "GetNameOwner", "s", NAME)).status:  # fmt: skip
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"systemd-resolved did not start: {(self.directory / 'log').read_text()}")
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    async def manager(self, method: str, signature: str, *args: object) -> str:
        """Call a method of its Manager by `busctl`; the reply as that prints it."""
        done = await self._bus.busctl(
            "call", NAME, PATH, f"{NAME}.Manager", method, signature, *(str(one) for one in args)
        )
        assert done.status == 0, done.err
        return done.out

    async def set_link_dns(self, index: int, *servers: str, ports: dict[str, int] | None = None) -> None:
        """What a network manager does: these are the servers of the link. `ports`: of those with another than 53."""
        args: list[object] = [index, len(servers)]
        for server in servers:
            octets = ipaddress.ip_address(server).packed
            family = 2 if len(octets) == 4 else 10
            args += [family, len(octets), *octets, (ports or {}).get(server, 0), ""]
        await self.manager("SetLinkDNSEx", "ia(iayqs)", *args)

    async def set_link_domains(self, index: int, *domains: str) -> None:
        """The link's search domains, with `~` routing domains."""
        args: list[object] = [index, len(domains)]
        for domain in domains:
            args += [domain.removeprefix("~"), str(domain.startswith("~")).lower()]
        await self.manager("SetLinkDomains", "ia(sb)", *args)


@contextmanager
def resolved(space: Netns, bus: Bus, *, hosts: str = "127.0.0.1 localhost\n", conf: str = "") -> Iterator[Resolved]:
    """Not started yet. `bus` is one with POLICY. `conf`: lines of the section [Resolve] of its resolved.conf."""
    require(Need.NAMESPACES, Need.USERS)
    directory = Path(tempfile.mkdtemp(prefix="salsa-resolved-"))
    here = Resolved(space, bus, directory)
    try:
        directory.chmod(0o755)
        (directory / "run/systemd/resolve").mkdir(parents=True)
        (directory / "run/systemd/netif/links").mkdir(parents=True)
        shutil.chown(directory / "run/systemd/resolve", "systemd-resolve", "systemd-resolve")
        (directory / "resolv.conf").write_text("nameserver 127.0.0.53\n")
        (directory / "hosts").write_text(hosts)
        if conf:
            (directory / "run/systemd/resolved.conf.d").mkdir()
            (directory / "run/systemd/resolved.conf.d/test.conf").write_text(f"[Resolve]\n{conf}\n")
        for top, names, _ in os.walk(directory / "run"):
            for name in names:
                os.chmod(os.path.join(top, name), 0o755)
        yield here
    finally:
        if here.process is not None and here.process.poll() is None:
            here.process.kill()
            here.process.wait()
        shutil.rmtree(directory)
