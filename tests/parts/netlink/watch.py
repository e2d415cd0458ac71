"""A running netlink driver and what it emitted; and messages as the kernel would send them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from salsa_agent.core.model import HostAddress, Link, NetworkFacts, RouteChoice
from salsa_agent.netlink.messages import MESSAGE_CLASSES
from salsa_agent.netlink.monitor import Netlink

PATIENCE = 30.0
TENTATIVE = 0x40
DEPRECATED = 0x20
NOPREFIXROUTE = 0x200

Predicate = Callable[[NetworkFacts], bool]


class Watch:
    """A running driver, and the snapshots that it emitted."""

    def __init__(self, **options: Any) -> None:
        self.told: list[NetworkFacts] = []
        self.news = asyncio.Event()
        self.netlink = Netlink(self.on_facts, **options)

    def on_facts(self, facts: NetworkFacts) -> None:
        self.told.append(facts)
        self.news.set()

    @property
    def now(self) -> NetworkFacts:
        return self.told[-1]

    async def until(self, predicate: Predicate) -> NetworkFacts:
        """Wait until the last snapshot is so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (self.told and predicate(self.now)):
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pytest.fail(f"it never came; the last snapshot: {self.told[-1:]}")
        return self.now

    def link(self, name: str) -> Link:
        return next(link for link in self.now.links if link.name == name)

    def address(self, text: str) -> HostAddress:
        return next(host for host in self.now.addresses if host.ip == ip_address(text))


@asynccontextmanager
async def watching(**options: Any) -> AsyncIterator[Watch]:
    watch = Watch(**options)
    task = asyncio.create_task(watch.netlink.run())
    try:
        await watch.until(lambda facts: True)
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def texts(facts: NetworkFacts) -> set[str]:
    """The addresses but those of `lo` and link-local ones."""
    return {str(host.ip) for host in facts.addresses if not (host.ip.is_loopback or host.ip.is_link_local)}


def has(*wanted: str) -> Predicate:
    return lambda facts: texts(facts) == set(wanted)


def choice_of(facts: NetworkFacts, family: int) -> RouteChoice | None:
    return next((choice for choice in facts.choices if choice.family == family), None)


def parsed(octets: bytes) -> Any:
    """One message as the library reads it."""
    marshal = MarshalRtnl()
    marshal.msg_map.update(MESSAGE_CLASSES)
    (one,) = marshal.parse(octets)
    return one


def encoded(codec: Any, kind: int, *attributes: tuple[str, object], **fields: int) -> bytes:
    """A message as the kernel would send it."""
    one = codec()
    one["header"]["type"], one["header"]["flags"] = kind, 0
    one.update(fields)
    one["attrs"] = list(attributes)
    one.encode()
    return bytes(one.data)


def message(codec: Any, kind: int, *attributes: tuple[str, object], **fields: int) -> Any:
    """The same, as the library reads it."""
    return parsed(encoded(codec, kind, *attributes, **fields))


def with_attribute(octets: bytes, kind: int, value: bytes) -> bytes:
    """The message with one more attribute, well formed or not."""
    longer = octets + struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return struct.pack("=I", len(longer)) + longer[4:]


def link_message(kind: int, name: bytes = b"up0", **fields: int) -> Any:
    return parsed(with_attribute(encoded(ifinfmsg, kind, **fields), 3, name + b"\0"))
