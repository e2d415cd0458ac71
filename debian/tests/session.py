"""In a session: the tray that the desktop would start comes into the notification area, and shows the relay.

Argument: a configuration of the agent with the relay 192.0.2.25:587.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gtk", "3.0")
from gi.repository import Gio, GLib, Gtk  # noqa: E402 - versions first

PATIENCE = 60.0
RELAY = "192.0.2.25:587"
AUTOSTART = Path("/etc/xdg/autostart/salsa-tray.desktop")
WATCHER = "org.kde.StatusNotifierWatcher"
INTERFACE = """
<node><interface name="org.kde.StatusNotifierWatcher">
  <method name="RegisterStatusNotifierItem"><arg type="s" direction="in"/></method>
  <property name="IsStatusNotifierHostRegistered" type="b" access="read"/>
  <property name="ProtocolVersion" type="i" access="read"/>
  <signal name="StatusNotifierHostRegistered"/>
</interface></node>
"""


class Watcher:
    """The desktop's side of a notification area, which tray icons make themselves known to."""

    def __init__(self, bus: Gio.DBusConnection) -> None:
        self.items: list[tuple[str, str]] = []  # name on the bus, path
        interface = Gio.DBusNodeInfo.new_for_xml(INTERFACE).interfaces[0]
        bus.register_object("/StatusNotifierWatcher", interface, self._called, self._get, None)
        Gio.bus_own_name_on_connection(bus, WATCHER, Gio.BusNameOwnerFlags.NONE, None, None)

    def _called(self, _bus: Any, sender: str, _path: str, _interface: str, _method: str, args: Any, call: Any) -> None:
        self.items.append((sender, args.unpack()[0]))
        call.return_value(None)

    def _get(self, _bus: Any, _sender: str, _path: str, _interface: str, name: str) -> GLib.Variant:
        return GLib.Variant("i", 0) if name == "ProtocolVersion" else GLib.Variant("b", True)


def wait_for(condition: Any, what: str) -> Any:
    """What the condition says, once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"it never came that {what}")
        GLib.MainContext.default().iteration(False)
        time.sleep(0.02)
    return result


def main() -> None:
    """Ends with status 0 if all of it came."""
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = os.environ["DBUS_SESSION_BUS_ADDRESS"]
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)
    watcher = Watcher(bus)
    entry = GLib.KeyFile()
    entry.load_from_file(str(AUTOSTART), GLib.KeyFileFlags.NONE)
    theme = Gtk.IconTheme.get_default()
    for icon in (entry.get_string("Desktop Entry", "Icon"), "salsa-relay-none", "salsa-relay-failed"):
        if not theme.load_icon(icon, 24, Gtk.IconLookupFlags.FORCE_SIZE):
            sys.exit(f"the theme has no icon {icon}")
    commands = (
        ["salsa-agent", "--bus", "session", "--config", sys.argv[1]],
        [entry.get_string("Desktop Entry", "Exec")],
        ["/usr/libexec/salsa-agent-desktop/notify"],
    )
    programs = [subprocess.Popen(command) for command in commands]
    try:
        name, path = wait_for(lambda: watcher.items, "the tray has an icon")[0]

        def layout() -> str:
            asked = GLib.Variant("(iias)", (0, -1, ["label"]))
            menu = (name, f"{path}/Menu", "com.canonical.dbusmenu", "GetLayout", asked)
            return str(bus.call_sync(*menu, None, Gio.DBusCallFlags.NONE, -1, None).unpack())

        wait_for(lambda: RELAY in layout(), "the tray shows the relay")
        print(layout())
        for command, program in zip(commands, programs, strict=True):
            if program.poll() is not None:
                sys.exit(f"{command[0]} ended")
    finally:
        for program in programs:
            program.terminate()
            program.wait()


main()
