#!/usr/bin/env python3
"""Follow the mail relay from a Qt program: prints it now, then at each change.

pip install PySide6-Essentials. In a program with a window, its QApplication takes the place of the one below.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from PySide6.QtCore import SLOT, QCoreApplication, QObject, Slot
from PySide6.QtDBus import QDBusConnection, QDBusInterface, QDBusMessage, QDBusServiceWatcher

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"


class Relay(QObject):
    """What is printed, and when: only if it is something new."""

    def __init__(self, bus: QDBusConnection) -> None:
        super().__init__()
        self._bus = bus
        self._said = ""
        self._watcher = QDBusServiceWatcher(NAME, bus, QDBusServiceWatcher.WatchModeFlag.WatchForOwnerChange, self)
        self._watcher.serviceRegistered.connect(self.read)
        self._watcher.serviceUnregistered.connect(lambda: self._show("no agent"))
        # the signal says all that is needed; a program that wants the list, too, connects to PropertiesChanged
        slot: Any = SLOT("changed(QDBusMessage)")  # PySide6 wants this str, and says that it wants bytes
        bus.connect(NAME, PATH, NAME, "BestRelayChanged", self, slot)

    def read(self) -> None:
        """Ask for the relay of now. Connected first, so no change is missed."""
        agent = QDBusInterface(NAME, PATH, NAME, self._bus)
        if agent.isValid():
            self._tell(*(agent.property(name) for name in ("BestRelay", "BestRelayPort", "BestRelaySource")))
        else:
            self._show("no agent")

    @Slot(QDBusMessage)
    def changed(self, message: QDBusMessage) -> None:
        """BestRelayChanged(s host, q port, s source)"""
        self._tell(*message.arguments())

    def _tell(self, host: str, port: int, source: str) -> None:
        if not host:
            self._show("none")
        else:
            self._show(f"[{host}]:{port} {source}" if ":" in host else f"{host}:{port} {source}")

    def _show(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(text, flush=True)


def main() -> int:
    """Until interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would wait for Qt's loop
    application = QCoreApplication(sys.argv)
    bus = QDBusConnection.systemBus()
    if not bus.isConnected():
        print("there is no system bus", file=sys.stderr)
        return 1
    relay = Relay(bus)
    relay.read()
    return application.exec()


if __name__ == "__main__":
    sys.exit(main())
