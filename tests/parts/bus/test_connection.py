"""What the library alone would not survive: full sockets, floods, damaged and oversized messages, dead buses."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import logging
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import (
    InvalidAddressError,
    Message,
    MessageFlag,
    MessageType,
    SignatureTree,
    parse_address,
)
from salsa_agent.bus.codec import Value
from salsa_agent.bus.connection import BusConnection, BusGone
from salsa_agent.bus.interface import INTERFACE, INTROSPECTABLE, NAME, PATH, PEER, PROPERTIES
from salsa_agent.bus.name_owner import BusError, open_bus
from salsa_agent.bus.outbox import HIGH
from salsa_agent.bus.router import MAX_BODY, Router
from salsa_agent.core.model import Best, ListedRelay, Source, State, Verdict
from tests.lab.bus import KINDS, NOBODY, PATIENCE, ROOT, STRANGERS, Bus, RawClient, system_bus
from tests.lab.busagent import NOC, READY, follow, serving
from tests.lab.messages import frame

ERROR = "org.freedesktop.DBus.Error."


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus() as running:
        yield running


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test here may leave a traceback in the log, or anything at all in the root logger's own name."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert record.exc_info is None, record.getMessage()
        assert "Traceback" not in record.getMessage()
        assert record.name != "root", record.getMessage()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


# --- what the guards expect of the library


def test_the_library_is_the_version_whose_private_names_are_known() -> None:
    assert importlib.metadata.version("dbus-next") == "0.2.3"


def test_the_private_name_of_the_library_does_what_the_guards_lean_on() -> None:
    assert parse_address("unix:path=/a%20b,guid=1;;tcp:host=x,port=1") == [
        ("unix", {"path": "/a b", "guid": "1"}),
        ("tcp", {"host": "x", "port": "1"}),
    ]
    for useless in ("", ";", "nonsense", "unix:path", "unix:path=/a b"):
        with pytest.raises(InvalidAddressError):
            parse_address(useless)


def test_the_library_is_imported_without_a_warning_and_without_touching_typing() -> None:
    """Python 3.13 warns of a name of `typing` that dbus-next takes."""
    code = (
        "import typing; before = dict(vars(typing)); import salsa_agent.bus._dbus_next; assert before == vars(typing)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- full sockets


async def test_many_signals_in_one_turn_arrive_complete_and_in_order(bus: Bus) -> None:
    """5000 in a row ended the library's connection every time: it took a full socket for an error."""
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await follow(client)
            connection = agent.connection._bus
            assert connection is not None
            for number in range(3000):
                connection.emit(PATH, "org.example.Test", "Count", "us", wire.encode("us", [number, "x" * 500]))
            for number in range(3000):
                assert (await client.signal("Count"))[1][0] == number


