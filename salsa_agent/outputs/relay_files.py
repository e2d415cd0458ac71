"""The files that hold the relays for programs which do not speak D-Bus (docs/consumers.md)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from salsa_agent.core.delivery import entry_of, tls_of_best, usable
from salsa_agent.core.model import Publication, SenderChoice
from salsa_agent.core.settings import Settings
from salsa_agent.text import clean, host_port, is_host

FILES = ("relay", "relays", "relay.env", "relay.json")
AGAIN = 10.0  # seconds until what could not be written is tried again
LOOK = 600.0  # seconds until it is looked whether the files are still there

_MODE = 0o644

log = logging.getLogger("salsa-agent")


class RelayFile:
    """Keeps the FILES in a directory in step with what is published; one agent at a time does.

    Each is replaced by rename. What cannot be written is removed rather than left to be wrong, warned of once, and
    tried again. No directory: nothing is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.output_directory
        self._verified = settings.verify.enabled
        self._publication: Publication | None = None  # what the files are to say; None: there are to be none
        self._held: _Directory | None = None  # while there are to be files
        self._error = ""
        self._again: asyncio.TimerHandle | None = None

    def publish(self, publication: Publication) -> None:
        """Have the files say this; to be called in the loop."""
        self._publication = publication
        self._update()

    def clear(self) -> None:
        """Remove the files: from now on, or until now, nobody keeps them up to date."""
        self._publication = None
        self._update()

    def configure(self, settings: Settings) -> None:
        """Use these settings from now on. The files are written anew, in the same directory, too."""
        publication = self._publication
        if settings.output_directory != self._directory:
            self.clear()
            self._directory, self._error = settings.output_directory, ""
        self._verified = settings.verify.enabled
        if self._held is not None:
            self._held.forget()
        if publication is not None:
            self.publish(publication)

    def _update(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._directory:
            return
        try:
            files = contents(self._publication, verified=self._verified) if self._publication else None
            if files is None:
                self._taken().remove()
                self._release()
            else:
                self._taken().keep(files)
        except (OSError, ValueError) as error:
            self._failed(error)
            return
        if self._error:
            log.info("the relay files in %s are written again", self._directory)
            self._error = ""
        if files is not None:
            self._again = asyncio.get_running_loop().call_later(LOOK, self._update)

    def _taken(self) -> _Directory:
        """The directory that stands at the configured path now. Raises OSError.

        Where it is another than before, as after a move, our files are removed from that one.
        """
        if self._held is not None and not self._held.bears(self._directory):
            with suppress(OSError):
                self._held.remove()
            self._release()
        if self._held is None:
            self._held = _Directory(self._directory)
        return self._held

    def _release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ValueError):
            with suppress(OSError):
                self._taken().remove()
        if self._publication is None:
            self._release()
            if isinstance(error, FileNotFoundError):
                return  # no directory, hence no file in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if reason != self._error:
            self._error = reason
            log.warning("the relay files in %s cannot be written: %s", self._directory, reason)
        if self._publication is not None and isinstance(error, OSError):
            self._again = asyncio.get_running_loop().call_later(AGAIN, self._update)


def contents(of: Publication, *, verified: bool) -> dict[str, str]:
    """What each file says of a publication. `verified`: relays are spoken to before they are used (verify.enabled).

    Raises ValueError for a host that no file may hold.
    """
    relays = usable(of.best, of.relays, verified=verified)
    if not all(is_host(one.relay.key.host) for one in relays):
        raise ValueError("the host is neither a name nor an address")
    lines = [f"{host_port(*one.relay.key)}\n" for one in relays]
    env = env_lines(of.best.host, of.best.port, of.best.source, tls_of_best(of.best, of.relays))
    return {
        "relay": "".join(lines[:1]),
        "relays": "".join(lines),
        "relay.env": env,
        "relay.json": json.dumps(as_json(of)) + "\n",
    }


def env_lines(host: str, port: int, source: str, tls: str) -> str:
    """`relay.env`: assignments that a shell may read. The host is a name or a literal, checked before."""
    return f"SALSA_HOST={host}\nSALSA_PORT={port}\nSALSA_SOURCE={source}\nSALSA_TLS={tls}\n"


def as_json(of: Publication) -> dict[str, Any]:
    """`relay.json`: the best relay, the state, the relay of each sender; texts are empty where there is no relay."""
    best = of.best
    return {
        "host": best.host,
        "port": best.port,
        "source": best.source,
        "tls": tls_of_best(best, of.relays),
        "verdict": entry_of(best, of.relays).verdict if best.host else "",
        "state": of.state,
        "senders": [_sender(choice) for choice in of.senders],
    }


def _sender(choice: SenderChoice) -> dict[str, Any]:
    """As an entry of the D-Bus property `Senders`."""
    best = choice.best
    return {
        "address": [clean(pattern) for pattern in choice.address],
        "network": choice.network,
        "host": best.host,
        "port": best.port,
        "source": best.source,
        "tls": tls_of_best(best, choice.relays),
    }


class _Directory:
    """An open directory; names in it are never followed if they are links."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: Mapping[str, str] = {}  # what the files say, if nothing went wrong
        self._left: Mapping[str, tuple[int, int]] = {}  # what tells them from files that others put in their place

    def close(self) -> None:
        """Leave it to others."""
        os.close(self._fd)

    def bears(self, path: str) -> bool:
        """Whether it is found by this name. Raises OSError."""
        return os.path.samestat(os.stat(path), os.fstat(self._fd))  # noqa: PTH116 - of what is open, too

    def keep(self, files: Mapping[str, str]) -> None:
        """Have the files say this, or leave none of them. Raises OSError."""
        if files == self._files and self._identities() == self._left:
            return
        self.forget()
        try:
            for name, text in files.items():
                self._write(f".{name}.new", text.encode())
            for name in files:
                os.rename(f".{name}.new", name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            with suppress(OSError):
                self.remove()
            raise
        self._files, self._left = files, self._identities()

    def forget(self) -> None:
        """Write the files anew the next time, whatever they say."""
        self._files = {}

    def remove(self) -> None:
        """Remove as many of the files as possible, and what an interrupted write left of them. Raises OSError."""
        self.forget()
        failed: OSError | None = None
        for entry in (entry for name in FILES for entry in (name, f".{name}.new")):
            try:
                os.unlink(entry, dir_fd=self._fd)
            except FileNotFoundError:
                pass
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def _identities(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name in FILES:
            with suppress(OSError):
                there = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                found[name] = there.st_ino, there.st_mtime_ns
        return found

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
