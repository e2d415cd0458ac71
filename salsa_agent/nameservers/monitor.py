"""Which DNS servers are to be asked (rule F1), followed as they change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import unquote

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import MAX_IFINDEX, Server, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.core.token_bucket import Bucket
from salsa_agent.nameservers import resolvconf
from salsa_agent.nameservers.file_watch import Follower
from salsa_agent.nameservers.resolvconf import Nameserver, ResolvConf
from salsa_agent.nameservers.resolved import Resolved

RESOLV_CONF = "/etc/resolv.conf"
UPLINKS = "/run/systemd/resolve/resolv.conf"  # systemd-resolved.service(8): the servers behind its stub
STUBS = ("127.0.0.53", "127.0.0.54")
LOCAL_HOST = ResolvConf((Nameserver(ip_address("127.0.0.1")), Nameserver(ip_address("::1"))))  # resolv.conf(5)
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.ENXIO)
MAX_FILE = 1 << 16  # octets of a resolv.conf that are read

READ_TIME = 2.0  # seconds for systemd-resolved to say what it knows
READ_TRIES = 4  # in a row, when it changed meanwhile
AGAIN = 10.0  # seconds until it is asked again, when it did not say
RESTART = 1.0  # seconds that systemd-resolved may be away: an upgrade restarts it

log = logging.getLogger("salsa-agent")


class Servers:
    """Tells `on_view` (which must not raise) the servers: once at first, then whenever they are others.

    `configured` (`dns.servers`) rules the rest out while it is not empty; when it is set, `reread` is to be called.
    `bus`: the system bus, which its owner runs; without it this has one of its own.
    """

    def __init__(
        self,
        on_view: Callable[[ServerView], None],
        *,
        configured: tuple[Server, ...] = (),
        bus: SystemBus | None = None,
        resolv_conf: str = "",
        uplinks: str = "",
    ) -> None:
        self.configured = configured
        self._on_view = on_view
        self._files = resolv_conf or RESOLV_CONF, uplinks or UPLINKS
        self._bus, self._own_bus = bus or SystemBus(), bus is None
        self._resolved = Resolved(self._bus, self._on_resolved)
        self._wake = asyncio.Event()
        self._told: ServerView | None = None
        self._known: ServerView | None = None  # what systemd-resolved said last
        self._failed = False  # something could not be read
        self._complaint = ""
        self._away: asyncio.TimerHandle | None = None  # it just went
        self._budget = Bucket(10, 0.2)  # of readings: a roam never waits, a storm costs five a second

    def reread(self) -> None:
        """The network changed, or somebody wants to be sure: look again."""
        self._bus.hint()
        self._wake.set()

    async def run(self) -> None:
        """Follow them until cancelled."""
        with Follower([*self._files, *_socket(self._bus.address)], self.reread):
            async with asyncio.TaskGroup() as tasks:
                if self._own_bus:
                    tasks.create_task(self._bus.run(), name="system bus")
                tasks.create_task(self._follow(), name="servers")

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        if not self.configured:
            await self._bus.settled(READ_TIME)
        while True:
            self._tell(await self._read())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN if self._failed else None):
                    await self._wake.wait()
            await asyncio.sleep(self._budget.ready_at(loop.time()) - loop.time())
            self._budget.take(loop.time())

    def _tell(self, view: ServerView) -> None:
        if not self._failed:
            self._complaint = ""
        if view != self._told:
            self._told = view
            log.debug("servers: %s", _line(view))
            self._on_view(view)

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

    async def _read(self) -> ServerView:
        for _ in range(READ_TRIES):
            self._wake.clear()
            view = await self._read_once()
            if self._failed or not self._wake.is_set():
                break
        return view

    async def _read_once(self) -> ServerView:
        self._failed = False
        if self.configured:
            return ServerView(self.configured)
        if self._resolved.owner:
            try:
                async with asyncio.timeout(READ_TIME):
                    self._known = await self._resolved.read()
            except (Unavailable, TimeoutError, OSError) as error:
                self._fail(f"systemd-resolved does not say which servers it uses: {str(error) or 'no answer'}")
        elif self._away is None:
            self._known = None
        known = self._known or ServerView()
        return known if known.default else known._replace(default=self._listed())

    def _listed(self) -> tuple[Server, ...]:
        try:
            return listed(*self._files)
        except OSError as error:  # such as no descriptor being left: that says nothing of the servers
            self._fail(f"{self._files[0]} cannot be read: {error.strerror}")
            return self._told.default if self._told else _usable(LOCAL_HOST)

    def _fail(self, why: str) -> None:
        """To be tried again; said once."""
        self._failed = True
        if why != self._complaint:
            self._complaint = why
            log.warning("%s", why)


async def read_once(settings: Settings) -> ServerView:
    """The servers as they are, for one look-up: as `Servers` finds them, within a few seconds."""
    found: asyncio.Future[ServerView] = asyncio.get_running_loop().create_future()
    servers = Servers(lambda view: None if found.done() else found.set_result(view), configured=settings.dns.servers)
    following = asyncio.create_task(servers.run())
    try:
        return await found
    finally:
        following.cancel()
        await asyncio.wait([following])


def listed(resolv_conf: str, uplinks: str) -> tuple[Server, ...]:
    """The servers of resolv.conf, in its order; in the place of a stub of systemd-resolved those it would ask.

    Without a server that can be asked, those of the local host. Raises OSError when the system has no means to look.
    """
    conf = _file(resolv_conf)
    found: dict[Server, None] = {}
    for server in _usable(conf):
        behind = _usable(_file(uplinks)) if server.address in STUBS else ()
        found.update(dict.fromkeys(behind or (server,)))
    return tuple(found) or _usable(replace(LOCAL_HOST, trust_ad=conf.trust_ad))


def _usable(conf: ResolvConf) -> tuple[Server, ...]:
    found = []
    for nameserver in conf.nameservers:
        ip = nameserver.ip
        ifindex = 0
        if ip.version == 6 and ip.is_link_local:
            ifindex = _ifindex(nameserver.scope)
            if not ifindex:
                continue
        found.append(Server(str(ip), ifindex=ifindex, trust_ad=conf.trust_ad and ip.is_loopback))
    return tuple(found)


def _ifindex(scope: str) -> int:
    """The index of a zone; 0: there is no such link now."""
    with contextlib.suppress(OSError, ValueError):
        return socket.if_nametoindex(scope)
    with contextlib.suppress(OSError, ValueError, OverflowError):
        number = int(scope)
        if number <= MAX_IFINDEX:  # Python before 3.13 would cut it off
            socket.if_indextoname(number)
            return number
    return 0


def _file(path: str) -> ResolvConf:
    """What a resolv.conf says; nothing, if it is no file, or not for us to read. Raises OSError for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
    except OSError as error:
        if error.errno in NO_FILE:
            return ResolvConf()
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ResolvConf()
        return resolvconf.parse(os.read(fd, MAX_FILE).decode(errors="replace"))
    finally:
        os.close(fd)


def _socket(address: str) -> list[str]:
    """Where the socket of the system bus will be, if it is a file."""
    where = address.removeprefix("unix:path=").partition(",")[0]
    return [unquote(where)] if where.startswith("/") else []


def _line(view: ServerView) -> str:
    links = [f"link {index}: {' '.join(server.address for server in servers)}" for index, servers in view.links]
    return "; ".join([*links, " ".join(server.address for server in view.default)])
