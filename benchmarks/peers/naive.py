"""The three libraries used as their introductions show: `naive.py BUS`, owner of bench.Naive.

It trusts what it hears, retries nothing, keeps no order of addresses and does not notice when one goes.
"""

import asyncio
import contextlib
import sys

import dns.asyncresolver
import dns.exception
from dbus_next.aio import MessageBus
from dbus_next.constants import PropertyAccess
from dbus_next.service import ServiceInterface, dbus_property
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR


class Interface(ServiceInterface):
    relay = ""

    def __init__(self):
        super().__init__("bench.Naive")

    @dbus_property(access=PropertyAccess.READ)
    def Relay(self) -> "s":  # noqa: F821
        return self.relay


async def mx(resolver, name):
    with contextlib.suppress(dns.exception.DNSException):
        answer = await resolver.resolve(name, "MX", search=False)
        return min((record.preference, record.exchange.to_text(omit_final_dot=True)) for record in answer)[1]
    return None


async def handle(address, resolver, interface):
    labels = address.split(".")[::-1]
    names = [".".join(labels[level:]) + ".in-addr.arpa." for level in range(3)]
    found = await asyncio.gather(*(mx(resolver, name) for name in names))
    relay = next((one for one in found if one), "")
    if relay and relay != interface.relay:
        interface.relay = relay
        interface.emit_properties_changed({"Relay": relay})


async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    interface = Interface()
    bus.export("/bench/Naive", interface)
    resolver = dns.asyncresolver.Resolver()
    tasks = set()
    async with AsyncIPRoute() as route:
        await route.bind(RTMGRP_IPV4_IFADDR)
        await bus.request_name("bench.Naive")
        while True:
            async for message in route.get():
                if message["event"] == "RTM_NEWADDR":
                    task = asyncio.ensure_future(handle(message.get("IFA_LOCAL"), resolver, interface))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)


asyncio.run(main())
