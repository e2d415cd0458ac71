"""Looks for an agent on the buses of this host, and whether the system bus would let one have the name."""

from __future__ import annotations

import asyncio
import os

from salsa_agent.bus.client import CallError, Client, NotRunning, client
from salsa_agent.bus.name_owner import BusError, address_of, name_refused, open_bus
from salsa_agent.bus.private_bus import private_buses
from salsa_agent.bus.system_bus import SystemBus
from salsa_agent.core.model import RelayKey
from salsa_agent.linkinfo.networkmanager import NetworkManager
from salsa_agent.oneshot.doctor.scene import Agents


async def agents(bus: str) -> Agents:
    """Look on the buses that `--bus` means, and then on the others."""
    asked = ("system", "session") if bus == "auto" else (bus,)
    found = Agents(bus)
    for name in asked:
        found = await _look(found, name)
    if not found.on:
        addresses = {address_of(name) for name in asked}
        for name in ("system", "session", *private_buses()):
            if name not in asked and address_of(name) not in addresses and (await _look(Agents(), name)).on:
                found = found._replace(elsewhere=(*found.elsewhere, name))
    if not found.on and "system" in found.buses and os.geteuid() == 0:  # of others the policy speaks otherwise
        found = found._replace(refused=await name_refused(address_of("system")))
    return found


async def _look(found: Agents, name: str) -> Agents:
    address = address_of(name)
    if not address:
        return found
    try:
        (await open_bus(address)).disconnect()
    except BusError:
        return found
    found = found._replace(buses=(*found.buses, name))
    try:
        async with client(name) as agent:
            return await _said(found._replace(on=(*found.on, name)), agent)
    except NotRunning:
        return found
    except CallError:
        return found._replace(on=(*found.on, name))


async def _said(found: Agents, agent: Client) -> Agents:
    said = await agent.properties()
    relays = said["Relays"]
    return found._replace(
        state=found.state or str(said["State"]),
        starttls=found.starttls | {RelayKey(one["host"], one["port"]) for one in relays if one.get("starttls") is True},
        of_links=found.of_links or any(one["source"] == "link" for one in relays),
    )


async def has_networkmanager() -> bool:
    """Whether it is on the system bus."""
    bus = SystemBus()
    manager = NetworkManager(bus, lambda: None, lambda: None)
    running = asyncio.create_task(bus.run())
    try:
        await bus.settled(2.0)
        return bool(manager.owner)
    finally:
        running.cancel()
        await asyncio.wait([running])
