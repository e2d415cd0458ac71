"""Collects what there is to be seen, and has each group of findings look at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import salsa_agent
from salsa_agent.core.model import Answer, Question, RRType, ServerView
from salsa_agent.core.senders import entry_for
from salsa_agent.core.settings import Settings
from salsa_agent.oneshot.doctor import (
    addresses,
    agent,
    bus_probes,
    clock,
    dhcp,
    dns_probes,
    mail_probes,
    ports,
    programs,
    relays,
    resolver,
    sender,
    sites,
    spf,
)
from salsa_agent.oneshot.doctor.scene import Check, Finding, Scene, Spf
from salsa_agent.oneshot.find import Search, is_decided
from salsa_agent.oneshot.severity import Severity

SECONDS = 30.0  # for the decision, as for `find`

_GROUPS = (agent, addresses, resolver, relays, ports, sender, dhcp, programs, sites, clock)


def findings(scene: Scene) -> list[Finding]:
    """Everything that is wrong, the worst first."""
    found = [finding for group in _GROUPS for finding in group.findings(scene)]
    return sorted(dict.fromkeys(found), key=lambda finding: list(Severity).index(finding.severity))


async def examine(settings: Settings, bus: str, envelope_sender: str = "", *, root: Path = Path("/")) -> Scene:
    """Look at everything, once. `bus`: where an agent is looked for, as `--bus` names it. `root`: of this host's files.

    Relays are spoken to and their ports are tried, DNS servers are asked; nothing is sent.
    """
    agents = asyncio.create_task(bus_probes.agents(bus))
    manager = asyncio.create_task(bus_probes.has_networkmanager())
    try:
        scene = await _decision(settings, envelope_sender)
        scene = replace(scene, agents=await agents, networkmanager=await manager, root=root, now=time.time())
    finally:
        for task in (agents, manager):
            task.cancel()
        await asyncio.gather(agents, manager, return_exceptions=True)
    return replace(scene, installed=_installed())


def _installed() -> float:
    """When this program was installed, by the realtime clock; 0: that cannot be known."""
    with suppress(OSError):
        return Path(salsa_agent.__file__).stat().st_mtime
    return 0.0


async def _decision(settings: Settings, envelope_sender: str) -> Scene:
    """The engine's decision, and what is known only while it runs."""
    own = entry_for(envelope_sender, settings.senders)
    place = None if own is None else settings.senders.index(own)
    async with Search(settings) as search:
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await search.until(lambda said: is_decided(said, place))
        said = search.publication if is_decided(search.publication, place) else None
        if said is not None and place is not None:
            said = replace(said, best=said.senders[place].best, relays=said.senders[place].relays)
        scene = Scene(settings, search.facts, said, search.asked, tuple(Check(*one) for one in search.checks))
        view = search.view
    scene = replace(scene, sender=envelope_sender)
    of_dns = asyncio.gather(
        dns_probes.nonexistent(scene, view), dns_probes.views(scene, view), dns_probes.outside(scene, view)
    )
    of_mail = asyncio.gather(mail_probes.ports(scene), mail_probes.certificates(scene))
    of_sender = asyncio.gather(_dmarc(scene, view), _spf(scene, view))
    probes, views, outside = await of_dns
    reached, certificates = await of_mail
    dmarc, named = await of_sender
    scene = replace(scene, probes=probes, views=views, outside=outside)
    return replace(scene, ports=reached, certificates=certificates, dmarc=dmarc, spf=named)


async def _dmarc(scene: Scene, view: ServerView) -> str:
    """What the domain of the sender has done with mail that is not its own."""
    domain = sender.domain_of(scene.sender)
    return await sender.dmarc_policy(domain, _asker(scene, view, RRType.TXT)) if domain else ""


async def _spf(scene: Scene, view: ServerView) -> Spf:
    """What the domain of the sender says of the relay that was chosen."""
    best = scene.best
    if best is None or not sender.domain_of(scene.sender) or not sender.sends_itself(best):
        return Spf()
    addresses = best.relay.addresses or mail_probes.addresses_of(scene, best.relay.key.host)

    async def ask(name: str, rtype: RRType) -> Answer:
        return await _asker(scene, view, rtype)(name)

    return await spf.evaluate(scene.sender.strip("<>"), addresses, ask)


def _asker(scene: Scene, view: ServerView, rtype: RRType) -> Callable[[str], Awaitable[Answer]]:
    """Asks where names that are not the reverse tree's are asked (rule F1)."""
    resolver = dns_probes.resolver_for(scene)
    link = scene.addresses[0].ifindex if scene.addresses else 0
    return lambda name: resolver.ask(Question(name, rtype, view.servers_for(name, link)))


def as_plain(found: Iterable[Finding]) -> list[dict[str, str]]:
    """As `--json` prints them."""
    return [
        {"severity": str(one.severity), "code": one.code, "problem": one.problem, "cure": one.cure} for one in found
    ]
