"""The files that hold the best relay for programs which do not speak D-Bus (design section 5)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress

from salsa_agent.core.model import Best
from salsa_agent.text import host_port

FILES = ("relay", "relay.env", "relay.json")
AGAIN = 10.0  # seconds until what could not be written is tried again

_MODE = 0o644
_SAFE_HOST = re.compile(r"[A-Za-z0-9._:-]*", re.ASCII)  # a name or a literal: nothing that a shell reads as more

log = logging.getLogger("salsa-agent")


class RelayFile:
    """Keeps `relay`, `relay.env` and `relay.json` in a directory, and true.

    Each is replaced by rename. What cannot be written is removed rather than left to lie, warned of once, and tried
    again. No directory: nothing is kept.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._best: Best | None = None  # what the files should say; None: there are to be none
        self._error = ""
        self._again: asyncio.TimerHandle | None = None

    def write(self, best: Best) -> None:
        """Have the files say this; to be called in the loop."""
        self._best = best
        self._keep()

    def clear(self) -> None:
        """Remove the files: nobody keeps them true from now on, or not yet."""
        self._best = None
        self._keep()

    def move(self, directory: str) -> None:
        """Keep the files in this directory from now on. In the same one they are written anew."""
        best = self._best
        if directory != self._directory:
            self.clear()
            self._directory, self._error = directory, ""
        if best is not None:
            self.write(best)

    def _keep(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._directory:
            return
        try:
            with _Directory(self._directory) as directory:
                if self._best is None:
                    directory.remove(FILES)
                else:
                    directory.replace(self._best)
        except (OSError, ValueError) as error:
            self._failed(error)
            return
        if self._error:
            log.info("the relay files in %s are written again", self._directory)
            self._error = ""

    def _failed(self, error: Exception) -> None:
        if isinstance(error, FileNotFoundError) and self._best is None:
            return  # no directory, hence no file in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if reason != self._error:
            self._error = reason
            log.warning("the relay files in %s cannot be kept: %s", self._directory, reason)
        if self._best is not None and isinstance(error, OSError):
            self._again = asyncio.get_running_loop().call_later(AGAIN, self._keep)


def contents(best: Best) -> dict[str, str]:
    """What each file says of the best relay. Raises ValueError for a host that no file may hold."""
    if not _SAFE_HOST.fullmatch(best.host):
        raise ValueError("the host is neither a name nor an address")
    return {
        "relay": f"{host_port(best.host, best.port)}\n" if best.host else "",
        "relay.env": f"SALSA_HOST={best.host}\nSALSA_PORT={best.port}\nSALSA_SOURCE={best.source}\n",
        "relay.json": json.dumps({"host": best.host, "port": best.port, "source": best.source}) + "\n",
    }


class _Directory:
    """An open directory; names in it are never followed if they are links."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def replace(self, best: Best) -> None:
        """Put all the files in place, or leave none of them. Raises OSError, ValueError."""
        try:
            files = contents(best)
            for name, text in files.items():
                self._write(f".{name}.new", text.encode())
            for name in files:
                os.rename(f".{name}.new", name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except (OSError, ValueError):
            with suppress(OSError):
                self.remove(FILES)
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove as many of these files as can be, and what a write that was cut short left of them."""
        failed: OSError | None = None
        for entry in (entry for name in names for entry in (name, f".{name}.new")):
            try:
                os.unlink(entry, dir_fd=self._fd)
            except FileNotFoundError:
                pass
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def _write(self, name: str, data: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)  # left by a run that was killed
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            os.fchmod(fd, _MODE)  # whatever the umask
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
        finally:
            os.close(fd)
