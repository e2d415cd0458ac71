"""Follows what the criteria of sites need to know of the links that count (rules C10, F4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import Link, LinkInfo, SearchDomains
from salsa_agent.core.settings import Settings
from salsa_agent.core.token_bucket import Bucket
from salsa_agent.linkinfo.networkmanager import Connection, NetworkManager
from salsa_agent.text import clean

READ_TIME = 2.0  # seconds for NetworkManager to answer
AGAIN = 10.0  # seconds until it is asked again, when it did not answer
RESTART = 5.0  # seconds that NetworkManager may be away, or be taking up its links, until what it said is void

log = logging.getLogger("salsa-agent")


class LinkInfoMonitor:
    """Reports to `on_infos` (which must not raise) what is known of the links: once at first, then each change.

    Links of which nothing is known are left out. NetworkManager is read only while a site asks for a connection, or
    with `everything`; the domains come from whoever follows systemd-resolved and resolv.conf, by `set_domains`. `bus`:
    the system bus, which its owner runs.
    """

    def __init__(
        self, on_infos: Callable[[tuple[LinkInfo, ...]], None], bus: SystemBus, *, everything: bool = False
    ) -> None:
        self._on_infos = on_infos
        self._bus = bus
        self._manager = NetworkManager(bus, self.reread, self._on_owner)
        self._everything = everything
        self._domains_wanted = self._connections_wanted = everything
        self._domains: SearchDomains | None = None
        self._links: tuple[tuple[int, str], ...] | None = None
        self._connections: dict[int, Connection] | None = None
        self._last: tuple[LinkInfo, ...] | None = None
        self._hold_until = 0.0  # what NetworkManager said before it went stands until then
        self._wake = asyncio.Event()
        self._complaint = ""

    def configure(self, settings: Settings) -> None:
        """Look at what the sites of these settings ask for."""
        self._domains_wanted = self._everything or any(site.domain for site in settings.sites)
        self._connections_wanted = self._everything or any(site.connection for site in settings.sites)
        self.reread()

    def follow_links(self, links: Iterable[Link]) -> None:
        """The links that count."""
        given = tuple((link.index, link.name) for link in links)
        if given != self._links:
            self._links = given
            self.reread()

    def set_domains(self, domains: SearchDomains) -> None:
        """The domains of links are these now."""
        self._domains = domains
        self._report()

    def reread(self) -> None:
        """Something changed, or somebody wants to be sure: look again."""
        self._wake.set()

    async def run(self) -> None:
        """Follow them until cancelled."""
        loop = asyncio.get_running_loop()
        budget = Bucket(10, 0.2)  # of readings: a roam never waits, a storm costs five a second
        await self._bus.settled(READ_TIME)
        while True:
            self._wake.clear()
            again = await self._read()
            self._report()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._wake.wait()
            await asyncio.sleep(budget.ready_at(loop.time()) - loop.time())
            budget.take(loop.time())

    def _on_owner(self) -> None:
        if not self._manager.owner:
            self._hold_until = asyncio.get_running_loop().time() + RESTART
        self.reread()

    async def _read(self) -> float | None:
        """Read the connections; the seconds until they are to be read again, whatever happens meanwhile."""
        if not self._connections_wanted:
            self._connections, self._complaint = {}, ""
            return None
        links, found = self._links or (), dict[int, Connection]()
        if self._manager.owner:
            try:
                async with asyncio.timeout(READ_TIME):
                    found = await self._manager.read(links)
            except (Unavailable, TimeoutError) as error:
                self._complain(str(error) or "no answer")
                self._connections = self._connections or {}
                return AGAIN  # what it said last stands meanwhile
            self._complain("; ".join(self._manager.complaints))
        left = self._hold_until - asyncio.get_running_loop().time()
        if left > 0 and (self._manager.starting or not self._manager.owner):
            self._connections = {**(self._connections or {}), **found}
            return left
        self._connections = found
        return None

    def _report(self) -> None:
        if self._links is None or self._connections is None or (self._domains_wanted and self._domains is None):
            return  # not everything is known yet
        infos = tuple(info for index, _ in self._links if (info := self._info(index)) != LinkInfo(index))
        if infos != self._last:
            self._last = infos
            self._on_infos(infos)

    def _info(self, index: int) -> LinkInfo:
        connection = (self._connections or {}).get(index, Connection())
        domains = self._domains.of_link(index) if self._domains_wanted and self._domains else ()
        return LinkInfo(index, domains, connection.id, connection.uuid)

    def _complain(self, why: str) -> None:
        """Said once for each change; empty: nothing is wrong."""
        if why != self._complaint:
            self._complaint = why
            if why:
                log.warning("NetworkManager does not say which connections are active: %s", clean(why))
