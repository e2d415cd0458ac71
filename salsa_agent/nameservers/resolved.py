"""What systemd-resolved uses (org.freedesktop.resolve1(5)), of links and globally: servers (F1) and domains (F4)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Set
from ipaddress import ip_address
from typing import Any, NamedTuple

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import DomainRoute, Server, ServerView
from salsa_agent.nameservers.domains import MAX_DOMAINS, canonical_domain

NAME = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"
PROPERTIES = "org.freedesktop.DBus.Properties"

MAX_LINKS = 64  # whose objects are read: first those that were asked for, then by index
LOOPBACK = 1  # the kernel's index of `lo`, LOOPBACK_IFINDEX in linux/netdevice.h
SCOPE_DNS = 1  # SD_RESOLVED_DNS; the other bits are LLMNR and multicast DNS
DNS_PORT, TLS_PORT, MAX_PORT = 53, 853, 65535


class ResolvedState(NamedTuple):
    """`domains`: the search and routing domains of each link that has some (rule F4); the root is `.`."""

    view: ServerView
    domains: tuple[tuple[int, tuple[str, ...]], ...] = ()


class Resolved:
    """systemd-resolved on the system bus, if it is there. `on_change`: what it uses may have changed."""

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

    async def read(self, links: Set[int] = frozenset()) -> ResolvedState:
        """The servers and domains as they are. A link's servers are bound to it. Raises Unavailable.

        Only the objects of `links` are read, and of those links for which the manager lists a server or a domain: a
        host may have hundreds that have neither. `default` are the global servers, else those that systemd-resolved
        itself would use for a name that no link claims: of the links that are a default route for names, else its
        built-in ones.
        """
        owner = self.owner
        manager = await self._properties(PATH, "Manager")
        everyone = _entries(manager, "DNS")
        named = {index for index, _ in everyone} | {index for index, _ in _domains(manager)}
        links_of: dict[int, tuple[Server, ...]] = {}
        domains: dict[int, tuple[str, ...]] = {}
        for_any_name: list[Server] = []
        for index in _in_order(links, named):
            properties = await self._link(index)
            links_of[index] = tuple(server for _, server in _entries(properties, "DNS", index))
            domains[index] = tuple(dict.fromkeys(domain for _, domain in _domains(properties, index)))
            if _takes_any_name(properties):
                for_any_name += links_of[index]
        if owner != self.owner:
            raise Unavailable("it restarts")
        # a global server may have an index, too: that of a link-local address's link
        common = [server for index, server in everyone if not index or server not in links_of.get(index, (server,))]
        default = (
            common
            or for_any_name
            or [server for servers in links_of.values() for server in servers]
            or [server for _, server in _entries(manager, "FallbackDNS")]
        )
        view = ServerView(
            default=tuple(dict.fromkeys(default)),
            links=tuple((index, servers) for index, servers in sorted(links_of.items()) if servers),
            common=tuple(dict.fromkeys(common)),
            routes=tuple(
                DomainRoute(domain.removesuffix("."), index, servers)
                for index, servers, of in (
                    (0, tuple(common), [domain for index, domain in _domains(manager) if not index]),
                    *((index, links_of[index], domains[index]) for index in sorted(domains)),
                )
                for domain in of
                if servers  # as there: names are never sent where nobody can be asked
            ),
        )
        return ResolvedState(view, tuple((index, of) for index, of in sorted(domains.items()) if of))

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


def _in_order(links: Set[int], named: Set[int]) -> list[int]:
    """The links to read: those that are there, `links` first, at most MAX_LINKS."""
    present = {index for index, _ in socket.if_nameindex()} - {LOOPBACK}
    return sorted(present & (links | named), key=lambda index: (index not in links, index))[:MAX_LINKS]


def _takes_any_name(properties: dict[str, Any]) -> bool:
    """Whether a link is a default route for names. One that has no scope for DNS yet, without an address, denies it."""
    scopes = properties.get("ScopesMask")
    in_use = not isinstance(scopes, int) or bool(scopes & SCOPE_DNS)
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


def _domains(properties: dict[str, Any], link: int = 0) -> list[tuple[int, str]]:
    """The domains of `Domains`, `a(isb)`, with their index; a link's own list, `a(sb)`, leaves it out."""
    entries = properties.get("Domains")
    found: list[tuple[int, str]] = []
    for entry in entries[: MAX_DOMAINS * (1 if link else MAX_LINKS)] if isinstance(entries, list) else ():
        with contextlib.suppress(ValueError, TypeError):
            index, domain, _route_only = [link, *entry] if link else entry
            if isinstance(index, int) and isinstance(domain, str) and (canonical := canonical_domain(domain)):
                found.append((index, canonical))
    return found


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
