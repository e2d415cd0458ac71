"""A message bus of the agent's own, for where there is no other (`--bus auto`)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

_START, _STOP = 10.0, 5.0  # seconds
_PREFIX = "salsa-agent-"
_MAX_PARENT = 107 - len(f"/{_PREFIX}12345678/bus")  # unix(7): sun_path

_CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <!-- as a session bus has it; without an <allow user="..."/> only the user who runs it may connect -->
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

# The daemon ends, and its directory goes, when this process does, however it does: the shell's standard input is at
# its end then. In the background a shell gives its children no terminal's SIGINT.
_KEEPER = """\
dbus-daemon --config-file="$1/bus.conf" --nofork --nopidfile --print-address=1 &
exec 1>&-
read -r _
kill "$!" 2>/dev/null
wait "$!"
rm -rf -- "$1"
"""


class PrivateBusFailed(Exception):
    """There is no private bus to be had; the message is one line."""


class PrivateBus:
    """A dbus-daemon in a directory of mode 0700, which only the same user can reach."""

    def __init__(self, address: str, keeper: subprocess.Popen[bytes], directory: Path) -> None:
        self.address = address
        self._keeper = keeper
        self._directory = directory

    @classmethod
    async def start(cls) -> PrivateBus:
        """Start one. Raises PrivateBusFailed; nothing is left then."""
        if shutil.which("dbus-daemon") is None:
            raise PrivateBusFailed("dbus-daemon is not installed")
        try:
            directory = _directory()
        except OSError as error:
            raise PrivateBusFailed(f"no directory for it: {error.strerror}") from error
        try:
            return await cls._start(directory)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise PrivateBusFailed(f"it cannot be started: {error.strerror}") from error

    @classmethod
    async def _start(cls, directory: Path) -> PrivateBus:
        wanted = _address(directory)
        (directory / "bus.conf").write_text(_CONFIG.format(address=escape(wanted)))
        keeper = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond; asyncio's own would start a thread
            ["/bin/sh", "-c", _KEEPER, "sh", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's SIGINT and SIGHUP
        )
        bus = cls(wanted, keeper, directory)
        try:
            line = await bus._line()
        except BaseException:
            await bus.close()
            raise
        if not line.lower().startswith(wanted.lower()):  # the daemon adds its guid, and escapes in lower case
            await bus.close()
            raise PrivateBusFailed("dbus-daemon did not start")
        return bus

    async def _line(self) -> str:
        """What the daemon prints, up to the end of the line or of its output."""
        got = bytearray()
        with suppress(TimeoutError):
            async with asyncio.timeout(_START):
                while not got.endswith(b"\n") and (more := await self._output()):
                    got += more
        return got.decode(errors="replace").strip()

    async def _output(self) -> bytes:
        """The next octets from the daemon; none: it has ended."""
        assert self._keeper.stdout is not None
        fd = self._keeper.stdout.fileno()
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(fd)
        return os.read(fd, 4096)

    async def close(self) -> None:
        """End it, and remove its directory. Idempotent."""
        keeper = self._keeper
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        if keeper.stdin.closed:
            return
        keeper.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP):
                    while await self._output():
                        pass
        finally:  # its output has ended, so the rest takes the shell no time
            keeper.stdout.close()
            try:
                keeper.wait(_STOP)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(keeper.pid, 9)
                keeper.wait()
            shutil.rmtree(self._directory, ignore_errors=True)


def private_buses() -> list[str]:
    """The addresses of this user's private buses: what `start` made and has not ended."""
    found = []
    for parent in dict.fromkeys(_parents()):
        with suppress(OSError):
            for directory in sorted(Path(parent).glob(f"{_PREFIX}*")):
                status = directory.lstat()
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and (directory / "bus").is_socket():
                    found.append(_address(directory))
    return found


def _address(directory: Path) -> str:
    return f"unix:path={quote(str(directory / 'bus'), safe='/-_.')}"


def _parents() -> list[str]:
    every = [os.environ.get("XDG_RUNTIME_DIR", "")]
    with suppress(FileNotFoundError):  # nowhere can be written: a read-only root, or a full disk
        every.append(tempfile.gettempdir())
    every.append("/tmp")  # noqa: S108 - mkdtemp is safe
    return [parent for parent in every if parent.startswith("/") and len(os.fsencode(parent)) <= _MAX_PARENT]


def _directory() -> Path:
    """A fresh one of mode 0700, in $XDG_RUNTIME_DIR if that can be, else where temporary files go.

    Nowhere where another user could put something else in its place: `sudo` may keep the environment of its user.
    """
    failure = OSError(errno.ENAMETOOLONG, "its path would be too long")
    for parent in _parents():
        try:
            _refuse_others_directory(parent)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        except OSError as error:
            failure = error
    raise failure


def _refuse_others_directory(path: str) -> None:
    """Raise PermissionError if another user could rename or replace what this directory holds."""
    status = Path(path).stat()
    if status.st_mode & stat.S_ISVTX:  # as /tmp is
        return
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, f"{path} is another user's")
