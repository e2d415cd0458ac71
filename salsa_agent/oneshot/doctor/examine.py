"""Collects what there is to be seen, and has each group of findings look at it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import salsa_agent
from salsa_agent.bus.client import CallError, NotRunning, client
from salsa_agent.bus.name_owner import BusError, address_of, open_bus
from salsa_agent.bus.system_bus import SystemBus
from salsa_agent.core.addresses import families
from salsa_agent.core.admission import is_internal
from salsa_agent.core.model import Answer, IPAddress, Question, RelayKey, RRType, Server, ServerView
from salsa_agent.core.senders import entry_for
from salsa_agent.core.settings import Settings
from salsa_agent.link_socket import Endpoint, open_socket
from salsa_agent.linkinfo.networkmanager import NetworkManager
from salsa_agent.oneshot.doctor import addresses, agent, clock, ports, programs, relays, resolver, sender, sites
from salsa_agent.oneshot.doctor.scene import Agents, Check, Finding, Port, Probe, Scene
from salsa_agent.oneshot.find import Search, is_decided
from salsa_agent.oneshot.findings import Severity
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.text import sanitize

SECONDS = 30.0  # for the decision, as for `find`
PORT_TIME = 4.0  # seconds to reach a port, and for the greeting
MAIL_PORTS = (25, 465, 587)
MOST_RELAYS = 6  # whose ports are tried
MOST_SERVERS = 6  # DNS servers that are asked for a name that does not exist

_GROUPS = (agent, addresses, resolver, relays, ports, sender, programs, sites, clock)


def findings(scene: Scene) -> list[Finding]:
    """Everything that is wrong, the worst first."""
    found = [finding for group in _GROUPS for finding in group.findings(scene)]
    return sorted(dict.fromkeys(found), key=lambda finding: list(Severity).index(finding.severity))


async def examine(settings: Settings, bus: str, envelope_sender: str = "", *, root: Path = Path("/")) -> Scene:
    """Look at everything, once. `bus`: where an agent is looked for, as `--bus` names it. `root`: of this host's files.

    Relays are spoken to and their ports are tried, DNS servers are asked; nothing is sent.
    """
    agents, manager = asyncio.create_task(_agents(bus)), asyncio.create_task(_has_networkmanager())
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
    search = Search(settings)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await search.until(lambda said: is_decided(said, place))
        said = search.publication if is_decided(search.publication, place) else None
        if said is not None and place is not None:
            said = replace(said, best=said.senders[place].best, relays=said.senders[place].relays)
        scene = Scene(settings, search.facts, said, search.asked, tuple(Check(*one) for one in search.checks))
        view = search.view
    finally:
        await search.close()
    scene = replace(scene, sender=envelope_sender)
    probes, reached, dmarc = await asyncio.gather(_probes(scene, view), _ports(scene), _dmarc(scene, view))
    return replace(scene, probes=probes, ports=reached, dmarc=dmarc)


# --- buses


async def _agents(bus: str) -> Agents:
    found: list[str] = []
    there: list[str] = []
    state = ""
    for name in ("system", "session") if bus == "auto" else (bus,):
        try:
            connection = await open_bus(address_of(name))
        except BusError:
            continue
        connection.disconnect()
        there.append(name)
        try:
            async with client(name) as agent:
                state = state or str((await agent.properties())["State"])
            found.append(name)
        except NotRunning:
            continue
        except CallError:
            found.append(name)
    return Agents(bus, tuple(found), tuple(there), state)


async def _has_networkmanager() -> bool:
    bus = SystemBus()
    manager = NetworkManager(bus, lambda: None, lambda: None)
    running = asyncio.create_task(bus.run())
    try:
        await bus.settled(2.0)
        return bool(manager.owner)
    finally:
        running.cancel()
        await asyncio.wait([running])


# --- DNS servers


async def _probes(scene: Scene, view: ServerView) -> tuple[Probe, ...]:
    """Ask each server for a name that does not exist."""
    resolver = _resolver(scene)
    servers = _servers(view)
    name = f"salsa-{secrets.token_hex(8)}.example.com"
    questions = [Question(name, RRType.MX, (server,)) for server in servers]
    answers = await asyncio.gather(*(resolver.clone().ask(question) for question in questions))
    return tuple(Probe(server, answer) for server, answer in zip(servers, answers, strict=True))


async def _dmarc(scene: Scene, view: ServerView) -> str:
    """What the domain of the sender has done with mail that is not its own."""
    domain, resolver = sender.domain_of(scene.sender), _resolver(scene)
    link = scene.addresses[0].ifindex if scene.addresses else 0

    async def ask(name: str) -> Answer:
        return await resolver.ask(Question(name, RRType.TXT, view.servers_for(name, link)))

    return await sender.dmarc_policy(domain, ask) if domain else ""


def _resolver(scene: Scene) -> Resolver:
    resolver = Resolver(scene.settings.dns)
    resolver.families = families(scene.facts)
    return resolver


def _servers(view: ServerView) -> Sequence[Server]:
    every = [*view.default, *(server for _, servers in view.links for server in servers)]
    return tuple(dict.fromkeys(server._replace(fallback=False) for server in every))[:MOST_SERVERS]


# --- ports


async def _ports(scene: Scene) -> tuple[Port, ...]:
    """Try the ports of mail at the relays that have an address."""
    tries = [_reach(RelayKey(host, to.port), to) for host, to in mail_ports(scene)]
    return tuple(await asyncio.gather(*tries))


def mail_ports(scene: Scene) -> Sequence[tuple[str, Endpoint]]:
    """The ports that are tried, and at whose relay. An address is tried once, whatever names lead to it.

    As in rule D11 a private address that the network named is reached through the link that named it only.
    """
    links = {link.name: link.index for link in scene.facts.links}
    hosts: dict[IPAddress, tuple[str, int]] = {}
    for listed in scene.relays[:MOST_RELAYS]:
        relay = listed.relay
        known = relay.addresses or _looked_up(scene, relay.key.host)
        if not known:
            continue
        of_link = not relay.administrator and is_internal(known[0])
        hosts.setdefault(known[0], (relay.key.host, links.get(relay.interface, 0) if of_link else 0))
    return [(host, Endpoint(ip, number, link)) for ip, (host, link) in hosts.items() for number in MAIL_PORTS]


def _looked_up(scene: Scene, host: str) -> Sequence[IPAddress]:
    return [ip for one in scene.asked if one.question.name == host for ip in one.answer.addresses]


async def _reach(key: RelayKey, to: Endpoint) -> Port:
    try:
        async with asyncio.timeout(PORT_TIME):
            reader, writer = await _connect(to)
    except TimeoutError:
        return Port(key, "timed out")
    except OSError as error:
        return Port(key, sanitize(error.strerror or "not reached").lower())
    try:
        return Port(key, greeting=await _greeting(reader, writer) if key.port != 465 else "")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _connect(to: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = open_socket(to, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(sock, to.sockaddr)
        return await asyncio.open_connection(sock=sock, limit=4096)
    except BaseException:
        sock.close()
        raise


async def _greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The first line, if it comes; the server is left by QUIT."""
    try:
        async with asyncio.timeout(PORT_TIME):
            line = await reader.readline()
            writer.write(b"QUIT\r\n")
            await writer.drain()
            await reader.read(4096)
    except (TimeoutError, OSError, ValueError):
        return ""
    return sanitize(line.decode("utf-8", "replace").strip()) if line.startswith(b"220") else ""


def as_plain(found: Iterable[Finding]) -> list[dict[str, str]]:
    """As `--json` prints them."""
    return [
        {"severity": str(one.severity), "code": one.code, "problem": one.problem, "cure": one.cure} for one in found
    ]
