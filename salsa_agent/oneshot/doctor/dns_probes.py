"""Asks DNS servers what the engine does not: each by itself, for a name that does not exist, and the NAT's address."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from salsa_agent.core.addresses import eligible_links, families
from salsa_agent.core.admission import is_internal
from salsa_agent.core.events import DiscoverExternalAddress
from salsa_agent.core.model import Question, RRType, Server, ServerView
from salsa_agent.core.nat import ExternalAddress
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.servers import without_own_links
from salsa_agent.nameservers import monitor as nameservers
from salsa_agent.nat import natpmp, stun
from salsa_agent.nat.answer import MappedAddress
from salsa_agent.nat.udp import NoAnswer, connected, exchange
from salsa_agent.oneshot.doctor.scene import Outside, Probe, Scene, View
from salsa_agent.oneshot.lookup import lookup
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.text import host_port

MOST_SERVERS = 6  # that are asked
MOST_ADDRESSES = 2  # whose names each server is asked for
NAT_WAITS = (0.25, 0.5, 1.0)  # seconds after each request: a gateway is near


def resolver_for(scene: Scene) -> Resolver:
    """One that asks as the settings say."""
    resolver = Resolver(scene.settings.dns)
    resolver.families = families(scene.facts)
    return resolver


async def nonexistent(scene: Scene, view: ServerView) -> tuple[Probe, ...]:
    """Ask each server in use for the MX records of a name that does not exist."""
    resolver = resolver_for(scene)
    servers = _servers(view)
    name = f"salsa-{secrets.token_hex(8)}.example.com"
    questions = [Question(name, RRType.MX, (server,)) for server in servers]
    answers = await asyncio.gather(*(resolver.clone().ask(question) for question in questions))
    return tuple(Probe(server, answer) for server, answer in zip(servers, answers, strict=True))


async def views(scene: Scene, view: ServerView) -> tuple[View, ...]:
    """Ask each server by itself for this host's reverse names; those, too, that `dns.servers` stands in front of."""
    in_use = _servers(view)
    servers = list(in_use)
    if scene.settings.dns.servers:
        settings = replace(scene.settings, dns=scene.settings.dns._replace(servers=()))
        links = [link.index for link in eligible_links(scene.facts, scene.settings.network.ignore)]
        other = without_own_links(await nameservers.read_once(settings, links), scene.facts.addresses)
        known = {(server.address, server.port) for server in in_use}
        servers += [server for server in _servers(other) if (server.address, server.port) not in known]
    if len(servers) < 2:
        return ()
    resolver = resolver_for(scene)
    network = scene.settings.network
    names = [
        name_at(address.ip, level)
        for address in scene.addresses[:MOST_ADDRESSES]
        for level in (network.ipv4_levels if address.ip.version == 4 else network.ipv6_levels)
    ]

    async def ask(server: Server) -> View:
        one = resolver.clone()
        answers = await asyncio.gather(*(one.ask(Question(name, RRType.MX, (server,))) for name in names))
        return View(server, tuple(zip(names, answers, strict=True)), server in in_use)

    return tuple(await asyncio.gather(*(ask(server) for server in servers[: 2 * MOST_SERVERS])))


async def outside(scene: Scene, view: ServerView) -> tuple[Outside, ...]:
    """What `network.nat` would find, by each method that can be tried: the gateway, a STUN server that is named."""
    if not scene.behind_nat:
        return ()
    found = []
    for method in ("nat-pmp", "stun") if scene.settings.network.stun_server else ("nat-pmp",):
        network = scene.settings.network._replace(nat=method)
        commands = ExternalAddress().discover(network, scene.facts, scene.addresses, view)
        found += [_outside(scene, view, one) for one in commands if isinstance(one, DiscoverExternalAddress)]
    return tuple(await asyncio.gather(*found))


async def _outside(scene: Scene, view: ServerView, request: DiscoverExternalAddress) -> Outside:
    resolver = resolver_for(scene)
    if request.method == "stun":
        said = await stun.ask(request, resolver.ask, NAT_WAITS)
    else:
        said = await _gateway(request)
    asked = host_port(*request.server) if request.server else request.gateway
    if said.ip is None or is_internal(said.ip):
        return Outside(request.method, asked, said.ip)
    default = ServerView(view.of_link(request.ifindex))
    there = await lookup(said.ip, scene.settings, default, resolver)
    return Outside(request.method, asked, said.ip, host_port(*there.relays[0].key) if there.relays else "")


async def _gateway(request: DiscoverExternalAddress) -> MappedAddress:
    try:
        with connected(IPv4Address(request.gateway), natpmp.PORT, request.ifindex) as sock:
            return await exchange(sock, natpmp.REQUEST, NAT_WAITS, natpmp.parse)
    except NoAnswer as error:
        return MappedAddress(None, str(error))


def _servers(view: ServerView) -> Sequence[Server]:
    every = [*view.default, *(server for _, servers in view.links for server in servers)]
    return tuple(dict.fromkeys(server._replace(fallback=False) for server in every))[:MOST_SERVERS]