async def test_a_stopped_bus_costs_no_memory_and_hears_the_last_state_when_it_is_back(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await follow(client)
            bus.stop()
            many = tuple(ListedRelay(NOC._replace(preference=n), Verdict.OK) for n in range(40))
            most = 0
            for number in range(3000):
                agent.publish(
                    replace(READY, best=Best("a.example", 1 + number, Source.DNS), relays=many[number % 40 :])
                )
                most = max(most, agent.waiting)
                await asyncio.sleep(0)
            assert 0 < most < HIGH
            last = Best("last.example.net", 2525, Source.DNS)
            agent.publish(replace(READY, best=last))
            bus.resume()
            async with asyncio.timeout(PATIENCE):
                while True:
                    _, [host, port, source] = await client.signal("BestRelayChanged")
                    if host == last.host:
                        break
            assert (port, source) == (last.port, last.source)
            assert await agent.get(client, "BestRelay") == last.host


@pytest.mark.parametrize("kind", KINDS)
async def test_40_clients_with_128_unread_calls_each_neither_end_nor_silence_the_agent(kind: str) -> None:
    with system_bus(kind) as bus, ExitStack() as stack:
        async with serving(bus) as agent:
            follower = stack.enter_context(await RawClient.open(bus.address))
            await follow(follower)
            users = (NOBODY, *STRANGERS)
            hogs = [
                stack.enter_context(await RawClient.open(bus.address, uid=users[number % 4])) for number in range(40)
            ]
            calls: list[tuple[Any, ...]] = [
                (PATH, INTROSPECTABLE, "Introspect"),
                (PATH, PROPERTIES, "GetAll", "s", INTERFACE),
                (PATH, INTERFACE, "Explain"),
                (PATH, INTERFACE, "Lookup", "s", "192.0.2.1"),
            ]
            most = 0
            for hog in hogs:
                await hog.send(b"".join(hog.frame(*calls[n % 4], destination=NAME) for n in range(128)))
                most = max(most, agent.waiting)
            agent.publish(replace(READY, state=State.DEGRADED, best=Best("new.example.net", 25, Source.DNS)))
            assert (await follower.signal("BestRelayChanged"))[1] == ["new.example.net", 25, "dns"]
            assert await agent.get(follower, "State") == "degraded"
            assert most < 2 * HIGH
            honest = stack.enter_context(await RawClient.open(bus.address))
            assert await agent.get(honest, "BestRelay") == "new.example.net"


async def test_messages_leave_turns_of_the_loop_to_others(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            turns = 0
            running = True

            def tick() -> None:
                nonlocal turns
                turns += 1
                if running:
                    asyncio.get_running_loop().call_soon(tick)

            octets = b"".join(client.frame(PATH, INTERFACE, "Explain", destination=NAME) for _ in range(120))
            agent.service._explanation = lambda: spin(0.002)  # type: ignore[method-assign]
            await client.send(octets)
            tick()
            await client.reply(client._serial)
            running = False
            assert turns >= 100  # each call took a turn's time


def spin(seconds: float) -> bytes:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        pass
    return wire.encode("a{sv}", [{}])


async def test_nothing_is_read_while_replies_cannot_be_written(bus: Bus) -> None:
    async with serving(bus) as agent:
        connection = agent.connection._bus
        assert connection is not None
        with await RawClient.open(bus.address) as client:
            real = connection._outbox._sock
            assert real is not None
            connection._outbox._sock = Stuck(real)  # type: ignore[assignment]
            agent.service._explanation = lambda: wire.encode("a{sv}", [{"x": Value("s", "x" * 300000)}])  # type: ignore[method-assign]
            octets = b"".join(client.frame(PATH, INTERFACE, "Explain", destination=NAME) for _ in range(100))
            await client.send(octets)
            async with asyncio.timeout(PATIENCE):
                while not connection._held:
                    await asyncio.sleep(0.005)
            assert HIGH < agent.waiting < HIGH + 400000
            assert not connection._reading
            connection._outbox._sock = real
            await client.reply(client._serial)


class Stuck:
    """A socket that is full."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, octets: bytes) -> int:
        raise BlockingIOError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


# --- large messages


@pytest.mark.parametrize(
    ("member", "error"), [("Nonsense", "UnknownMethod"), ("Refresh", "InvalidArgs"), ("SetLinkRelays", "InvalidArgs")]
)
async def test_a_large_message_is_refused_without_being_kept_or_taken_apart(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, member: str, error: str
) -> None:
    async with serving(bus) as agent:
        connection = agent.connection._bus
        assert connection is not None
        kept = taken = 0
        process, decode = connection._process, wire.decode

        def watched_process() -> None:
            nonlocal kept
            kept = max(kept, len(connection._parser))
            process()

        def watched_decode(signature: str, octets: bytes, *, little: bool) -> list[Any]:
            nonlocal taken
            taken = max(taken, len(octets))
            return decode(signature, octets, little=little)

        monkeypatch.setattr(connection, "_process", watched_process)
        monkeypatch.setattr(wire, "decode", watched_decode)
        with await RawClient.open(bus.address) as client:
            body = wire.encode("s", ["x" * 7_600_000])
            signature, body = ("s", body) if member != "SetLinkRelays" else ("ias", large_relays(1 << 19))
            serial = await client.send(client.frame(PATH, INTERFACE, member, signature, destination=NAME, body=body))
            head, text = await client.reply(serial)
            assert head.error_name == ERROR + error, text
            assert await agent.get(client, "State") == "ready"
        assert taken < 1 << 16
        assert kept < 1 << 18


def large_relays(count: int) -> bytes:
    """The body of a `SetLinkRelays` with very many relays."""
    each = struct.pack("<I", 1) + b"x\0"
    array = (each + b"\0\0") * (count - 1) + each
    return struct.pack("<iI", 2, len(array)) + array


async def test_an_endless_path_is_left_out(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await client.call("/" + "a/" * (1 << 20) + "a", INTERFACE, "Refresh", destination=NAME)
            assert await agent.get(client, "State") == "ready"
            head, _ = await client.ask("/" + "a/" * 10000 + "a", INTERFACE, "Refresh", destination=NAME)
            assert head.error_name == f"{ERROR}UnknownObject"


async def test_signals_from_anybody_but_the_bus_are_not_even_taken_apart(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(bus) as agent:
        seen: list[str] = []
        deliver = Router._deliver

        def watched(router: Router, message: Message) -> None:
            seen.append(message.member)
            deliver(router, message)

        monkeypatch.setattr(Router, "_deliver", watched)
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            for _ in range(3):
                await client.call(
                    "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost", "s", NAME, destination=NAME,
                    kind=wire.SIGNAL,
                )  # fmt: skip
            assert await agent.get(client, "State") == "ready"
        assert seen == []
        assert not agent.connection._lost.done()


# --- damaged messages, from a bus that lets everything through


class FakeBus:
    """A server that authenticates, says Hello, and then sends whatever it is told to. Real ones filter."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter
        self.reader: asyncio.StreamReader
        self.address = ""

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def next(self) -> tuple[wire.Header, bytes]:
        async with asyncio.timeout(PATIENCE):
            start = await self.reader.readexactly(16)
            header, body = wire.sizes(start)
            rest = await self.reader.readexactly(header - 16 + body)
        return wire.parse(start + rest[: header - 16]), rest[header - 16 :]

    def frame(self, **fields: Any) -> bytes:
        """A call to the agent."""
        fields = {"path": PATH, "interface": PEER, "member": "Ping"} | fields
        return frame(fields.pop("kind", wire.CALL), 77, **fields)


@asynccontextmanager
async def fake_bus(tmp_path: Any) -> AsyncIterator[tuple[FakeBus, BusConnection]]:
    fake = FakeBus()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.reader, fake.writer = reader, writer
        await reader.readuntil(b"\r\n")
        writer.write(b"OK 0123\r\n")
        await reader.readuntil(b"BEGIN\r\n")
        hello, _ = await fake.next()
        await fake.send(
            frame(wire.RETURN, 1, reply_serial=hello.serial, signature="s", body=wire.encode("s", [":1.1"]))
        )
        await ended.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "bus")
    async with server:
        bus = await open_bus(f"unix:path={tmp_path}/bus")
        try:
            yield fake, bus
        finally:
            bus.disconnect()
            ended.set()
            await asyncio.sleep(0)
            fake.writer.close()
            await fake.writer.wait_closed()


def unknown_field(serial: int, signature: str = "u", flags: int = 1) -> bytes:
    """A call with a header field of code 200 before the others."""
    octets = bytearray(frame(wire.CALL, serial, flags=flags, path=PATH, interface=PEER, member="Ping"))
    lead = b"\xc8" + bytes((len(signature),)) + signature.encode() + b"\0"
    lead += bytes(-len(lead) % 4) + struct.pack("<I", 0)
    lead += bytes(-len(lead) % 8)
    struct.pack_into("<I", octets, 12, struct.unpack_from("<I", octets, 12)[0] + len(lead))
    return bytes(octets[:16] + lead + octets[16:])


DAMAGED = {
    "unknown header field": unknown_field(5),
    "unknown header field of an array": unknown_field(5, "as"),
    "unknown type": frame(9, 5, path=PATH, interface=PEER, member="Ping"),
    "type 0": frame(0, 5, path=PATH),
    "unknown flags": frame(wire.SIGNAL, 5, flags=0xF8, path=PATH, interface=PEER, member="Ping"),
    "signal without member": frame(wire.SIGNAL, 5, path=PATH, interface=PEER),
    "reply to nothing": frame(wire.RETURN, 5, reply_serial=4711),
    "error without name": frame(wire.ERROR, 5, reply_serial=4711),
    "error with a bad name": frame(wire.ERROR, 5, error_name="...", reply_serial=4711),
    "signal with no such path": frame(wire.SIGNAL, 5, path="/onsense", interface=PEER, member="Ping").replace(
        b"/onsense", b"nonsense"
    ),
    "body shorter than its signature": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="su", body=b"\x05\0\0\0"
    ),
    "string that is longer than the body": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="s", body=b"\xff\xff\xff\x7fabc\0"
    ),
    "string that has nearly all octets there can be": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="as",
        body=struct.pack("<II4sI", 64, 3, b"abc", 2**32 - 13) + bytes(52),
    ),
    "string that is no UTF-8": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="s", body=b"\2\0\0\0\xff\xff\0"
    ),
    "bad signature": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="as", body=b"1234"
    ).replace(b"as\0", b"a(\0"),
    "variant with a bad signature": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="v", body=b"\1Z\0\0"
    ),
    "a dictionary with arrays for keys": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="a{asv}",
        body=struct.pack("<II", 8, 0) + bytes(16),
    ),
    "deep": frame(
        wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="v", body=b"\1v\0" * 20000 + b"\1y\0\0"
    ),
    "header that is cut": b"l\4\0\1\0\0\0\0\5\0\0\0\6\0\0\0\1\1o\0\x99\0\0\0",
    "header field of the wrong type": b"l\4\0\1\0\0\0\0\5\0\0\0\x08\0\0\0\1\1u\0\x99\0\0\0",
    "header field without end": b"l\4\0\1\0\0\0\0\5\0\0\0\x07\0\0\0\3\xffs\0\x99\0\0\0",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
