"""The network at hand as the criteria of a site see it (rules C10, F4), looked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from salsa_agent.bus.system_bus import SystemBus
from salsa_agent.core.addresses import counting, eligible_links
from salsa_agent.core.model import LinkInfo, NetworkFacts
from salsa_agent.core.settings import Settings
from salsa_agent.linkinfo.monitor import LinkInfoMonitor
from salsa_agent.nameservers.monitor import NameserverMonitor
from salsa_agent.netlink.monitor import read_once

PATIENCE = 5.0  # seconds for systemd-resolved and NetworkManager to answer, if they are there


class NetworkAtHand(NamedTuple):
    """The link of the first address that counts: its name, that address with its prefix, and what else is known."""

    interface: str
    address: str
    prefix: IPv4Network | IPv6Network
    info: LinkInfo


async def network_at_hand(settings: Settings) -> NetworkAtHand | None:
    """The network of the first address in order A4; None: no address counts."""
    facts = await read_once()
    addresses = counting(facts, settings.network.ignore)
    if not addresses:
        return None
    first = addresses[0]
    info = await _info(facts, settings, first.ifindex)
    lengths = [host.prefixlen for host in facts.addresses if (host.ip, host.index) == (first.ip, first.ifindex)]
    length = next((length for length in lengths if length is not None), first.ip.max_prefixlen)
    return NetworkAtHand(first.interface, str(first.ip), ip_network(f"{first.ip}/{length}", strict=False), info)


async def _info(facts: NetworkFacts, settings: Settings, ifindex: int) -> LinkInfo:
    """What is known of the link; nothing, where nobody says in time."""
    found: asyncio.Future[tuple[LinkInfo, ...]] = asyncio.get_running_loop().create_future()
    bus = SystemBus()
    links = LinkInfoMonitor(lambda infos: None if found.done() else found.set_result(infos), bus, everything=True)
    servers = NameserverMonitor(lambda _: None, links.set_domains, bus=bus, everything=True)
    servers.configure(settings)
    eligible = [link for link in eligible_links(facts, settings.network.ignore) if link.index == ifindex]
    servers.follow_links(link.index for link in eligible)
    links.follow_links(eligible)
    async with AsyncExitStack() as running:
        for work in (bus.run(), servers.run(), links.run()):
            await running.enter_async_context(_Running(work))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                return next((info for info in await found if info.ifindex == ifindex), LinkInfo(ifindex))
    return LinkInfo(ifindex)


class _Running:
    """`async with` it a coroutine runs beside the block, and is cancelled at its end."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._work)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
