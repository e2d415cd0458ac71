#!/usr/bin/python3
"""A notification with two buttons when mail first goes through the relays of a domain that the network named.

Debian: apt install python3-gi. "Always allow this domain" is remembered, in the file that `salsactl watch --notify`
has, too; "Not for my mail" reports the relay to the agent. Without a press the domain is told of again the next time.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402 - versions first

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"
NOTIFICATIONS = "org.freedesktop.Notifications"
FROM_THE_NETWORK = {"dns": "published by this network", "link": "given by this link's configuration"}
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?", re.ASCII)  # nothing that is markup
ALLOW, REFUSE = ("allow", "Always allow this domain"), ("refuse", "Not for my mail")
MOST = 1000  # domains that are remembered
REPORTED = (
    "The agent checks {relay}, and uses it again if it answers. For mail of yours that is to leave elsewhere whatever "
    "the network says, have a [[sender]] table in /etc/salsa-agent.toml: see salsa-agent.toml(5)."
)


class Notifier:
    """Follows the agent; one notification at most for each domain while this runs."""

    def __init__(self, agent: Gio.DBusProxy, desktop: Gio.DBusConnection, known: Path) -> None:
        self._agent, self._desktop, self._known = agent, desktop, known
        self._shown: set[str] = set()
        self._open: dict[int, tuple[str, str, int]] = {}  # by the number of the notification: domain, host, port
        desktop.signal_subscribe(
            NOTIFICATIONS, NOTIFICATIONS, "ActionInvoked", None, None, Gio.DBusSignalFlags.NONE, self._pressed
        )
        agent.connect("g-properties-changed", self.look)
        agent.connect("notify::g-name-owner", self.look)
        self.look()

    def look(self, *_: object) -> None:
        """Called when anything has changed."""
        host, port, source = (self._get(name) for name in ("BestRelay", "BestRelayPort", "BestRelaySource"))
        if source not in FROM_THE_NETWORK or not HOST.fullmatch(host):
            return
        domain = domain_of(host)
        if domain in self._shown or domain in remembered(self._known):
            return
        self._shown.add(domain)
        number = self._notify(
            f"New mail relay: {domain}",
            f"Mail now leaves through {host}, port {port}, {FROM_THE_NETWORK[source]}.",
            [*ALLOW, *REFUSE],
        )
        if number is not None:
            self._open[number] = domain, host, port

    def _get(self, name: str) -> Any:
        value = self._agent.get_cached_property(name) if self._agent.get_name_owner() else None
        return "" if value is None else value.unpack()

    def _notify(self, summary: str, body: str, actions: list[str]) -> int | None:
        arguments = (
            "salsa-agent",
            0,
            "mail-send",
            summary,
            body,
            actions,
            {"category": GLib.Variant("s", "network")},
            -1,
        )
        try:
            answer = self._desktop.call_sync(
                NOTIFICATIONS, "/org/freedesktop/Notifications", NOTIFICATIONS, "Notify",
                GLib.Variant("(susssasa{sv}i)", arguments), None, Gio.DBusCallFlags.NONE, -1, None,
            )  # fmt: skip
        except GLib.Error as error:
            print(f"salsa-notify: {error.message}", file=sys.stderr)
            return None
        return int(answer.unpack()[0])

    def _pressed(self, *given: Any) -> None:
        number, action = given[5].unpack()
        domain, host, port = self._open.pop(number, ("", "", 0))
        if domain and action == ALLOW[0]:
            remember(self._known, domain)
        elif domain and action == REFUSE[0]:
            arguments = GLib.Variant("(sqs)", (host, port, "not for my mail"))
            self._agent.call("ReportFailure", arguments, Gio.DBusCallFlags.NONE, -1, None, self._reported, host)

    def _reported(self, agent: Gio.DBusProxy, result: Gio.AsyncResult, host: str) -> None:
        try:
            agent.call_finish(result)
        except GLib.Error as error:
            Gio.DBusError.strip_remote_error(error)
            self._notify("The relay was not reported", GLib.markup_escape_text(error.message), [])
            return
        self._notify("The relay was reported", REPORTED.format(relay=host), [])


def domain_of(host: str) -> str:
    """Whose relay it is, as far as a name tells: all but its first label; of short names and literals, all."""
    labels = host.split(".")
    return host if ":" in host or labels[-1].isdigit() or len(labels) <= 2 else ".".join(labels[1:])


def remembered(path: Path) -> list[str]:
    """The domains of the file, a line each; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def remember(path: Path, domain: str) -> None:
    """Add a line to the file."""
    lines = [*(line for line in remembered(path) if line != domain), domain][-MOST:]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        new.replace(path)
    except OSError as error:
        print(f"salsa-notify: {path}: {error.strerror}", file=sys.stderr)


def main() -> None:
    """Until told to quit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    state = Path(os.environ.get("XDG_STATE_HOME", ""))  # a relative path there is to be ignored
    known = (state if state.is_absolute() else Path.home() / ".local/state") / "salsa-agent/known-domains"
    try:
        desktop = Gio.bus_get_sync(Gio.BusType.SESSION)
        agent = Gio.DBusProxy.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusProxyFlags.DO_NOT_AUTO_START, None, NAME, PATH, NAME, None
        )
    except GLib.Error as error:
        sys.exit(f"salsa-notify: {error.message}")
    notifier = Notifier(agent, desktop, known)
    GLib.MainLoop().run()
    del notifier


if __name__ == "__main__":
    main()