async def test_a_damaged_message_is_the_end_of_itself_alone(tmp_path: Any, what: str) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        bus.router.serve = lambda call, _: bus.reply(call, "s", wire.encode("s", [call.member]))
        await fake.send(DAMAGED[what] + fake.frame(member="After"))
        _, body = await fake.next()
        if body == wire.encode("s", ["Ping"]):  # it asked for a reply itself
            _, body = await fake.next()
        assert body == wire.encode("s", ["After"])
        assert not bus.end


@pytest.mark.parametrize("signature", ["u", "as", "at"])
async def test_a_header_field_that_is_new_is_ignored_and_the_call_answered(tmp_path: Any, signature: str) -> None:
    """D-Bus Specification, "Header Fields": implementations must ignore what they do not know."""
    async with fake_bus(tmp_path) as (fake, bus):
        bus.router.serve = lambda call, _: bus.reply(call, "s", wire.encode("s", [call.path + call.member]))
        await fake.send(unknown_field(5, signature, flags=0))
        head, body = await fake.next()
        assert (head.reply_serial, body) == (5, wire.encode("s", [f"{PATH}Ping"]))


def known_signatures() -> int:
    """How many the library keeps: dbus-next's cache has no bound."""
    return len(SignatureTree._cache)


async def test_signatures_of_strangers_do_not_pile_up(tmp_path: Any) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        heard: list[str] = []
        bus.router.add_message_handler(lambda message: heard.append(message.signature))
        before = known_signatures()
        for number in range(1500):
            signature = "".join("ybnqiuxt"[int(digit)] for digit in f"{number:o}")
            signal = frame(wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature=signature, body=bytes(64))
            await fake.send(signal + unknown_field(5, f"a({signature})"))
        await fake.send(fake.frame(member="After"))
        while (await fake.next())[0].kind != wire.ERROR:
            pass
        assert len(set(heard)) == 1500
        assert known_signatures() == before


