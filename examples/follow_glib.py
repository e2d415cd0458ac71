#!/usr/bin/python3
"""Follow the mail relay from a GLib or GTK program: prints it now, then at each change.

Debian: apt install python3-gi. In a program with a window, its main loop takes the place of the one below.
"""

from __future__ import annotations

import sys

from gi.repository import Gio, GLib

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"


class Relay:
    """What is printed, and when: only if it is something new."""

    def __init__(self) -> None:
        self._said = ""

    def show(self, proxy: Gio.DBusProxy, *_: object) -> None:
        """Called at the start, when properties change, and when the agent comes or goes."""
        text = self._text(proxy)
        if text != self._said:
            self._said = text
            print(text, flush=True)

    def _text(self, proxy: Gio.DBusProxy) -> str:
        # The proxy keeps all properties up to date, and reads them again when the agent is back: nothing here blocks.
        values = [proxy.get_cached_property(name) for name in ("BestRelay", "BestRelayPort", "BestRelaySource")]
        if proxy.get_name_owner() is None or None in values:
            return "no agent"
        host, port, source = (value.unpack() for value in values)
        if not host:
            return "none"
        return f"[{host}]:{port} {source}" if ":" in host else f"{host}:{port} {source}"


def main() -> None:
    """Until interrupted."""
    relay = Relay()
    try:
        proxy = Gio.DBusProxy.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusProxyFlags.NONE, None, NAME, PATH, NAME, None
        )
    except GLib.Error as error:
        sys.exit(f"there is no system bus: {error.message}")
    proxy.connect("g-properties-changed", relay.show)
    proxy.connect("notify::g-name-owner", relay.show)
    relay.show(proxy)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
