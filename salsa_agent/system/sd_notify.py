"""Messages to the service manager: readiness, reloads, status, watchdog (the protocol of sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from salsa_agent.text import printable

LEAST = 0.01  # seconds between two signs of life
_NEVER_US = (1 << 64) - 1  # as systemd has it (USEC_INFINITY)


class Notifier:
    """Speaks to the manager named by NOTIFY_SOCKET, if any. Never raises, never waits.

    What a full socket did not take is sent with the next message.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._status = ""
        self._unsent: dict[str, str] = {}

    def ready(self) -> None:
        """The service is up, or has read its configuration again."""
        for begun in ("RELOADING", "MONOTONIC_USEC"):
            self._unsent.pop(begun, None)
        self._send(READY="1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._unsent.pop("READY", None)
        self._send(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self) -> None:
        """The service has begun to end."""
        self._send(STOPPING="1")

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        line = printable(text)
        if line != self._status:
            self._status = line
            self._send(STATUS=line)

    def watchdog(self) -> None:
        """A sign of life."""
        self._send(WATCHDOG="1")

    def watchdog_interval(self) -> float | None:
        """How often a sign of life is due, in seconds: half of what the manager allows; None: it asks for none."""
        try:
            allowed = int(self._environ.get("WATCHDOG_USEC", ""))
            meant = int(self._environ.get("WATCHDOG_PID", os.getpid()))
        except ValueError:
            return None
        if meant != os.getpid() or not 0 < allowed < _NEVER_US:
            return None
        return max(allowed / 2_000_000, LEAST)

    def _send(self, **variables: str) -> None:
        self._unsent |= variables
        address = self._environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):  # a name in the abstract namespace (unix(7))
            address = "\0" + address[1:]
        if address[:1] in ("/", "\0"):
            lines = "\n".join(f"{name}={value}" for name, value in self._unsent.items())
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
                    manager.sendto(lines.encode(errors="backslashreplace"), address)
            except BlockingIOError:
                return
            except (OSError, ValueError):  # nobody there, or no address
                pass
        self._unsent.clear()


_manager = Notifier(os.environ)

ready = _manager.ready
reloading = _manager.reloading
stopping = _manager.stopping
status = _manager.status
watchdog = _manager.watchdog
watchdog_interval = _manager.watchdog_interval
