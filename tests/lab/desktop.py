"""A desktop without a screen: Xvfb, a session bus, on wish a tray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.lab.bus import PATIENCE
from tests.lab.whole import plain

WIDTH, HEIGHT, TRAY = 480, 240, 32
SESSION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""  # that of the machine would start services of the desktop


class Desktop:
    """A screen, a session bus, and on wish a tray. All of it is gone at the end of the block."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = Path(tempfile.mkdtemp(prefix="salsa-desktop-"))
            stack.callback(shutil.rmtree, directory)
            read, write = os.pipe()
            with open(read) as number, open(write):
                screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24"]
                xvfb = ["Xvfb", "-displayfd", str(write), *screen, "-nolisten", "tcp"]
                self._stack = stack
                self.environment = {**os.environ, "HOME": str(directory), "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1"}
                self.start(xvfb, pass_fds=[write])
                self.environment["DISPLAY"] = f":{number.readline().strip()}"
            self.address = f"unix:path={directory}/bus"
            (directory / "bus.conf").write_text(SESSION.format(address=self.address))
            bus = ["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--print-address=1"]
            daemon = self.start(bus, stdout=subprocess.PIPE)
            assert daemon.stdout
            assert daemon.stdout.readline()
            daemon.stdout.close()
            self.environment["DBUS_SESSION_BUS_ADDRESS"] = self.address
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, argv: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
        """A program of the desktop."""

        def end() -> None:
            process.terminate()  # by SIGKILL an X server would leave its socket and its lock
            process.wait(PATIENCE)

        argv = ["setpriv", "--pdeathsig", "TERM", *argv]
        process = subprocess.Popen(argv, env=self.environment, stderr=subprocess.DEVNULL, **kwargs)
        self._stack.callback(end)
        return process

    def tray(self) -> None:
        """An X tray in the upper left corner of the screen (System Tray Protocol)."""
        place = ["--edge", "top", "--align", "left", "--widthtype", "pixel", "--width", str(2 * TRAY)]
        self.start(["trayer", *place, "--height", str(TRAY)])
        self.use("search", "--sync", "--onlyvisible", "--class", "trayer")  # until it is there

    def use(self, *action: str) -> None:
        """Mouse and keyboard."""
        subprocess.run(["xdotool", *action], env=self.environment, check=True, timeout=PATIENCE)

    def colour(self, wanted: tuple[int, int, int]) -> int:
        """How many pixels of the screen have this colour."""
        shot = ["import", "-window", "root", "-depth", "8", "rgb:-"]
        done = subprocess.run(shot, env=self.environment, check=True, capture_output=True, timeout=PATIENCE)
        assert len(done.stdout) == WIDTH * HEIGHT * 3
        pixels = zip(done.stdout[::3], done.stdout[1::3], done.stdout[2::3], strict=True)
        return sum(pixel == wanted for pixel in pixels)

    def busctl(self, *args: str) -> Any:
        """`busctl` on the session bus; its answer as plain values, None where there is none."""
        argv = ["busctl", f"--address={self.address}", "--json=short", "--", *args]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE)
        return plain(json.loads(done.stdout)) if done.stdout else None
