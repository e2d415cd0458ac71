"""The connection that NetworkManager has active on a link (rule F4), by its D-Bus interface, version 1.0 and later.

NetworkManager is read and followed, never activated and never told anything. What it says is checked: any of it that
has the wrong type is as if it had not been said, and `complaints` name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from salsa_agent.bus.system_bus import SystemBus, Unavailable

NAME = "org.freedesktop.NetworkManager"
PATH = "/org/freedesktop/NetworkManager"
DEVICE, ACTIVE = f"{NAME}.Device", f"{NAME}.Connection.Active"
PROPERTIES = "org.freedesktop.DBus.Properties"

NO_OBJECT = "/"  # the path that stands for none
MAX_DEVICES = 128  # that are looked through for a link which NetworkManager does not find by its name
MAX_ID = 256  # characters; NetworkManager has no bound of its own


class Connection(NamedTuple):
    """`Id` and `Uuid` of an active connection; empty: not known."""

    id: str = ""
    uuid: str = ""


class NetworkManager:
    """NetworkManager on the system bus, if it is there. `on_change`: a connection may be another now.

    `starting`: whether it said, when it was read last, that it has not yet taken up the links that it found.
    `complaints`: what was wrong with what it said, one line each.
    """

    def __init__(self, bus: SystemBus, on_change: Callable[[], None], on_owner: Callable[[], None]) -> None:
        self._bus = bus
        self.starting = False
        self.complaints: list[str] = []
        bus.follow(NAME, PROPERTIES, "PropertiesChanged", lambda _: on_change(), on_owner, arg0=(NAME, DEVICE, ACTIVE))

    @property
    def owner(self) -> str:
        """The unique name of the running NetworkManager; empty: there is none."""
        return self._bus.owner(NAME)

    async def read(self, links: Iterable[tuple[int, str]]) -> dict[int, Connection]:
        """The active connections of these links (index and name); of others nothing is read. Raises Unavailable."""
        owner = self.owner
        self.complaints = []
        self.starting = (await self._properties(PATH, NAME)).get("Startup") is True
        found: dict[int, Connection] = {}
        devices: list[dict[str, Any]] | None = None  # all of them: read only if one is not found by its name
        for index, name in links:
            device = await self._device(name)
            if device is None:
                devices = await self._devices() if devices is None else devices
                device = next((one for one in devices if _is_named(one, name)), None)
            if device is not None and (connection := await self._active(name, device)) is not None:
                found[index] = connection
        if owner != self.owner:
            raise Unavailable("it restarts")
        return found

    async def _device(self, name: str) -> dict[str, Any] | None:
        """The device with this IP interface, as NetworkManager finds it; None: there is none, or it is another one."""
        try:
            body = await self._bus.call(NAME, PATH, NAME, "GetDeviceByIpIface", "s", name)
            device = await self._properties(_path(body), DEVICE)
        except Unavailable as error:
            if not error.error:
                raise
            return None
        return device if _is_named(device, name) else None

    async def _devices(self) -> list[dict[str, Any]]:
        body = await self._bus.call(NAME, PATH, NAME, "GetDevices")
        paths = body[0] if body and isinstance(body[0], list) else []
        found = []
        for path in paths[:MAX_DEVICES]:
            if isinstance(path, str):
                try:
                    found.append(await self._properties(path, DEVICE))
                except Unavailable as error:
                    if not error.error:  # one that just went is none; an answer that does not come is no answer
                        raise
        return found

    async def _active(self, name: str, device: dict[str, Any]) -> Connection | None:
        path = device.get("ActiveConnection")
        if path == NO_OBJECT:
            return None
        if not isinstance(path, str):
            self.complaints.append(f"the active connection of {name} is no path")
            return None
        try:
            active = await self._properties(path, ACTIVE)
        except Unavailable as error:
            if not error.error:
                raise
            return None  # it just went; a signal tells what comes in its place
        connection = Connection(self._text(name, active, "Id"), self._text(name, active, "Uuid"))
        return connection if any(connection) else None

    def _text(self, name: str, active: dict[str, Any], key: str) -> str:
        value = active.get(key)
        if isinstance(value, str) and len(value) <= MAX_ID and value.isprintable():
            return value
        self.complaints.append(f"the {key} of the connection on {name} is no printable text of {MAX_ID} characters")
        return ""

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        body = await self._bus.call(NAME, path, PROPERTIES, "GetAll", "s", interface)
        if not (body and isinstance(body[0], dict)):
            raise Unavailable(f"{NAME}: no properties")
        return body[0]


def _path(body: Any) -> str:
    if body and isinstance(body[0], str):
        return body[0]
    raise Unavailable(f"{NAME}: no path of a device")


def _is_named(device: dict[str, Any], name: str) -> bool:
    return name in (device.get("Interface"), device.get("IpInterface"))
