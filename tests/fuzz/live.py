"""Targets that need something real on the other side: a bus that sends what it likes, a kernel's netlink socket."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest import mock

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from salsa_agent.bus import message as wire
from salsa_agent.bus.interface import INTERFACE, PATH, PROPERTIES
from salsa_agent.bus.name_owner import BusError, NameOwner, connect
from salsa_agent.bus.service import Service
from salsa_agent.core.model import NetworkFacts
from salsa_agent.netlink import messages as parse
from salsa_agent.netlink.kernel_socket import EventSocket, _headers, _KernelSocket
from salsa_agent.netlink.monitor import Netlink
from salsa_agent.netlink.state import KernelState
from tests.fuzz.targets import fuzzed, in_loop
from tests.lab.busagent import READY, VERSION, Fake, realtime_us
from tests.lab.messages import frame
from tests.lab.netns import Netns

PATIENCE = 20.0

# --- the bus


def _call(member: str, signature: str = "", *args: Any, interface: str = INTERFACE, path: str = PATH) -> bytes:
    """A call as the bus passes it on: with its sender, where the client had put a destination."""
    body = wire.encode(signature, list(args)) if signature else b""
    octets = frame(
        wire.CALL, 7, path=path, interface=interface, member=member, destination=":1.7", signature=signature, body=body
    )
    return octets.replace(b"\x06\x01s\x00", b"\x07\x01s\x00")


CALLS = (
    _call("Get", "ss", INTERFACE, "Relays", interface=PROPERTIES),
    _call("GetAll", "s", INTERFACE, interface=PROPERTIES),
    _call("Introspect", interface="org.freedesktop.DBus.Introspectable", path="/"),
    _call("Refresh"),
    _call("Explain"),
    _call("Lookup", "s", "192.0.2.1"),
    _call("ReportFailure", "sqs", "noc.tor.hookup.net", 25, "554"),
    _call("SetLinkRelays", "ias", 2, ["a.example"]),
    frame(wire.SIGNAL, 9, path="/o", interface="a.b", member="C", signature="v", body=b"\1s\0\0\1\0\0\0x\0"),
    frame(wire.ERROR, 9, error_name="a.b", reply_serial=1, signature="s", body=wire.encode("s", ["no"])),
)


@fuzzed(*CALLS, CALLS[0] + CALLS[5] + CALLS[8])
def dbus_messages(data: bytes) -> None:
    """What comes from the bus once it has let the agent in."""
    in_loop(_on_a_bus(data))


async def _on_a_bus(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="salsa-fuzz-") as directory:
        said: list[bytes] = []
        go, peers = asyncio.Event(), set[asyncio.Task[None]]()
        if len(data) % 2:  # it comes in one piece with the answer to Hello
            go.set()
        server = await asyncio.start_unix_server(
            functools.partial(_bus, data, said, go, peers), path=f"{directory}/bus"
        )
        try:
            with contextlib.suppress(BusError):
                await _serve(await connect(f"unix:path={directory}/bus"), go)
            await asyncio.gather(*peers)
        finally:
            server.close()
            await server.wait_closed()
    _judge(b"".join(said))


async def _serve(connection: NameOwner, go: asyncio.Event) -> None:
    """The agent's side, until the bus hangs up."""
    service = Service(version=VERSION, requests=Fake(), realtime_us=realtime_us)
    try:
        await connection.export(service)
        service.publish(READY)
        go.set()
        await asyncio.wait_for(connection.lost(), PATIENCE / 2)
    finally:
        await connection.close()


