"""The engine and its drivers put together: what they tell it, and what it has them do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from salsa_agent.bus.logind import SleepClock
from salsa_agent.bus.system_bus import SystemBus
from salsa_agent.core.addresses import counting, eligible_links, families, left_out
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
    NetworkChanged,
    RereadKernel,
    RereadNameservers,
    ServersRead,
)
from salsa_agent.core.model import IPAddress, LinkInfo, NetworkFacts, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.linkinfo.monitor import LinkInfoMonitor
from salsa_agent.nameservers.monitor import NameserverMonitor
from salsa_agent.nat.client import Nat
from salsa_agent.netlink.monitor import Netlink
from salsa_agent.resolver.query_budgets import QueryBudgets
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.system.machine_id import machine_identity
from salsa_agent.system.supervision import Part
from salsa_agent.wiring import log_messages as tell
from salsa_agent.wiring.engine_loop import EngineLoop
from salsa_agent.wiring.tasks import Work

log = logging.getLogger("salsa-agent")


class DrivenEngine:
    """An engine that hears of this host's network and has its questions asked and its relays spoken to.

    What it publishes, and to whom, is for its owner: `on_event` sees each event before the engine does, `on_command`
    each command after the drivers. Neither may raise. The owner runs its parts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_event: Callable[[Event], None] = lambda _: None,
        on_command: Callable[[Command], None] = lambda _: None,
    ) -> None:
        self.identity = machine_identity()
        self.engine = Engine(settings, self.identity, seed=time.time_ns())
        self.loop = EngineLoop(self.engine, self._execute, on_command, SleepClock().slept)
        self.resolver = Resolver(settings.dns, budgets=QueryBudgets())
        self.system_bus = SystemBus()
        self._on_event = on_event
        self._ignore = settings.network.ignore
        self._facts: NetworkFacts | None = None
        self._told_addresses = ""  # the last such line of the log
        self._verifier = Verifier(settings.verify)
        self._work = Work(self.resolver, self._verifier, self.post)
        self._nat = Nat(self._on_external_address, self.resolver.ask)
        self._link_infos = LinkInfoMonitor(self._on_link_infos, self.system_bus)
        self._link_infos.configure(settings)
        self._nameservers = NameserverMonitor(self._on_servers, self._link_infos.set_domains, bus=self.system_bus)
        self._nameservers.configure(settings)
        self._netlink = Netlink(self._on_facts)

    def configure(self, settings: Settings) -> None:
        """The drivers use these settings from now on; the engine hears of them by `SettingsRead`."""
        self.resolver.configure(settings)
        self._verifier.configure(settings)
        self._nameservers.configure(settings)
        self._link_infos.configure(settings)
        self._ignore = settings.network.ignore
        self._follow_links()
        self._tell_addresses()

    def reread_nameservers(self) -> None:
        """Read the resolver configuration again."""
        self._nameservers.reread()

    def post(self, event: Event) -> None:
        """Have the engine handle this event in the next turn of the event loop."""
        self._on_event(event)
        self.loop.post(event)

    def of_the_host(self) -> dict[str, Part]:
        """The engine, and what follows the kernel and the system bus, by name; each runs until it is cancelled."""
        return {"engine": self.loop.run, "netlink": self._netlink.run, "system bus": self.system_bus.run}

    def of_the_links(self) -> dict[str, Part]:
        """What follows the name servers, domains and connections of links; likewise."""
        return {"name servers": self._nameservers.run, "link information": self._link_infos.run}

    async def close(self) -> None:
        """Drop all questions, and end all conversations; to be called after `loop.stop`."""
        await asyncio.gather(self._work.close(), self._nat.close())

    # --- events

    def _on_facts(self, facts: NetworkFacts) -> None:
        self.resolver.families = families(facts)
        self._facts = facts
        self._follow_links()
        self._tell_addresses()
        self._nameservers.reread_soon()
        self.post(FactsRead(facts))

    def _follow_links(self) -> None:
        """Have those links followed whose addresses count (A1, A3)."""
        if self._facts is None:
            return
        links = eligible_links(self._facts, self._ignore)
        self._nameservers.follow_links(link.index for link in links)
        self._link_infos.follow_links(links)

    def _tell_addresses(self) -> None:
        """At debug: which addresses count, and why the others do not. A host may have 10,000; no other level pays."""
        if self._facts is None or not log.isEnabledFor(logging.DEBUG):
            return
        line = tell.addresses_line(counting(self._facts, self._ignore), left_out(self._facts, self._ignore))
        if line != self._told_addresses:
            self._told_addresses = line
            log.debug("%s", line)

    def _on_link_infos(self, infos: tuple[LinkInfo, ...]) -> None:
        self.post(LinkInfoRead(infos))

    def _on_servers(self, view: ServerView) -> None:
        self.post(ServersRead(view))

    def _on_external_address(self, request: DiscoverExternalAddress, ip: IPAddress | None) -> None:
        self.post(ExternalAddressFound(request, ip))

    # --- commands

    def _execute(self, command: Command) -> None:
        match command:
            case Ask(question):
                self._work.ask(question)
            case Check():
                self._work.check(command)
            case Drop(question):
                self._work.drop(question)
            case Abandon(check):
                self._work.abandon(check)
            case NetworkChanged():
                self.resolver.forget()
            case DiscoverExternalAddress():
                self._nat.discover(command)
            case ForgetExternalAddress():
                self._nat.forget()
            case RereadKernel():
                self._netlink.reread()
            case RereadNameservers():
                self._nameservers.reread()
                self._link_infos.reread()
