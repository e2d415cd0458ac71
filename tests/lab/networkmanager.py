"""A real NetworkManager in a network namespace, on a bus that stands in for the system bus.

It sees an /etc/NetworkManager, a /run and a /var/lib/NetworkManager of its own, which from here are in `directory`.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.bus import PATIENCE, Bus
from tests.lab.netns import Netns

POLICY = "<includedir>/usr/share/dbus-1/system.d</includedir>"  # for `system_bus(extra=...)`: what the package ships

_CONFIG = """\
[main]
plugins=keyfile
dhcp=internal
dns=none
rc-manager=unmanaged
no-auto-default=*
auth-polkit=false
[device]
match-device=type:veth
managed=1
[connectivity]
enabled=false
[logging]
backend=stderr
"""
_PROFILE = """\
[connection]
id={id}
uuid={uuid}
type=ethernet
interface-name={interface}
autoconnect={autoconnect}
[ipv4]
method=manual
address1={address}
dad-timeout=0
[ipv6]
method=disabled
"""
_INSIDE = """\
mount --bind "$1/etc" /etc/NetworkManager && mount --bind "$1/lib" /var/lib/NetworkManager &&
mount -t tmpfs tmpfs /run && mkdir /run/NetworkManager && mount --bind "$1/run" /run/NetworkManager &&
umount -l /sys && mount -t sysfs -o ro sysfs /sys && exec NetworkManager --no-daemon
"""


class NetworkManager:
    """Not started yet."""

    def __init__(self, space: Netns, bus: Bus, directory: Path) -> None:
        self.directory = directory
        self._space = space
        self._bus = bus
        self.process: subprocess.Popen[Any] | None = None

    def profile(self, name: str, uuid: str, interface: str, address: str, *, autoconnect: bool = True) -> None:
        """A connection profile, as a file: before the start."""
        file = self.directory / "etc/system-connections" / f"{uuid}.nmconnection"
        text = _PROFILE.format(
            id=name, uuid=uuid, interface=interface, address=address, autoconnect=str(autoconnect).lower()
        )
        file.write_text(text)
        file.chmod(0o600)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = self._space.exec(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh", str(self.directory)],
                env=self._bus.environment,
                stdout=log,
                stderr=log,
            )
        await self.until(lambda: self.nmcli("general", "status"))

    async def nmcli(self, *words: str) -> bool:
        """Whether `nmcli` with these words succeeds."""
        done = await self._bus.run(["nmcli", "--wait", "10", *words])
        return done.status == 0

    async def until(self, condition: Any) -> None:
        """Wait until the condition, a coroutine function, holds."""
        deadline = time.monotonic() + PATIENCE
        while not await condition():
            if time.monotonic() > deadline or (self.process is not None and self.process.poll() is not None):
                raise AssertionError(f"NetworkManager: {(self.directory / 'log').read_text()}")
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait for its end: it leaves its links as they are."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def kill(self) -> None:
        """It dies."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)


@contextmanager
def networkmanager(space: Netns, bus: Bus) -> Iterator[NetworkManager]:
    """Not started yet. `bus` is one with POLICY."""
    directory = Path(tempfile.mkdtemp(prefix="salsa-networkmanager-"))
    here = NetworkManager(space, bus, directory)
    try:
        directory.chmod(0o755)
        for name in ("etc/system-connections", "etc/conf.d", "lib", "run"):
            (directory / name).mkdir(parents=True)
        (directory / "etc/NetworkManager.conf").write_text(_CONFIG)
        (directory / "log").touch()
        yield here
    finally:
        here.kill()
        shutil.rmtree(directory)