async def _bus(
    data: bytes,
    said: list[bytes],
    go: asyncio.Event,
    peers: set[asyncio.Task[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Let one of the agent's two connections in, send `data`, take what it answers, and hang up."""
    task = asyncio.current_task()
    assert task is not None
    peers.add(task)
    try:
        await reader.readuntil(b"\r\n")
        writer.write(b"OK 0123456789abcdef0123456789abcdef\r\n")
        await reader.readuntil(b"BEGIN\r\n")
        hello = await _message(reader)
        writer.write(
            frame(
                wire.RETURN, 1, reply_serial=wire.parse(hello[: wire.sizes(hello)[0]]).serial, signature="s",
                body=wire.encode("s", [":1.1"]),
            )
        )  # fmt: skip
        await go.wait()
        writer.write(data)
        writer.write_eof()
        while got := await reader.read(1 << 16):
            said.append(got)
    except (OSError, EOFError):
        pass
    finally:
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    start = await reader.readexactly(wire.FIXED)
    header, body = wire.sizes(start)
    return start + await reader.readexactly(header + body - wire.FIXED)


def _judge(octets: bytes) -> None:
    """What the agent says must be messages, whole but for the last, with nothing in them that was not asked for."""
    while len(octets) >= wire.FIXED:
        header, body = wire.sizes(octets)
        if len(octets) < header + body:
            return
        head = wire.parse(octets[:header])
        assert head.kind in (wire.CALL, wire.RETURN, wire.ERROR, wire.SIGNAL)
        values = wire.decode(head.signature, octets[header : header + body], little=True) if head.signature else []
        if head.kind == wire.ERROR:
            assert str(values[0]).isprintable(), values
        octets = octets[header + body :]


# --- the kernel


def _netlink(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _attributes(*attributes: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("=HH", 4 + len(v), k) + v + bytes(-len(v) % 4) for k, v in attributes)


EVENTS = (
    _netlink(20, struct.pack("=BBBBI", 2, 24, 0x80, 0, 1) + _attributes((2, b"\xc6\x33\x64\x07"), (3, b"eth0\0"))),
    _netlink(21, struct.pack("=BBBBI", 10, 64, 0x80, 0, 1) + _attributes((1, bytes(16)), (6, bytes(16)))),
    _netlink(16, struct.pack("=BxHiII", 0, 1, 9, 0x11043, 0) + _attributes((3, b"up9\0"), (4, b"\xdc\5\0\0"))),
    _netlink(24, struct.pack("=8BI", 2, 0, 0, 0, 254, 2, 0, 1, 0) + _attributes((4, b"\1\0\0\0"), (5, b"\1\2\3\4"))),
    _netlink(
        24,
        struct.pack("=8BI", 10, 0, 0, 0, 254, 2, 0, 1, 0)
        + _attributes(
            (9, struct.pack("=HBBi", 28, 0, 0, 2) + _attributes((5, bytes(16)))),
            (15, b"\0\1\0\0"),
            (18, b"\2\0\1\2\3\4"),
        ),
    ),
    _netlink(32, struct.pack("=8BI", 2, 0, 0, 0, 254, 0, 0, 1, 0)),
    _netlink(2, struct.pack("=i", -105) + bytes(16)),
    _netlink(3, bytes(4)),
)
MALFORMED = (
    _netlink(20, b""),
    _netlink(16, struct.pack("=BxHiII", 0, 1, 9, 0x11043, 0) + struct.pack("=HH", 0, 3)),
    _netlink(16, struct.pack("=BxHiII", 0, 1, 9, 0x11043, 0) + struct.pack("=HH", 40, 3) + b"up9\0"),
    _netlink(16, struct.pack("=BxHiII", 0, 1, 9, 0x11043, 0) + _attributes((3, b"\xff\x1b[1m\n\0"))),
    _netlink(20, struct.pack("=BBBBI", 2, 24, 0x80, 0, 1) + _attributes((2, b"\1\2\3"), (8, b"\1"))),
    _netlink(24, struct.pack("=8BI", 2, 0, 0, 0, 254, 2, 0, 1, 0) + _attributes((4, b"\1"), (9, b"\1\0"))),
    _netlink(24, b"\2\0"),
    _netlink(32, b""),
    _netlink(3, struct.pack("=i", -(2**31))),
    EVENTS[0][:-5],
)
OWN = {*ip_network("10.0.0.0/24"), ip_address("127.0.0.1"), ip_address("::1")}  # the addresses that there really are


class Kernel:
    """A namespace whose kernel the agent's driver listens to, and a socket in it that may speak to the driver, too."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.host = self._stack.enter_context(Netns())
        self.host.ip("link", "add", "up0", "type", "bridge")
        with self.host.inside():
            self.sock = self._stack.enter_context(
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            )
            self.sock.bind((0, 0))
        self.number = 0

    def close(self) -> None:
        self._stack.close()

    def ports(self) -> Iterator[int]:
        """Of this process's other netlink sockets."""
        with self.host.inside():
            table = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
        own = self.sock.getsockname()[0]
        inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)}
        for row in table:
            words = row.split()
            if words[1] == "0" and int(words[2]) not in (0, own) and f"socket:[{words[9]}]" in inodes:
                yield int(words[2])

    def knock(self, data: bytes) -> None:
        """Send this to each of the driver's sockets, which takes it for a stranger's."""
        for port in self.ports():
            with contextlib.suppress(OSError):
                self.sock.sendto(data, (port, 0))


def _is_link(fd: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


_kernel: list[Kernel] = []


@fuzzed(*EVENTS, *MALFORMED, b"".join(EVENTS))
def netlink_messages(data: bytes) -> None:
    """A datagram of the kernel: what is malformed is an error that is known, whatever reads it."""
    marshal, state = MarshalRtnl(), KernelState()
    marshal.msg_map.update(parse.MESSAGE_CLASSES)
    list(_headers(data))
    found: list[Any] = []
    with contextlib.suppress(*parse.UNREADABLE):
        found += marshal.parse(data)
    for message in found:
        for read in (state.apply, parse.link, parse.address, parse.default_route, parse.nexthop, parse.choice):
            with contextlib.suppress(*parse.UNREADABLE):
                read(message)
    facts = state.facts(frozenset())
    assert all(link.name.isprintable() for link in facts.links)
    assert all(isinstance(address.number, int) for address in facts.addresses)


@fuzzed(*EVENTS, *MALFORMED, b"".join(EVENTS))
def netlink_kernel(data: bytes) -> None:
    """A datagram of the kernel, among its events and in front of each answer; afterwards the driver knows the truth."""
    in_loop(_lied_to(_the_kernel(), data))


@fuzzed(*EVENTS)
def netlink_strangers(data: bytes) -> None:
    """A datagram that no kernel sent, on each of the driver's sockets; the kernel's next change is still told."""
    in_loop(_on_netlink(_the_kernel(), data))


def _the_kernel() -> Kernel:
    if not _kernel:
        _kernel.append(Kernel())
    return _kernel[0]


class Liar:
    """Puts `data` in front of what the kernel says: once as an event, once for each question.

    A real socket takes no datagram for the kernel's but the kernel's own, which are never malformed. So it is put in
    where pyroute2 hands over what a socket received.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        # the sockets are kept, or a later one could be taken for one of these
        self._answered: set[tuple[_KernelSocket, bytes]] = set()
        self.event = False  # to come
        self.answers = 0  # to come
        self.asked = 0
        self._enqueue = _KernelSocket.enqueue

    def enqueue(self, sock: _KernelSocket, data: bytes, addr: tuple[int, int] | None) -> None:
        lie = None
        if isinstance(sock, EventSocket):
            if self.event:
                self.event, lie = False, self._data
        elif addr is not None and (answer := (sock, data[8:12])) not in self._answered:
            self._answered.add(answer)
            self.asked += 1
            if self.answers:
                self.answers, lie = self.answers - 1, _numbered(self._data, data[8:12])
        if lie is not None:
            self._enqueue(sock, lie, (0, 0))
        self._enqueue(sock, data, addr)


QUESTIONS = 6  # links, addresses, routes and the choice in each family


def _numbered(data: bytes, sequence: bytes) -> bytes:
    """The same, but each message is the answer to this question."""
    numbered, start = bytearray(data), 0
    while start + 16 <= len(data):
        numbered[start + 8 : start + 12] = sequence
        start += max(16, struct.unpack_from("=I", data, start)[0] + 3 & ~3)
    return bytes(numbered)


async def _lied_to(kernel: Kernel, data: bytes) -> None:
    told: list[NetworkFacts] = []
    liar = Liar(data)
    with kernel.host.inside(), ExitStack() as patched:
        patched.enter_context(
            mock.patch.object(_KernelSocket, "enqueue", lambda sock, data, addr: liar.enqueue(sock, data, addr))
        )
        for name, value in (
            ("monitor.FIRST_PAUSE", 0.0),  # they are for a kernel that does not get better
            ("monitor.LONGEST_PAUSE", 0.0),
            ("queries.ANSWER_WITHIN", 1.0),
        ):
            patched.enter_context(mock.patch(f"salsa_agent.netlink.{name}", value))
        netlink = Netlink(told.append)
        driver = asyncio.create_task(netlink.run())
        try:
            await _until(lambda: bool(told), driver)
            liar.event = True
            kernel.knock(bytes(16))  # so that it looks at its events; the filter passes over anything shorter
            await _until(lambda: not liar.event, driver)
            liar.answers = QUESTIONS
            netlink.reread()
            await _until(lambda: not liar.answers, driver)
            asked = liar.asked
            # one that comes while the last is still being answered is carried out with it, and asks less
            await _until(lambda: liar.asked >= asked + QUESTIONS and told[-1] == told[0], driver, netlink.reread)
        finally:
            driver.cancel()
            await asyncio.wait([driver])
    for facts in told:
        assert all(link.name.isprintable() for link in facts.links)
    if not driver.cancelled() and (error := driver.exception()):
        raise error


def close_kernel() -> None:
    """Remove the namespace."""
    while _kernel:
        _kernel.pop().close()


async def _on_netlink(kernel: Kernel, data: bytes) -> None:
    told: list[NetworkFacts] = []
    kernel.number = kernel.number % 250 + 1
    address = f"10.0.0.{kernel.number}"
    with kernel.host.inside():
        driver = asyncio.create_task(Netlink(told.append).run())
        try:
            await _until(lambda: bool(told), driver)
            kernel.knock(data or b"\0")
            kernel.host.ip("addr", "replace", f"{address}/32", "dev", "up0")
            await _until(lambda: any(str(one.ip) == address for one in told[-1].addresses), driver)
            lies = {one.ip for facts in told for one in facts.addresses} - OWN
            assert not lies, lies
        finally:
            driver.cancel()
            await asyncio.wait([driver])
            kernel.host.ip("addr", "flush", "dev", "up0")
    if not driver.cancelled() and (error := driver.exception()):
        raise error


async def _until(
    ready: Callable[[], bool], driver: asyncio.Task[None], again: Callable[[], None] = lambda: None
) -> None:
    """Wait for it; `again` is called at once, and then each second."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.timeout(PATIENCE):
        while not ready():
            assert not driver.done(), driver
            if loop.time() >= due:
                due = loop.time() + 1.0
                again()
            await asyncio.sleep(0.005)
