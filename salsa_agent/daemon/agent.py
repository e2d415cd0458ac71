"""One run of the agent, from the bus to its end: the engine with its drivers, and what is told to whom."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from salsa_agent import __version__
from salsa_agent.bus.logind import Resume
from salsa_agent.bus.name_owner import BusError, NameOwner, connect
from salsa_agent.bus.service import Service
from salsa_agent.config import file as config
from salsa_agent.config.file import ConfigError
from salsa_agent.core.events import (
    Command,
    Event,
    FactsRead,
    LinkRelaysSet,
    Publish,
    RefreshDone,
    Resumed,
    RoundEnded,
    SettingsRead,
)
from salsa_agent.core.model import Publication, State
from salsa_agent.core.settings import Settings
from salsa_agent.daemon.link_relays import LinkRelayStore
from salsa_agent.daemon.methods import Methods
from salsa_agent.daemon.statistics import Statistics
from salsa_agent.outputs.relay_files import RelayFile
from salsa_agent.outputs.socketmap import Socketmap
from salsa_agent.system import sd_notify as notify
from salsa_agent.system.clock import Realtime, clock
from salsa_agent.system.signals import handled
from salsa_agent.system.supervision import running
from salsa_agent.wiring import log_messages as tell
from salsa_agent.wiring.driven_engine import DrivenEngine

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
        realtime, started = Realtime(), clock()
        self._statistics = Statistics(lambda: realtime.us(started))
        self._driven = DrivenEngine(settings, on_event=self._on_event, on_command=self._on_command)
        self._resume = Resume(self._on_resume, self._driven.system_bus)
        self._links = LinkRelayStore(config.runtime_directory(os.environ))
        self._files = RelayFile(settings)
        self._socketmap = Socketmap()
        self._settings = settings
        self._configured: tuple[Configurable, ...] = (self._driven, self._files, self._socketmap)
        self._methods = Methods(
            self._driven.engine,
            self._driven.loop,
            self._driven.resolver,
            self._links,
            identity=self._driven.identity,
            statistics=self._statistics,
        )
        self._service = Service(version=__version__, requests=self._methods, realtime_us=realtime.us)
        self._decided = asyncio.Event()
        self._keeps_files = False  # they are those of the agent that has the name on the bus
        self._stop = asyncio.Event()

    async def run(self, bus: str, *, announce: Callable[[str], None]) -> None:
        """Run until SIGTERM or SIGINT. `announce` is told the address of a private bus.

        Raises BusError when there is no bus, no name on it, or it is lost (H3), and PartEnded for a defect of its own.
        """
        stopped = self._stop.set
        with ExitStack() as stack:
            try:
                handlers = {signal.SIGTERM: stopped, signal.SIGINT: stopped, signal.SIGHUP: self._reload}
                stack.enter_context(handled(handlers))
            except OSError as error:
                raise BusError(f"no bus: {error.strerror}") from error  # no descriptors, and a bus takes more of them
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
        parts = {**self._driven.of_the_host(), **self._driven.of_the_links(), "watchdog": self._feed_watchdog}
        try:
            async with running(parts):
                try:
                    # on a bus of its own nobody else has the name, and its address is awaited
                    self._keeps_files = bool(connection.private_address) or not await connection.taken()
                    if self._keeps_files:
                        self._files.clear()  # of an earlier run that was killed
                    self._socketmap.configure(self._settings)
                    await connection.export(self._service)
                    if connection.private_address:
                        announce(connection.private_address)
                    self._driven.post(LinkRelaysSet(self._links.links))
                    await self._serve(connection, stop, announce)
                finally:
                    notify.stopping()
                    self._driven.loop.stop()
                    if self._keeps_files:
                        self._files.clear()
        finally:
            await asyncio.gather(self._driven.close(), self._socketmap.close())
            await connection.close()

    async def _serve(self, connection: NameOwner, stop: asyncio.Task[bool], announce: Callable[[str], None]) -> None:
        """Own the name once there is something to say; return when told to stop. Raises BusError."""
        lost = asyncio.create_task(connection.lost(), name="bus lost")
        decided = asyncio.create_task(self._decided.wait(), name="decided")
        try:
            await asyncio.wait({stop, lost, decided}, timeout=NAME_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done() and not lost.done():
                before = connection.private_address
                try:
                    await connection.own_name()
                except BusError:
                    self._keeps_files = self._keeps_files and not await connection.taken()
                    raise
                self._keeps_files = True  # whoever had the name has left it
                if self._decided.is_set():
                    self._files.publish(self._service.publication)
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
            if not self._driven.engine.overdue(clock()):
                notify.watchdog()

    # --- events

    def _on_event(self, event: Event) -> None:
        self._statistics.on_event(event)
        if isinstance(event, FactsRead) and self._links.keep(event.facts.links):
            self._driven.post(LinkRelaysSet(self._links.links))

    def _on_resume(self) -> None:
        self._driven.post(Resumed())

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
            self._driven.loop.post_now(SettingsRead(settings))  # READY=1 says that it is in force
        notify.ready()

    # --- commands

    def _on_command(self, command: Command) -> None:
        self._statistics.on_command(command)
        match command:
            case Publish(publication):
                self._publish(publication)
            case RefreshDone(token):
                self._methods.refreshed(token)
            case RoundEnded(routine=routine):
                level = logging.DEBUG if routine else logging.INFO
                log.log(level, "%s", tell.round_line(command, self._driven.engine.publication))

    def _publish(self, said: Publication) -> None:
        previous = self._service.publication
        self._service.publish(said)
        if said.state is not State.STARTING:
            if said.best != previous.best or not self._decided.is_set():
                log.info("%s", tell.best_line(said))
            if self._keeps_files:
                self._files.publish(said)
            self._socketmap.publish(said)
            self._decided.set()
        notify.status(tell.status_line(said))
