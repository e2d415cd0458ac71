"""The wiring: drivers' events to the engine, its commands to the drivers; one run from the bus to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from salsa_agent import __version__
from salsa_agent.bus.logind import Resume, SleepClock
from salsa_agent.bus.name_owner import BusError, NameOwner, connect
from salsa_agent.bus.service import Service
from salsa_agent.bus.system_bus import SystemBus
from salsa_agent.config import file as config
from salsa_agent.config.file import ConfigError
from salsa_agent.core.addresses import eligible_links, families
from salsa_agent.core.engine import Engine
from salsa_agent.core.events import (
    Abandon,
    Ask,
    Check,
    Command,
    DiscoverExternalAddress,
    Drop,
    Event,
    ExternalAddressFound,
    FactsRead,
    ForgetExternalAddress,
    LinkInfoRead,
    LinkRelaysSet,
    NetworkChanged,
    Publish,
    RefreshDone,
    RereadKernel,
    RereadNameservers,
    Resumed,
    RoundEnded,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.model import IPAddress, LinkInfo, NetworkFacts, Publication, ServerView, State
from salsa_agent.core.settings import Settings
from salsa_agent.wiring import log_messages as tell
from salsa_agent.wiring.engine_loop import EngineLoop
from salsa_agent.daemon.link_relays import LinkRelayStore
from salsa_agent.daemon.methods import Methods
from salsa_agent.daemon.statistics import Statistics
from salsa_agent.wiring.tasks import Work
from salsa_agent.linkinfo.monitor import LinkInfoMonitor
from salsa_agent.nameservers.monitor import NameserverMonitor
from salsa_agent.nat.client import Nat
from salsa_agent.netlink.monitor import Netlink
from salsa_agent.outputs.relay_files import RelayFile
from salsa_agent.outputs.socketmap import Socketmap
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.system import sd_notify as notify
from salsa_agent.system.clock import clock, realtime_us
from salsa_agent.system.machine_id import machine_identity

NAME_AFTER = 5.0  # H3: the name is requested after the first decision, or after this many seconds

log = logging.getLogger("salsa-agent")


class Configurable(Protocol):
    """A driver with settings of its own."""

    def configure(self, settings: Settings) -> None:
        """These settings hold from now on; what is under way may end with the old ones."""


class Agent:
    """One run of the agent."""

    def __init__(self, settings: Settings, config_path: Path | None) -> None:
        self._config_path = config_path
        identity = machine_identity()
        self._engine = Engine(settings, identity, seed=time.time_ns())
        self._statistics = Statistics(realtime_us(clock()))
        self._loop = EngineLoop(self._engine, self._execute, SleepClock().slept)
        self._resolver = Resolver(settings.dns)
        self._verifier = Verifier(settings.verify)
        self._work = Work(self._resolver, self._verifier, self._post_result)
        self._nat = Nat(self._on_external_address, self._resolver.ask)
        self._system_bus = SystemBus()
        self._link_infos = LinkInfoMonitor(self._on_link_infos, self._system_bus)
        self._link_infos.configure(settings)
        self._nameservers = NameserverMonitor(self._on_servers, self._link_infos.set_domains, bus=self._system_bus)
        self._nameservers.configure(settings)
        self._resume = Resume(self._on_resume, self._system_bus)
        self._netlink = Netlink(self._on_facts)
        self._links = LinkRelayStore(config.runtime_directory(os.environ))
        self._files = RelayFile(settings)
        self._socketmap = Socketmap()
        self._settings = settings
        self._configured: tuple[Configurable, ...] = (
            self._resolver,
            self._verifier,
            self._nameservers,
            self._link_infos,
            self._files,
            self._socketmap,
        )
        self._methods = Methods(
            self._engine,
            self._loop,
            self._resolver,
            self._links,
            identity=identity,
            reread=self._nameservers.reread,
            statistics=self._statistics,
        )
        self._service = Service(version=__version__, requests=self._methods, realtime_us=realtime_us)
        self._decided = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self, bus: str, *, announce: Callable[[str], None]) -> None:
        """Run until SIGTERM or SIGINT. `announce` is told the address of a private bus.

        Raises BusError when there is no bus, no name on it, or it is lost (H3).
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        connecting = asyncio.create_task(connect(bus), name="bus")
        try:
            await asyncio.wait({stop, connecting}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                return
            await self._run(await connecting, stop, announce)
        finally:
            for task in (stop, connecting):
                task.cancel()
            await asyncio.gather(stop, connecting, return_exceptions=True)

    async def _run(self, connection: NameOwner, stop: asyncio.Task[bool], announce: Callable[[str], None]) -> None:
        background = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("netlink", self._netlink.run()),
                ("system bus", self._system_bus.run()),
                ("name servers", self._nameservers.run()),
                ("link information", self._link_infos.run()),
                ("watchdog", self._feed_watchdog()),
            )
        ]
        try:
            self._files.clear()  # of an earlier run that was killed
            self._socketmap.configure(self._settings)
            await connection.export(self._service)
            if connection.private_address:
                announce(connection.private_address)
            self._loop.post(LinkRelaysSet(self._links.links))
            serving = asyncio.create_task(self._serve(connection, stop, announce), name="serve")
            await asyncio.wait({serving, *background}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():  # a defect of ours: end with its traceback rather than go on without a part
                serving.cancel()
                await asyncio.gather(*(task for task in background if task.done()))
            await serving
        finally:
            notify.stopping()
            self._loop.stop()
            self._files.clear()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await asyncio.gather(self._work.close(), self._nat.close(), self._socketmap.close())
            await connection.close()

    async def _serve(self, connection: NameOwner, stop: asyncio.Task[bool], announce: Callable[[str], None]) -> None:
        """Own the name once there is something to say; return when told to stop. Raises BusError."""
        lost = asyncio.create_task(connection.lost(), name="bus lost")
        decided = asyncio.create_task(self._decided.wait(), name="decided")
        try:
            await asyncio.wait({stop, lost, decided}, timeout=NAME_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done() and not lost.done():
                before = connection.private_address
                await connection.own_name()
                if connection.private_address != before:
                    announce(connection.private_address)
                notify.ready()
                log.info("on the bus as org.salsa.Agent1 (%s)", connection.description)
                await asyncio.wait({stop, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                raise BusError(lost.result())
        finally:
            lost.cancel()
            decided.cancel()
            await asyncio.gather(lost, decided, return_exceptions=True)

    async def _feed_watchdog(self) -> None:
        """Signs of life for as long as the loop turns and no round is long overdue."""
        interval = notify.watchdog_interval()
        if interval is None:
            await asyncio.Event().wait()  # nobody asks for them
            return
        while True:
            await asyncio.sleep(interval)
            if not self._engine.overdue(clock()):
                notify.watchdog()

    # --- events

    def _post_result(self, event: Event) -> None:
        self._statistics.on_event(event)
        self._loop.post(event)

    def _on_facts(self, facts: NetworkFacts) -> None:
        if self._links.keep(facts.links):
            self._loop.post(LinkRelaysSet(self._links.links))
        self._resolver.families = families(facts)
        counting = eligible_links(facts, self._engine.settings.network.ignore)
        self._nameservers.follow_links(link.index for link in counting)
        self._link_infos.follow_links(counting)
        self._nameservers.reread_soon()
        self._loop.post(FactsRead(facts))

    def _on_link_infos(self, infos: tuple[LinkInfo, ...]) -> None:
        self._loop.post(LinkInfoRead(infos))

    def _on_servers(self, view: ServerView) -> None:
        self._loop.post(ServersRead(view))

    def _on_external_address(self, request: DiscoverExternalAddress, ip: IPAddress | None) -> None:
        self._loop.post(ExternalAddressFound(request, ip))

    def _on_resume(self) -> None:
        self._loop.post(Resumed())

    def _reload(self) -> None:
        """SIGHUP: a bad file is logged and the old settings stay."""
        notify.reloading()
        try:
            settings = config.load(self._config_path)
        except ConfigError as error:
            log.error("configuration not read again, the old settings stay: %s", error)
        else:
            log.info("configuration read again")
            for driver in self._configured:
                driver.configure(settings)
            self._loop.post_now(SettingsRead(settings))  # READY=1 says that it is in force
        notify.ready()

    # --- commands

    def _execute(self, command: Command) -> None:
        self._statistics.on_command(command)
        match command:
            case Ask(question):
                self._work.ask(question)
            case Check():
                self._work.check(command)
            case Drop(question):
                self._work.drop(question)
            case Abandon(check):
                self._work.abandon(check)
            case Publish(publication):
                self._publish(publication)
            case RefreshDone(token):
                self._methods.refreshed(token)
            case NetworkChanged():
                self._resolver.forget()
            case DiscoverExternalAddress():
                self._nat.discover(command)
            case ForgetExternalAddress():
                self._nat.forget()
            case RereadKernel():
                self._netlink.reread()
            case RereadNameservers():
                self._nameservers.reread()
                self._link_infos.reread()
            case RoundEnded(routine=routine):
                level = logging.DEBUG if routine else logging.INFO
                log.log(level, "%s", tell.round_line(command, self._engine.publication))

    def _publish(self, said: Publication) -> None:
        previous = self._service.publication
        self._service.publish(said)
        if said.state is not State.STARTING:
            if said.best != previous.best or not self._decided.is_set():
                log.info("%s", tell.best_line(said))
            self._files.publish(said)
            self._socketmap.publish(said)
            self._decided.set()
        notify.status(tell.status_line(said))
