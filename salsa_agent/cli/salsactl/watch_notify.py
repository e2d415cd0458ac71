"""`watch --notify`: a notification when mail first goes through the relays of a domain."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO

from salsa_agent.bus.client import CallError, client
from salsa_agent.cli.salsactl.command import Best, warn
from salsa_agent.text import clean

_PAUSE = 5.0  # seconds: no network gets to fill the screen
_MOST = 1000  # domains that are remembered

_ORIGIN = {
    "dns": "named by the network you are on",
    "link": "named by the configuration of a network link",
    "site": "from this computer's own table of networks",
    "sender": "from this computer's own table of senders",
    "static": "named by this computer's own configuration",
}


class Notifier:
    """Tells of a relay whose domain is not among the known ones."""

    def __init__(self) -> None:
        self._known = KnownDomains(_state_home() / "salsa-agent" / "known-domains")

    async def __call__(self, best: Best) -> None:
        """Show a notification if the domain is new. What goes wrong is reported, and does not end the watch."""
        domain = domain_of(clean(best.host))
        if not domain or not self._known.claim(domain):
            return
        origin = _ORIGIN.get(best.source, clean(best.source))
        try:
            async with client("session") as desktop:
                await desktop.notify(
                    f"New mail relay: {domain}",
                    escape(f"Mail now leaves through {best.text}, {origin}.", quote=False),
                )
        except CallError as error:
            self._known.release(domain)  # the next time then
            warn(f"--notify: {error}")
        await asyncio.sleep(_PAUSE)


class KnownDomains:
    """The domains that were notified of, a line each in a file of mode 0600; several watchers may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[str] = set()

    def claim(self, domain: str) -> bool:
        """Whether the domain is new; then it is remembered. Of several that ask, one is told so."""
        if domain in self._seen:
            return False
        self._seen.add(domain)
        try:
            with self._locked() as file:
                known = file.read().splitlines()
                if domain in known:
                    return False
                _rewrite(file, [*known[1 - _MOST :], domain])
        except (OSError, ValueError) as error:  # remembered for as long as this runs, then
            warn(f"--notify: {self._path}: {getattr(error, 'strerror', None) or 'not a list of domains'}")
        return True

    def release(self, domain: str) -> None:
        """Forget the domain: the notification could not be shown."""
        self._seen.discard(domain)
        try:
            with self._locked() as file:
                _rewrite(file, [known for known in file.read().splitlines() if known != domain])
        except (OSError, ValueError):
            pass  # `claim` has warned of it

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _rewrite(file: TextIO, lines: list[str]) -> None:
    file.seek(0)
    file.truncate()
    file.writelines(f"{line}\n" for line in lines)
    file.flush()


def domain_of(host: str) -> str:
    """Whose relay it is, as far as a name tells: all but its first label; of short names and literals, all."""
    try:
        return str(ip_address(host))
    except ValueError:
        labels = host.split(".")
        return ".".join(labels[1:]) if len(labels) > 2 else host


def _state_home() -> Path:
    """XDG Base Directory Specification: a relative path there is to be ignored."""
    given = os.environ.get("XDG_STATE_HOME", "")
    return Path(given) if given.startswith("/") else Path("~/.local/state").expanduser()