async def test_messages_come_in_any_portions_and_byte_orders(tmp_path: Any) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        heard: list[Any] = []
        bus.router.add_message_handler(lambda message: heard.append(message.body))
        body = wire.encode("us", [258, "ab"])
        little = frame(wire.SIGNAL, 5, path=PATH, interface=PEER, member="X", signature="us", body=body)
        big = b"B\4\0\1\0\0\0\x0b\0\0\0\5" + b"\0\0\0\x3f" + (
            b"\1\1o\0\0\0\0\2/x\0\0\0\0\0\0"
            b"\2\1s\0\0\0\0\3a.b\0\0\0\0\0"
            b"\3\1s\0\0\0\0\1X\0\0\0\0\0\0\0"
            b"\x08\1g\0\2us\0"
        )  # fmt: skip
        big = big[:12] + struct.pack(">I", len(big) - 16) + big[16:] + bytes(-len(big) % 8)
        big += b"\0\0\1\2\0\0\0\2ab\0"
        for octet in little + big:
            await fake.send(bytes((octet,)))
            await asyncio.sleep(0)
        await fake.send(fake.frame())
        await fake.next()
        assert heard == [[258, "ab"], [258, "ab"]]


@pytest.mark.parametrize(
    "octets", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"l\1\0\7" + bytes(12), b"l\1\0\1" + b"\xff" * 12]
)
async def test_what_is_no_dbus_ends_the_connection_with_one_line(tmp_path: Any, octets: bytes) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        ended: list[str] = []
        bus.on_end = ended.append
        await fake.send(octets)
        async with asyncio.timeout(PATIENCE):
            while not bus.end:
                await asyncio.sleep(0.005)
        assert len(ended) == 1
        assert ended[0].startswith("the bus sent")


