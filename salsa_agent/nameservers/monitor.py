"""Which DNS servers are to be asked (rule F1) and which domains links have (F4), followed as they change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import unquote

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import SearchDomains, Server, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.core.token_bucket import Bucket
from salsa_agent.nameservers import listed
from salsa_agent.nameservers.domains import canonical_domains
from salsa_agent.nameservers.file_watch import Follower
from salsa_agent.nameservers.resolved import Resolved, ResolvedState

RESOLV_CONF = "/etc/resolv.conf"
UPLINKS = "/run/systemd/resolve/resolv.conf"  # systemd-resolved.service(8): the servers behind its stub

READ_TIME = 2.0  # seconds for systemd-resolved to answer
READ_TRIES = 4  # in a row, when it changed meanwhile
AGAIN = 10.0  # seconds until the next reading, when something could not be read, or is not watched (rule E3)
SOON = 0.1  # seconds after a change of the network
RESTART = 1.0  # seconds that systemd-resolved may be away: an upgrade restarts it

log = logging.getLogger("salsa-agent")


class _Reading(NamedTuple):
    view: ServerView
    domains: SearchDomains


class NameserverMonitor:
    """Reports the servers to `on_view` and the links' domains to `on_domains`: once at first, then each change.

    Neither may raise. `bus`: the system bus, which its owner runs; without it this has one of its own. `everything`:
    domains are read whatever the sites ask for.
    """

    def __init__(
        self,
        on_view: Callable[[ServerView], None],
        on_domains: Callable[[SearchDomains], None] = lambda _: None,
        *,
        bus: SystemBus | None = None,
        everything: bool = False,
        resolv_conf: str = "",
        uplinks: str = "",
    ) -> None:
        self._on_view, self._on_domains = on_view, on_domains
        self._files = resolv_conf or RESOLV_CONF, uplinks or UPLINKS
        self._bus, self._own_bus = bus or SystemBus(), bus is None
        self._resolved = Resolved(self._bus, self._on_resolved)
        self._configured: tuple[Server, ...] = ()
        self._everything = everything
        self._domains_wanted = everything
        self._links: frozenset[int] = frozenset()
        self._follower: Follower | None = None  # while it runs
        self._wake = asyncio.Event()
        self._last_view: ServerView | None = None
        self._last_domains: SearchDomains | None = None
        self._known: ResolvedState | None = None  # what systemd-resolved said last
        self._failed = False  # something could not be read
        self._complaint = ""
        self._away: asyncio.TimerHandle | None = None  # systemd-resolved just went
        self._soon: asyncio.TimerHandle | None = None

    def configure(self, settings: Settings) -> None:
        """Use these settings: `dns.servers` that are set rule everything else out (rule F1), and are reported at once.

        Domains are read beside them only where a site asks for one.
        """
        self._configured = settings.dns.servers
        self._domains_wanted = self._everything or any(site.domain for site in settings.sites)
        if self._follower is not None:
            if self._configured:
                self._report_view(ServerView(self._configured))
            self.reread()

    def follow_links(self, links: Iterable[int]) -> None:
        """The links that count, by index: of these and of no others systemd-resolved is asked beyond its overview."""
        before, self._links = self._links, frozenset(links)
        if self._links != before:
            if self._follower is not None:
                self._follower.follow(self._paths())
            self.reread()

    def reread(self) -> None:
        """The network changed, or somebody wants to be sure: look again."""
        self._bus.hint()
        self._wake.set()

    def reread_soon(self) -> None:
        """Something of the network changed: look again, to be sure, but not in the way of what follows from it now."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON, self._reread_now)

    def _reread_now(self) -> None:
        self._soon = None
        self.reread()

    async def run(self) -> None:
        """Follow them until cancelled."""
        with Follower(self._paths(), self._on_files) as self._follower:
            async with asyncio.TaskGroup() as tasks:
                if self._own_bus:
                    tasks.create_task(self._bus.run(), name="system bus")
                tasks.create_task(self._follow(self._follower), name="name servers")

    def _paths(self) -> list[str]:
        """The files that say, or whose change says, that something may have changed.

        systemd-resolved sends no signal when the domains of a link change, but keeps a state file of each link that it
        was told about (link_save_user() in resolved-link.c); of the others systemd-networkd keeps one.
        """
        resolved = PurePath(self._files[1]).parent
        state = (
            f"{place}/{index}"
            for index in sorted(self._links)
            for place in (resolved / "netif", resolved.parent / "netif/links")
        )
        return [*self._files, *_socket(self._bus.address), *state]

    def _on_files(self) -> None:
        self.reread()
        self.reread_soon()  # where systemd-resolved follows the same file, it may not have read it yet

    async def _follow(self, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        budget = Bucket(10, 0.2)  # of readings: a roam never waits, a storm costs five a second
        if self._configured:
            self._report_view(ServerView(self._configured))
        else:
            await self._bus.settled(READ_TIME)
        while True:
            self._report(await self._read())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if follower.complete and not self._failed else AGAIN):
                    await self._wake.wait()
            await asyncio.sleep(budget.ready_at(loop.time()) - loop.time())
            budget.take(loop.time())

    # --- reporting

    def _report(self, reading: _Reading) -> None:
        if not self._failed:
            self._complaint = ""
        self._report_view(reading.view)
        if reading.domains != self._last_domains:
            self._last_domains = reading.domains
            self._on_domains(reading.domains)

    def _report_view(self, view: ServerView) -> None:
        if view != self._last_view:
            self._last_view = view
            log.debug("servers: %s", _line(view))
            self._on_view(view)

    def _fail(self, why: str) -> None:
        """To be tried again; said once."""
        self._failed = True
        if why != self._complaint:
            self._complaint = why
            log.warning("%s", why)

    # --- systemd-resolved comes and goes

    def _on_resolved(self) -> None:
        """It came, went, or changed. What it said holds while it may be back at once."""
        if self._away is not None:
            self._away.cancel()
            self._away = None
        if self._resolved.owner:
            self._wake.set()
        else:
            self._away = asyncio.get_running_loop().call_later(RESTART, self._gone)

    def _gone(self) -> None:
        self._away = None
        self._wake.set()

    # --- reading

    async def _read(self) -> _Reading:
        for _ in range(READ_TRIES):
            self._wake.clear()
            reading = await self._read_once()
            if self._failed or not self._wake.is_set():
                break
        return reading

    async def _read_once(self) -> _Reading:
        self._failed = False
        if self._configured and not self._domains_wanted:
            return _Reading(ServerView(self._configured), SearchDomains())
        await self._ask_resolved()
        conf = self._read_files()
        if self._known is not None:
            view, domains = self._known.view, SearchDomains(links=self._known.domains)
        else:
            view, domains = ServerView(), SearchDomains(everywhere=canonical_domains(conf.search))
        if self._configured:
            return _Reading(ServerView(self._configured), domains)
        return _Reading(view if view.default else view._replace(default=conf.servers), domains)

    async def _ask_resolved(self) -> None:
        """Update what systemd-resolved said last; where it does not answer, that stands."""
        if self._resolved.owner:
            try:
                async with asyncio.timeout(READ_TIME):
                    self._known = await self._resolved.read(self._links)
            except (Unavailable, TimeoutError, OSError) as error:
                self._fail(f"systemd-resolved does not say which servers it uses: {str(error) or 'no answer'}")
        elif self._away is None:
            self._known = None

    def _read_files(self) -> listed.Listed:
        try:
            return listed.read(*self._files)
        except OSError as error:  # such as no descriptor being left: that says nothing of the servers
            self._fail(f"{self._files[0]} cannot be read: {error.strerror}")
            servers = self._last_view.default if self._last_view else listed.LOCAL_HOST
            return listed.Listed(servers, self._last_domains.everywhere if self._last_domains else ())


async def read_once(settings: Settings, links: Iterable[int] = ()) -> ServerView:
    """The servers as they are, for one look-up: as `NameserverMonitor` finds them, within a few seconds.

    `links`: those that count, by index.
    """
    found: asyncio.Future[ServerView] = asyncio.get_running_loop().create_future()
    monitor = NameserverMonitor(lambda view: None if found.done() else found.set_result(view))
    monitor.configure(settings)
    monitor.follow_links(links)
    following = asyncio.create_task(monitor.run())
    try:
        return await found
    finally:
        following.cancel()
        await asyncio.wait([following])


def _socket(address: str) -> list[str]:
    """Where the socket of the system bus will be, if it is a file."""
    where = address.removeprefix("unix:path=").partition(",")[0]
    return [unquote(where)] if where.startswith("/") else []


def _line(view: ServerView) -> str:
    links = [f"link {index}: {' '.join(server.address for server in servers)}" for index, servers in view.links]
    return "; ".join([*links, " ".join(server.address for server in view.default)])
