"""Which servers systemd-resolved knows (org.freedesktop.resolve1(5)): the links' own, and the global ones."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import Server, ServerView

NAME = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"
PROPERTIES = "org.freedesktop.DBus.Properties"

MAX_LINKS = 64  # whose objects are read: first those that have servers, then by index
LOOPBACK = 1  # the kernel's index of `lo`, LOOPBACK_IFINDEX in linux/netdevice.h
DNS_PORT, TLS_PORT, MAX_PORT = 53, 853, 65535


class Resolved:
    """systemd-resolved on the system bus, if it is there. `on_change`: the servers may be others now."""

    def __init__(self, bus: SystemBus, on_change: Callable[[], None]) -> None:
        self._bus = bus
        self._on_change = on_change
        self._paths: dict[int, str] = {}  # of the links' objects
        bus.follow(NAME, PROPERTIES, "PropertiesChanged", lambda _: on_change(), self._on_owner)

    @property
    def owner(self) -> str:
        """The unique name of the running systemd-resolved; empty: there is none."""
        return self._bus.owner(NAME)

    def _on_owner(self) -> None:
        self._paths.clear()
        self._on_change()

    async def read(self) -> ServerView:
        """The servers as they are. A link's are bound to it. Raises Unavailable.

        `default` are the global ones, else those that systemd-resolved itself would use for a name that no link
        claims: of the links that are a default route for names, else its built-in ones.
        """
        owner = self.owner
        manager = await self._properties(PATH, "Manager")
        everyone = _entries(manager, "DNS")
        present = {index for index, _ in socket.if_nameindex()} - {LOOPBACK}
        named = {index for index, _ in everyone}
        links: dict[int, tuple[Server, ...]] = {}
        for_any_name: list[Server] = []
        for index in sorted(present, key=lambda index: (index not in named, index))[:MAX_LINKS]:
            properties = await self._link(index)
            links[index] = tuple(server for _, server in _entries(properties, "DNS", index))
            if _takes_any_name(properties):
                for_any_name += links[index]
        if owner != self.owner:
            raise Unavailable("it restarts")
        default = (
            # a global server may have an index, too: that of a link-local address's link
            [server for index, server in everyone if not index or server not in links.get(index, (server,))]
            or for_any_name
            or [server for servers in links.values() for server in servers]
            or [server for _, server in _entries(manager, "FallbackDNS")]
        )
        return ServerView(
            default=tuple(dict.fromkeys(default)),
            links=tuple((index, servers) for index, servers in sorted(links.items()) if servers),
        )

    async def _link(self, index: int) -> dict[str, Any]:
        """The properties of a link's object; none of one that is not known (any more)."""
        try:
            if index not in self._paths:
                body = await self._bus.call(NAME, PATH, f"{NAME}.Manager", "GetLink", "i", index)
                if not (body and isinstance(body[0], str)):
                    raise Unavailable(f"{NAME}: no path of a link")
                self._paths[index] = body[0]
            return await self._properties(self._paths[index], "Link")
        except Unavailable as error:
            if not error.error:
                raise
            self._paths.pop(index, None)
            return {}

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        body = await self._bus.call(NAME, path, PROPERTIES, "GetAll", "s", f"{NAME}.{interface}")
        if not (body and isinstance(body[0], dict)):
            raise Unavailable(f"{NAME}: no properties")
        return body[0]


def _takes_any_name(properties: dict[str, Any]) -> bool:
    """Whether a link is a default route for names. One that is not in use yet, without an address, denies it always."""
    in_use = properties.get("ScopesMask") != 0
    return not in_use or properties.get("DefaultRoute") is not False


def _entries(properties: dict[str, Any], name: str, link: int = 0) -> list[tuple[int, Server]]:
    """The servers of `DNSEx`, `a(iiayqs)`, else `DNS`, `a(iiay)`, with their index; a link's own lists leave it out."""
    entries = properties.get(f"{name}Ex", properties.get(name))
    found: dict[tuple[int, Server], None] = {}
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(ValueError, TypeError, IndexError, KeyError):
            index, *rest = [link, *entry] if link else entry
            found[index, _server(index, *rest)] = None
    return list(found)


def _server(index: int, family: int, octets: bytes, port: int = 0, _tls_name: str = "") -> Server:
    """Raises ValueError, TypeError, KeyError for what is no server."""
    if not (isinstance(index, int) and index >= 0 and isinstance(port, int) and 0 <= port <= MAX_PORT):
        raise ValueError("an index or port out of range")
    if len(octets) != {socket.AF_INET: 4, socket.AF_INET6: 16}[socket.AddressFamily(family)]:
        raise ValueError("an address of the wrong length")
    ip = ip_address(bytes(octets))
    if ip.version == 6 and ip.is_link_local and not index:
        raise ValueError("a link-local address without a link")
    # The agent speaks plain DNS: of a server that is given with the port for DNS over TLS, the usual one is asked.
    server = Server(str(ip), DNS_PORT if port in (0, TLS_PORT) else port, index)
    return server._replace(ifindex=0) if ip.is_loopback else server  # no link leads to the host itself
