"""The socketmap: netstrings from bytes, then the server with Postfix's own postmap(1) and with hostile clients."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.config.values import endpoint as parse_endpoint
from salsa_agent.core.model import Best, ListedRelay, Publication, Relay, RelayKey, SenderChoice, Source, State, Verdict
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.outputs import socketmap as postfix
from salsa_agent.outputs.answers import Answers
from salsa_agent.outputs.netstring import NetstringError, NetstringReader, netstring
from salsa_agent.outputs.socketmap import Socketmap
from tests.lab.bus import PROJECT
from tests.lab.needs import Need, require

UNHURRIED = examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATIENCE = 30.0
NOC = Best("noc.example.net", 25, Source.DNS)
NO_ONE = Publication(State.READY)
OK_NOC = b"OK [noc.example.net]:25"

# --- netstrings


def read(data: bytes, step: int, limit: int = 100) -> list[bytes]:
    reader, payloads = NetstringReader(limit), []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (payload := reader.next()) is not None:
            payloads.append(payload)
    return payloads


@UNHURRIED
@given(st.lists(st.binary(max_size=100)), st.integers(1, 300))
def test_netstrings_in_pieces_of_any_size(payloads: list[bytes], step: int) -> None:
    assert read(b"".join(netstring(payload) for payload in payloads), step) == payloads


@pytest.mark.parametrize("data", [b"5:hello", b"5", b"", b"5:", b"12"])
def test_a_netstring_that_is_not_all_there(data: bytes) -> None:
    assert read(data, 1) == []


@pytest.mark.parametrize(
    "data",
    [b":", b"x", b" 5:hello,", b"-1:", b"+1:a,", b"05:hello,", b"5:hello;", b"101:", b"99999999999", b"\xb2:ab,"],
)
@pytest.mark.parametrize("step", [1, 100])
def test_what_is_no_netstring(data: bytes, step: int) -> None:
    with pytest.raises(NetstringError):
        read(data, step)


def test_a_netstring_that_is_too_long_is_refused_before_it_has_come() -> None:
    assert read(b"100:" + b"x" * 100 + b",", 7) == [b"x" * 100]
    with pytest.raises(NetstringError):
        read(b"101", 1)


@UNHURRIED
@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_read_or_refused(data: bytes, step: int) -> None:
    outcomes: list[list[bytes] | None] = []
    for pieces in (step, 1000):
        try:
            outcomes.append(read(data, pieces))
        except NetstringError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


# --- the server


def said(best: Best, *relays: ListedRelay, senders: tuple[SenderChoice, ...] = ()) -> Publication:
    """A publication with this best relay, which the list holds if it names none."""
    own = (ListedRelay(Relay(RelayKey(best.host, best.port), best.source), Verdict.OK),)
    return Publication(State.READY, best, relays or own, senders=senders)


class Client:
    """A client that speaks socketmap as it pleases."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, query: bytes) -> bytes:
        self.writer.write(netstring(query))
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            size = await self.reader.readuntil(b":")
            return (await self.reader.readexactly(int(size[:-1]) + 1))[:-1]

    async def ended(self) -> bytes:
        """Wait until the server ends the connection; what it said before."""
        said = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(65536):
                    said += data
        return said

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Lab:
    """A socketmap on a unix socket, and clients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.map = Socketmap()
        self.path = directory / "map"
        self._clients: list[Client] = []

    def start(self) -> None:
        self.listen(f"unix:{self.path}")

    def listen(self, *endpoints: str) -> None:
        """Listen at these endpoints and at no others, written as in `postfix.listen`."""
        self.map.listen([parse_endpoint(endpoint) for endpoint in endpoints])

    async def client(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(str(self.path)))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        await self.map.close()
        for client in self._clients:
            await client.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can enter, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="salsa-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def lab(directory: Path) -> AsyncIterator[Lab]:
    lab = Lab(directory)
    lab.start()
    yield lab
    await lab.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    with socket.socket(family) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_answers(lab: Lab) -> None:
    client = await lab.client()
    assert (await client.ask(b"relay me@example.org")).startswith(b"TEMP ")
    lab.map.publish(said(NOC))
    for query in (b"relay me@example.org", b"relay *", b"relay ", b"relay", b"relay a b c", b"relay \xff\x00"):
        assert await client.ask(query) == OK_NOC
    for query in (b"other me@example.org", b"Relay x", b"relays x", b"", b" relay x"):
        assert (await client.ask(query)).startswith(b"PERM ")
    lab.map.publish(NO_ONE)
    assert await client.ask(b"relay x") == b"NOTFOUND "


@pytest.mark.parametrize(
    ("best", "answer"),
    [
        (Best("192.0.2.1", 587, Source.STATIC), b"OK [192.0.2.1]:587"),
        (Best("2001:db8::1", 25, Source.STATIC), b"OK [2001:db8::1]:25"),
        (Best("localhost", 2525, Source.STATIC), b"OK [localhost]:2525"),
    ],
)
async def test_the_form_of_an_answer(lab: Lab, best: Best, answer: bytes) -> None:
    lab.map.publish(said(best))
    assert await (await lab.client()).ask(b"relay x") == answer


def listed(host: str, port: int = 25, source: Source = Source.DNS, verdict: Verdict = Verdict.OK) -> ListedRelay:
    return ListedRelay(Relay(RelayKey(host, port), source), verdict)


def replies(publication: Publication | None, key: str = "me@example.org", **verify: bool) -> tuple[str, str]:
    """Of the maps `relay` and `transport`."""
    answers = Answers(publication, **({"verified": verify["enabled"]} if verify else {}))
    return answers.reply(f"relay {key}".encode()).decode(), answers.reply(f"transport {key}".encode()).decode()


def test_the_answer_is_the_best_relay_then_the_next_ones() -> None:
    relays = (
        listed("dead.example", verdict=Verdict.FAILED),
        listed("noc.example.net"),
        listed("unknown.example", verdict=Verdict.UNVERIFIED),
        listed("2001:db8::1", 587),
        listed("home.example", 587, Source.STATIC, Verdict.UNVERIFIED),
    )
    hops = "[noc.example.net]:25, [2001:db8::1]:587, [home.example]:587"
    assert replies(said(NOC, *relays)) == (f"OK {hops}", f"OK relay:{hops}")
    unverified = "[noc.example.net]:25, [unknown.example]:25, [2001:db8::1]:587, [home.example]:587"
    assert replies(said(NOC, *relays), enabled=False)[0] == f"OK {unverified}"


def test_d10_only_relays_that_are_spoken_to_as_the_best_is() -> None:
    relays = (listed("noc.example.net"), listed("a.example", 465), listed("b.example", 587))
    assert replies(said(NOC, *relays))[1] == "OK relay:[noc.example.net]:25, [b.example]:587"
    inside = said(Best("a.example", 465, Source.DNS), *relays, listed("c.example", 465))
    hops = "[a.example]:465, [c.example]:465"
    assert replies(inside) == (f"OK {hops}", f"OK smtps:{hops}")


def test_at_most_8_relays() -> None:
    hops = replies(said(NOC, listed("noc.example.net"), *(listed(f"r{n}.example") for n in range(20))))[0]
    assert hops.count(",") == 7


HOME = SenderChoice(
    ("*@home.example",), "never", Best("smtp.home.example", 587, Source.SENDER),
    (listed("smtp.home.example", 587, Source.SENDER, Verdict.UNVERIFIED),), True,
)  # fmt: skip
NONE_LEFT = SenderChoice(("*@poor.example",), "never", Best(), (listed("x.example", 587, Source.SENDER),), True)
UNDECIDED = SenderChoice(("*@late.example",))
SENDERS = (HOME, NONE_LEFT, UNDECIDED)


@pytest.mark.parametrize(
    ("key", "relay"),
    [
        ("me@home.example", "OK [smtp.home.example]:587"),
        ("ME@Home.Example", "OK [smtp.home.example]:587"),
        ("@home.example", "OK [smtp.home.example]:587"),
        (f"{'a' * 320}@home.example", "OK [smtp.home.example]:587"),  # whatever its length: never another relay
        (f"{'é' * 160}@home.example", "OK [smtp.home.example]:587"),
        ("me@poor.example", "TEMP no relay for this sender is known"),
        ("me@late.example", "TEMP the network has not answered yet"),
        ("me@example.org", "OK [noc.example.net]:25"),
        ("*", "OK [noc.example.net]:25"),
        ("", "OK [noc.example.net]:25"),
        ("<>", "OK [noc.example.net]:25"),
        ('"<>"', "OK [noc.example.net]:25"),
    ],
)
def test_c11_the_key_is_the_envelope_sender(key: str, relay: str) -> None:
    assert replies(said(NOC, senders=SENDERS), key) == (relay, relay.replace("OK ", "OK relay:"))


@pytest.mark.parametrize("key", ["<>", '"<>"', ""])
def test_c11_the_null_sender_matches_no_pattern(key: str) -> None:
    everyone = HOME._replace(address=("*",))
    assert replies(said(NOC, senders=(everyone,)), key)[0] == "OK [noc.example.net]:25"
    assert replies(said(NOC, senders=(everyone,)), "x")[0] == "OK [smtp.home.example]:587"


def test_notfound_only_for_keys_with_the_common_list() -> None:
    nowhere = Publication(State.READY, senders=SENDERS)
    assert replies(nowhere) == ("NOTFOUND ", "NOTFOUND ")
    assert replies(nowhere, "me@poor.example")[0].startswith("TEMP ")
    assert replies(nowhere, "me@late.example")[0].startswith("TEMP ")
    assert replies(nowhere, "me@home.example")[0] == "OK [smtp.home.example]:587"
    assert replies(None) == ("TEMP the network has not answered yet",) * 2


async def test_settings_change_the_answer(lab: Lab) -> None:
    lab.map.publish(said(NOC, listed("noc.example.net"), listed("b.example", verdict=Verdict.UNVERIFIED)))
    client = await lab.client()
    assert await client.ask(b"relay x") == OK_NOC
    lab.map.configure(Settings(verify=Verify(enabled=False), postfix_listen=(parse_endpoint(f"unix:{lab.path}"),)))
    assert await client.ask(b"relay x") == OK_NOC + b", [b.example]:25"


async def test_no_connection_can_keep_another_from_its_answers(lab: Lab) -> None:
    """Sixty that flood cost the one that asks for one relay a few queries each, not all that they have sent."""
    lab.map.publish(said(NOC))
    polite = await lab.client()
    assert await polite.ask(b"relay x") == OK_NOC
    flood = netstring(b"relay x") * 2_000
    floods = []
    for _ in range(60):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(flood) * 4)
        one.connect(str(lab.path))
        floods.append(one)
    await eventually(lambda: len(lab.map.clients) == 61)
    for one in floods:
        assert one.send(flood) == len(flood)
    try:
        given = 0
        for _ in range(3):
            assert await polite.ask(b"relay x") == OK_NOC
        for one in floods:
            with suppress(BlockingIOError):
                given += len(one.recv(1 << 20)) // len(netstring(OK_NOC))
    finally:
        for one in floods:
            one.close()
    assert given < 12_000  # of 120,000


async def test_one_byte_at_a_time_and_many_in_a_row(lab: Lab) -> None:
    lab.map.publish(said(NOC))
    client = await lab.client()
    for byte in netstring(b"relay me@example.org"):
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert await client.answer() == OK_NOC
    client.writer.write(netstring(b"relay x") * 500 + netstring(b"no"))
    assert [await client.answer() for _ in range(500)] == [OK_NOC] * 500
    assert (await client.answer()).startswith(b"PERM ")


async def test_a_client_that_only_closes_its_side_gets_its_answer(lab: Lab) -> None:
    lab.map.publish(said(NOC))
    client = await lab.client()
    client.writer.write(netstring(b"relay x"))
    client.writer.write_eof()
    assert await client.ended() == netstring(OK_NOC)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"10001:", b"999999999999", b"3:abc;", b"\x00" * 100])
async def test_garbage_ends_the_connection_and_nothing_else(lab: Lab, garbage: bytes) -> None:
    good, bad = await lab.client(), await lab.client()
    lab.map.publish(said(NOC))
    bad.writer.write(netstring(b"relay x") + garbage)
    await bad.ended()
    assert await good.ask(b"relay x") == OK_NOC


async def test_a_query_has_at_most_10000_bytes(lab: Lab) -> None:
    lab.map.publish(said(NOC))
    client = await lab.client()
    assert await client.ask(b"relay ".ljust(10_000, b"x")) == OK_NOC
    client.writer.write(netstring(b"relay ".ljust(10_001, b"x")))
    assert await client.ended() == b""


async def test_a_client_that_never_reads_is_not_read_either(lab: Lab) -> None:
    lab.map.publish(said(NOC))
    client = await lab.client()
    # the answer buffer fills (it is bounded), then the query buffer, then the client itself has to wait
    flood = netstring(b"relay x") * 10_000
    sent = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                client.writer.write(flood)
                sent += 10_000
                async with asyncio.timeout(0.5):
                    await client.writer.drain()
    except TimeoutError:
        pass
    assert sent < 1_000_000
    assert await (await lab.client()).ask(b"relay x") == OK_NOC
    # and goes on where it was once it reads
    assert [await client.answer() for _ in range(sent)] == [OK_NOC] * sent


async def test_a_silent_client_is_sent_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postfix, "IDLE", 0.05)
    client = await lab.client()
    client.writer.write(b"5:rel")  # a query that never ends is as good as none
    assert await client.ended() == b""
    assert not lab.map.clients


async def test_a_client_that_asks_stays(lab: Lab) -> None:
    client = await lab.client()
    assert await client.ask(b"relay x")
    (server_side,) = lab.map.clients
    server_side.heard -= postfix.IDLE - 1  # nearly over
    assert await client.ask(b"relay x")
    lab.map._end_idle()
    assert await client.ask(b"relay x")
    server_side.heard -= postfix.IDLE
    lab.map._end_idle()
    assert await client.ended() == b""


async def test_the_most_silent_of_too_many_clients_has_to_go(lab: Lab) -> None:
    clients = []
    for _ in range(postfix.MAX_CLIENTS):
        clients.append(await lab.client())
        assert await clients[-1].ask(b"relay x")
    assert await clients[0].ask(b"relay x")  # now the second is the most silent one
    newest = await lab.client()
    assert await clients[1].ended() == b""
    for client in (clients[0], clients[2], clients[-1], newest):
        assert await client.ask(b"relay x")
    assert len(lab.map.clients) == postfix.MAX_CLIENTS


async def test_connections_that_are_closed_at_once_keep_nobody_out(lab: Lab) -> None:
    """Postfix does not wait where the queue is full, and was refused 23 of 45 times beside one such user."""
    for _ in range(1000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as one:
            one.connect(str(lab.path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as postfix_s:
        postfix_s.connect(str(lab.path))
        postfix_s.send(netstring(b"relay x"))
        turns = 0
        while not select.select([postfix_s], [], [], 0)[0]:
            turns += 1
            assert turns < 100
            await asyncio.sleep(0)


LISTEN = """
import subprocess
import sys
from pathlib import Path
from salsa_agent.config.values import endpoint
from salsa_agent.outputs.listening import listening_socket
Path("/proc/sys/net/core/somaxconn").write_text("10000")
sockets = [listening_socket(endpoint(text)) for text in sys.argv[1:]]
print(subprocess.run(["ss", "-xltHn"], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.needs("namespaces")
def test_as_many_wait_as_the_administrator_has_the_kernel_allow(directory: Path) -> None:
    endpoints = [f"unix:{directory / 'map'}", "inet:127.0.0.1:8462"]
    in_a_network_of_its_own = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    done = subprocess.run(
        [*in_a_network_of_its_own, sys.executable, "-c", LISTEN, *endpoints],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    waiting = [line.split() for line in done.stdout.splitlines()]
    assert [of[3] for of in waiting if str(directory / "map") in of or "127.0.0.1:8462" in of] == ["10000"] * 2


async def test_of_a_crowd_that_comes_at_once_never_more_than_64_are_held(lab: Lab) -> None:
    """Those that had to go were held until the next turn of the loop: 640 descriptors, and 25 MiB, in a flood."""
    before = len(os.listdir("/proc/self/fd"))
    crowd = []
    try:
        for _ in range(500):
            crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            crowd[-1].connect(str(lab.path))
            crowd[-1].send(netstring(b"relay x") if len(crowd) % 2 else b"7:rel")
        most = 0
        while not _is_answered(crowd[-2]):
            await asyncio.sleep(0)
            most = max(most, len(lab.map.clients))
            assert len(os.listdir("/proc/self/fd")) - before - len(crowd) <= postfix.MAX_CLIENTS
        assert most == postfix.MAX_CLIENTS
    finally:
        for one in crowd:
            one.close()
    await eventually(lambda: not lab.map.clients)


def _is_answered(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


async def test_who_never_asks_goes_before_who_does(lab: Lab) -> None:
    """At an inet: endpoint all are one user: connections that are only held ended those of Postfix."""
    postfix_s = await lab.client()
    assert await postfix_s.ask(b"relay x")
    silent = []
    try:
        for _ in range(3 * postfix.MAX_CLIENTS):
            silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            silent[-1].connect(str(lab.path))
        await eventually(lambda: len(lab.map.clients) == postfix.MAX_CLIENTS and _is_answered(silent[0]))
        assert await postfix_s.ask(b"relay x")
    finally:
        for one in silent:
            one.close()


@pytest.mark.needs("users")
async def test_a_user_with_many_connections_ends_its_own(lab: Lab) -> None:
    """At a unix: endpoint the user is known: who opens one more than all may have loses one of its own."""
    mine = [await lab.client() for _ in range(3)]
    for client in mine:
        assert await client.ask(b"relay x")
    argv = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", _MANY, str(lab.path)]
    many = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        assert many.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await many.stdout.readline() == b"ready\n"
        for client in mine:  # the most silent of all, by far
            assert await client.ask(b"relay x")
        await eventually(lambda: len(lab.map.clients) == postfix.MAX_CLIENTS)
    finally:
        many.kill()
        await many.wait()


_MANY = """\
import socket, sys
held = []
for _ in range(200):
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    one.sendall(b"7:relay x,")
    one.settimeout(30)
    try:
        one.recv(100)
    except ConnectionError:
        pass
    held.append(one)
print("ready", flush=True)
sys.stdin.read()
"""


async def test_a_clean_stop_with_connections_open(lab: Lab) -> None:
    clients = [await lab.client() for _ in range(3)]
    for client in clients:
        assert await client.ask(b"relay x")
    late = await lab.client()  # connected, but maybe not accepted yet
    async with asyncio.timeout(PATIENCE):
        await lab.map.close()
    assert not lab.path.exists()
    for client in (*clients, late):
        assert await client.ended() == b""
    with pytest.raises(OSError):
        await lab.client()


# --- endpoints


async def test_a_unix_socket_is_for_everyone_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0o077)
    lab = Lab(directory)
    try:
        lab.start()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    mode = lab.path.stat().st_mode
    await lab.close()
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666


async def test_a_dead_socket_is_replaced(directory: Path) -> None:
    lab = Lab(directory)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(lab.path))
    lab.start()
    assert await (await lab.client()).ask(b"relay x")
    await lab.close()
    assert os.listdir(directory) == []


async def test_a_living_socket_is_not_replaced(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    second = Lab(lab.directory)
    second.start()
    assert caplog.messages == [f"postfix.listen: unix:{lab.path}: another program listens there"]
    await second.close()
    assert await (await lab.client()).ask(b"relay x")


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
async def test_what_is_no_socket_is_not_replaced(directory: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(directory)
    if kind == "file":
        lab.path.write_text("precious")
    elif kind == "link":
        lab.path.symlink_to(directory / "elsewhere")
    else:
        lab.path.mkdir()
    lab.start()
    assert caplog.messages == [f"postfix.listen: unix:{lab.path}: a file that is no socket is in its place"]
    await lab.close()
    assert os.listdir(directory) == ["map"]


async def test_a_socket_that_took_its_place_is_left_alone(lab: Lab) -> None:
    lab.path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(lab.path))
        await lab.map.close()
        assert lab.path.exists()


async def test_endpoints_come_and_go_and_others_are_not_disturbed(lab: Lab) -> None:
    port, port6 = free_port(), free_port(socket.AF_INET6)
    here, there, there6 = f"unix:{lab.path}", f"inet:127.0.0.1:{port}", f"inet:[::1]:{port6}"
    client = await lab.client()
    lab.listen(here, there, there6)
    tcp = Client(*await asyncio.open_connection("127.0.0.1", port))
    tcp6 = Client(*await asyncio.open_connection("::1", port6))
    for one in (client, tcp, tcp6):
        assert await one.ask(b"relay x")
    lab.listen(here, there6)
    assert await tcp.ended() == b""
    assert await client.ask(b"relay x")
    assert await tcp6.ask(b"relay x")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    lab.listen(there)
    assert await client.ended() == await tcp6.ended() == b""
    assert not lab.path.exists()
    for one in (tcp, tcp6):
        await one.close()


async def test_an_endpoint_that_cannot_be_had_is_an_error_and_tried_again(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "salsa-agent")
    absent = lab.directory / "absent"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        endpoints = [f"inet:127.0.0.1:{port}", f"unix:{absent}/map", f"unix:{lab.path}"]
        lab.listen(*endpoints)
    assert caplog.messages == [
        f"postfix.listen: inet:127.0.0.1:{port}: Address already in use",
        f"postfix.listen: unix:{absent}/map: No such file or directory",
    ]
    assert await (await lab.client()).ask(b"relay x")
    absent.mkdir()
    lab.listen(*endpoints)
    assert caplog.messages[2:] == [f"answering Postfix at {endpoint}" for endpoint in endpoints[:2]]


async def test_the_port_is_free_again_at_once(lab: Lab) -> None:
    endpoint = f"inet:127.0.0.1:{free_port()}"
    for _ in range(3):
        lab.listen(endpoint)
        client = Client(*await asyncio.open_connection("127.0.0.1", int(endpoint.rpartition(":")[2])))
        assert await client.ask(b"relay x")
        lab.listen()
        await client.close()
    assert not lab.map.clients


async def test_no_descriptors_left_is_a_pause_not_an_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postfix, "ACCEPT_AGAIN", 0.05)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = socket.socket(socket.AF_UNIX)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    with waiting:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
        try:
            holes = []
            with suppress(OSError):
                while True:
                    holes.append(os.dup(0))
            waiting.connect(str(lab.path))
            await eventually(lambda: bool(caplog.messages))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for hole in holes:
                os.close(hole)
        assert caplog.messages[0] == "socketmap: no connection can be accepted now: Too many open files"
        await eventually(lambda: bool(lab.map.clients))
    assert await (await lab.client()).ask(b"relay x")


# --- Postfix's own client


async def postmap(directory: Path, endpoint: str, *, name: str = "relay") -> tuple[int | None, str, str]:
    require(Need.USERS)  # Postfix wants its files to be root's
    main = directory / "main.cf"
    main.write_text("compatibility_level = 3.6\n")
    os.utime(main, (0, 0))  # Postfix waits for a file that was changed just now
    process = await asyncio.create_subprocess_exec(
        *("postmap", "-c", str(directory), "-q", "me@example.org", f"socketmap:{endpoint}:{name}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_postmap_gets_the_answers(lab: Lab) -> None:
    inet = f"inet:127.0.0.1:{free_port()}"
    lab.listen(inet, f"unix:{lab.path}")
    for endpoint in (inet, f"unix:{lab.path}"):
        lab.map.publish(said(NOC))
        assert await postmap(lab.directory, endpoint) == (0, "[noc.example.net]:25\n", "")
        lab.map.publish(said(Best("2001:db8::1", 25, Source.STATIC)))
        assert await postmap(lab.directory, endpoint) == (0, "[2001:db8::1]:25\n", "")
        lab.map.publish(NO_ONE)
        assert await postmap(lab.directory, endpoint) == (1, "", "")
        lab.map.answers = Answers()
        status, _, errors = await postmap(lab.directory, endpoint)
        assert status == 1
        assert "socketmap server temporary error" in errors
        _, _, errors = await postmap(lab.directory, endpoint, name="other")
        assert "socketmap server permanent error" in errors
