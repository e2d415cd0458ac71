"""The three libraries used as their introductions show: `naive.py BUS`, owner of bench.Naive.

It asks what the rules ask: the MX sets of all levels at once (B2), the addresses of the exchange (C3), and the kernel
by which link it would send (A4). It trusts what it hears, retries nothing, keeps no order of addresses and does not
notice when one goes.
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
from pyroute2.netlink.exceptions import NetlinkError
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


async def addresses(resolver, name, rdtype):
    with contextlib.suppress(dns.exception.DNSException):
        return [record.address for record in await resolver.resolve(name, rdtype, search=False)]
    return []


async def link_to(route, target):
    with contextlib.suppress(NetlinkError):  # no route to there
        return [message.get("RTA_OIF") for message in await route.route("get", dst=target)]
    return []


async def handle(address, resolver, route, interface):
    await asyncio.gather(*(link_to(route, target) for target in ("198.41.0.4", "2001::")))
    labels = address.split(".")[::-1]
    names = [".".join(labels[level:]) + ".in-addr.arpa." for level in range(3)]
    found = await asyncio.gather(*(mx(resolver, name) for name in names))
    relay = next((one for one in found if one), "")
    known = relay and await asyncio.gather(*(addresses(resolver, relay, rdtype) for rdtype in ("A", "AAAA")))
    if relay and any(known) and relay != interface.relay:
        interface.relay = relay
        interface.emit_properties_changed({"Relay": relay})


async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    interface = Interface()
    bus.export("/bench/Naive", interface)
    resolver = dns.asyncresolver.Resolver()
    tasks = set()
    async with AsyncIPRoute() as route, AsyncIPRoute() as requests:
        await route.bind(RTMGRP_IPV4_IFADDR)
        await requests.setup_endpoint()  # two first requests at once would both do it, which Python 3.13 refuses
        await bus.request_name("bench.Naive")
        while True:
            async for message in route.get():
                if message["event"] == "RTM_NEWADDR":
                    task = asyncio.ensure_future(handle(message.get("IFA_LOCAL"), resolver, requests, interface))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)


asyncio.run(main())