async def test_a_handler_that_raises_is_logged_and_no_more(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        heard: list[str] = []

        def raising(message: Message) -> None:
            raise ZeroDivisionError("secret")

        bus.router.add_message_handler(raising)
        bus.router.add_message_handler(lambda message: heard.append(message.member))
        bus.router.serve = lambda call, body: raising(call)
        await fake.send(frame(wire.SIGNAL, 5, path=PATH, interface=PEER, member="One") + fake.frame())
        await fake.send(frame(wire.SIGNAL, 5, path=PATH, interface=PEER, member="Two"))
        async with asyncio.timeout(PATIENCE):
            while heard != ["One", "Two"]:
                await asyncio.sleep(0.005)
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 3
        assert all("ZeroDivisionError at " in error and "secret" not in error for error in errors)


async def test_a_reply_that_is_too_large_is_an_error_to_the_call_that_waits(tmp_path: Any) -> None:
    async with fake_bus(tmp_path) as (fake, bus):
        call = asyncio.ensure_future(bus.call(message("ListNames")))
        head, _ = await fake.next()
        await fake.send(frame(wire.RETURN, 9, reply_serial=head.serial, signature="ay", body=bytes(MAX_BODY + 1)))
        async with asyncio.timeout(PATIENCE):
            reply = await call
        assert reply is not None
        assert reply.error_name == f"{ERROR}LimitsExceeded"


@pytest.mark.parametrize("code", [2, 3, 4, 6, 7])
async def test_a_header_with_an_endless_name_is_left_out(tmp_path: Any, code: int) -> None:
    """Names have at most 255 octets (D-Bus Specification, "Valid Names"); a call that waits would keep the rest."""
    octets = bytearray(frame(wire.CALL, 5, path=PATH, interface=PEER, member="Ping"))
    octets += bytes((code, 1, ord("s"), 0)) + struct.pack("<I", 5000) + b"a" * 5000 + b"\0"
    struct.pack_into("<I", octets, 12, len(octets) - 16)
    octets += bytes(-len(octets) % 8)
    async with fake_bus(tmp_path) as (fake, bus):
        served: list[str] = []
        bus.router.serve = lambda call, _: served.append(call.member)
        await fake.send(bytes(octets) + fake.frame(member="After"))
        async with asyncio.timeout(PATIENCE):
            while not served:
                await asyncio.sleep(0.005)
        assert served == ["After"]


async def test_a_client_s_connection_has_no_objects(bus: Bus) -> None:
    client = await open_bus(bus.address)
    try:
        with await RawClient.open(bus.address) as raw:
            await raw.send(raw.frame(PATH, PEER, "Nonsense", destination=client.unique_name))
            head, _ = await raw.reply(raw._serial)
            assert head.error_name in (f"{ERROR}UnknownObject", f"{ERROR}AccessDenied")
    finally:
        client.disconnect()


# --- descriptors and dead buses


def message(member: str, signature: str = "", *body: Any, **fields: Any) -> Message:
    return Message(
        destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus",
        member=member, signature=signature, body=list(body), **fields,
    )  # fmt: skip


async def test_connecting_and_disconnecting_leaves_no_descriptor(bus: Bus) -> None:
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            connection = await open_bus(bus.address)
            connection.disconnect()
            connection.disconnect()
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("answer", [None, b"", b"REJECTED EXTERNAL\r\n", b"\xff\xfe\r\n", b"x" * 9000, b"OK 12\r\n"])
async def test_a_failed_connection_leaves_no_descriptor_and_one_line(
    tmp_path: Any, answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: nobody listens. A server that closes in mid-line had the library spin for ever."""
    monkeypatch.setattr("salsa_agent.bus.name_owner.CONNECT_TIME", 0.5)
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n")
        writer.write(answer or b"")
        if not answer:
            writer.close()
            return
        await over.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "bus")
    async with server:
        if answer is None:
            server.close()
        before = descriptors()
        for _ in range(2):
            with pytest.raises(BusError) as caught:
                await open_bus(f"unix:path={tmp_path}/bus")
            assert str(caught.value).startswith(f"unix:path={tmp_path}/bus: ")
            assert str(caught.value).isprintable()
        over.set()
        async with asyncio.timeout(PATIENCE):
            while descriptors() != before:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "unix:", "unix:path", "unix:path=/no/where", "unix:path=" + "x" * 200, "carrier:pigeon=1",
     "tcp:host=127.0.0.1,port=x", "tcp:host=127.0.0.1,port=1", "unix:abstract=salsa-not-there", "unix:path=/a%00b",
     "\n\x1b"],
)  # fmt: skip
async def test_an_address_of_no_use_is_one_line_and_no_descriptor(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    before = descriptors()
    with pytest.raises(BusError) as caught:
        await open_bus(address)
    assert str(caught.value).isprintable()
    assert descriptors() == before


async def test_the_first_address_that_answers_is_taken(bus: Bus) -> None:
    connection = await open_bus(f"unix:path=/no/where;carrier:pigeon=1;{bus.address}")
    assert connection.unique_name
    connection.disconnect()


async def test_calls_end_when_the_bus_does(bus: Bus) -> None:
    connection = await open_bus(bus.address)
    bus.stop()
    pending = [asyncio.ensure_future(connection.call(message("ListNames"))) for _ in range(3)]
    await asyncio.sleep(0)
    bus.kill()
    async with asyncio.timeout(PATIENCE):
        for call in pending:
            with pytest.raises(BusGone):
                await call
    with pytest.raises(BusGone):
        await connection.call(message("ListNames"))
    connection.send(message("ListNames"))
    connection.emit(PATH, INTERFACE, "X", "", b"")
    assert connection.end


async def test_a_call_that_is_given_up_leaves_nothing(bus: Bus) -> None:
    connection = await open_bus(bus.address)
    bus.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.call(message("ListNames")), 0.01)
    assert not connection.router._pending
    bus.resume()
    reply = await asyncio.wait_for(connection.call(message("GetId")), PATIENCE)
    assert reply is not None
    assert reply.message_type is MessageType.METHOD_RETURN
    assert await connection.call(message("GetId", flags=MessageFlag(1))) is None
    connection.disconnect()
    assert connection.end == "disconnected"


async def test_descriptors_are_not_taken_from_callers(bus: Bus) -> None:
    async with serving(bus) as agent:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            done = await bus.busctl("call", NAME, PATH, INTERFACE, "Refresh", "h", "1")
            assert done.status == 1
        with await RawClient.open(bus.address) as client:
            assert await agent.get(client, "State") == "ready"
        assert len(os.listdir("/proc/self/fd")) <= before
        assert agent.requests.asked == []


async def test_serials_go_round_and_are_never_0(bus: Bus) -> None:
    connection = await open_bus(bus.address)
    connection._serial = 2**32 - 2
    for serial in (2**32 - 1, 1):
        asked = message("GetId")
        reply = await asyncio.wait_for(connection.call(asked), PATIENCE)
        assert reply is not None
        assert (asked.serial, reply.reply_serial) == (serial, serial)
    connection.disconnect()


# --- memory


async def test_a_long_flood_leaves_no_memory_behind(bus: Bus) -> None:
    async with serving(bus) as agent:

        async def flood() -> None:
            for uid in (ROOT, NOBODY) * 3:
                with await RawClient.open(bus.address, uid=uid) as client:
                    frames = [
                        client.frame(PATH, INTERFACE, "Lookup", "s", "192.0.2.1", destination=NAME),
                        client.frame(PATH, PROPERTIES, "Get", "ss", INTERFACE, f"X{uid}", destination=NAME),
                        client.frame(PATH, INTROSPECTABLE, "Introspect", destination=NAME),
                    ]
                    await client.send(b"".join(frames * 40))
                    with await RawClient.open(bus.address) as other:
                        await agent.get(other, "State")
            await asyncio.sleep(0)

        await flood()
        tracemalloc.start()
        try:
            await flood()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(4):
                await flood()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 200_000
        finally:
            tracemalloc.stop()
