#!/usr/bin/python3
"""The mail relay in the notification area: an icon for its verdict, a menu with the rest.

Debian: apt install python3-gi gir1.2-gtk-3.0 gir1.2-ayatanaappindicator3-0.1 librsvg2-common. It is a
StatusNotifierItem where the desktop has those, else an icon in the tray of old (XEmbed).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("AyatanaAppIndicator3", "0.1")
from gi.repository import AyatanaAppIndicator3, Gio, GLib, Gtk  # noqa: E402 - versions first

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"
ICONS = Path(__file__).resolve().parent / "icons"  # beside this file, or, where it is installed, in the icon theme
REFRESH_TIME = 25_000  # ms; the answer comes with the decision, after 20 s at the latest
SOURCES = {
    "site": "from your own table of networks",
    "dns": "published by this network",
    "link": "given by this link's configuration",
    "static": "from your own configuration",
}
VERDICTS = {"ok": "it answers", "failed": "it does not answer", "unverified": "not verified"}


class Tray:
    """The icon and its menu, kept up to date by the agent's signals."""

    def __init__(self, agent: Gio.DBusProxy) -> None:
        self._agent = agent
        self._indicator = AyatanaAppIndicator3.Indicator.new(
            "salsa-relay", "salsa-relay-none", AyatanaAppIndicator3.IndicatorCategory.COMMUNICATIONS
        )
        if ICONS.is_dir():
            self._indicator.set_icon_theme_path(str(ICONS))
        menu = Gtk.Menu()
        self._relay, self._why, self._state = (_add(menu, "") for _ in range(3))
        menu.append(Gtk.SeparatorMenuItem())
        self._refresh = _add(menu, "Ask the network again", self._on_refresh)
        self._report = _add(menu, "It does not take my mail", self._on_report)
        menu.append(Gtk.SeparatorMenuItem())
        _add(menu, "Quit", Gtk.main_quit)
        menu.show_all()
        self._indicator.set_menu(menu)
        self._indicator.set_status(AyatanaAppIndicator3.IndicatorStatus.ACTIVE)
        agent.connect("g-properties-changed", self.show)
        agent.connect("notify::g-name-owner", self.show)
        self.show()

    def show(self, *_: object) -> None:
        """Called when anything has changed."""
        host, port = self._get("BestRelay", ""), self._get("BestRelayPort", 0)
        relays = self._get("Relays", [])
        verdict = next((one["verdict"] for one in relays if (one["host"], one["port"]) == (host, port)), "")
        if not self._runs:
            text = "salsa-agent does not run"
        elif not host:
            text = "No relay"
        else:
            text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        why = [SOURCES.get(self._get("BestRelaySource", ""), ""), VERDICTS.get(verdict, "")]
        icon = f"salsa-relay-{verdict if verdict in VERDICTS else 'none'}"
        self._relay.set_label(text)
        self._why.set_label(", ".join(filter(None, why)))
        self._why.set_visible(any(why))
        self._state.set_label(f"State: {self._get('State', '')}")
        self._state.set_visible(self._runs)
        self._refresh.set_sensitive(self._runs)
        self._report.set_sensitive(bool(host))
        self._indicator.set_icon_full(icon, text)
        self._indicator.set_title(text)

    @property
    def _runs(self) -> bool:
        return self._agent.get_name_owner() is not None

    def _get(self, name: str, default: Any) -> Any:
        value = self._agent.get_cached_property(name) if self._runs else None
        return default if value is None else value.unpack()

    def _on_refresh(self, _: Gtk.MenuItem) -> None:
        self._agent.call("Refresh", None, Gio.DBusCallFlags.NONE, REFRESH_TIME, None, self._on_reply)

    def _on_report(self, _: Gtk.MenuItem) -> None:
        relay = (self._get("BestRelay", ""), self._get("BestRelayPort", 0), "reported from the tray")
        arguments = GLib.Variant("(sqs)", relay)
        self._agent.call("ReportFailure", arguments, Gio.DBusCallFlags.NONE, -1, None, self._on_reply)

    def _on_reply(self, agent: Gio.DBusProxy, result: Gio.AsyncResult) -> None:
        try:
            agent.call_finish(result)
        except GLib.Error as error:
            Gio.DBusError.strip_remote_error(error)
            self._state.set_label(error.message)  # until the next change


def _add(menu: Gtk.Menu, label: str, action: Any = None) -> Gtk.MenuItem:
    item = Gtk.MenuItem(label=label, sensitive=action is not None)
    if action is not None:
        item.connect("activate", action)
    menu.append(item)
    return item


def main() -> None:
    """Until told to quit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not Gtk.init_check()[0]:
        sys.exit("there is no display")
    try:
        agent = Gio.DBusProxy.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusProxyFlags.NONE, None, NAME, PATH, NAME, None
        )
    except GLib.Error as error:
        sys.exit(f"there is no system bus: {error.message}")
    Tray(agent)
    Gtk.main()


if __name__ == "__main__":
    main()
