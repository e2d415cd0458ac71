"""What reads bytes from outside. A target takes any bytes, and raises when something is wrong with what came of them.

A crash, a hang, a record in the log that speaks of a defect, or an unescaped byte in an output is wrong. An exception
that the code documents for bad input is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rrset

from salsa_agent.bus import convert as values
from salsa_agent.bus import message as wire
from salsa_agent.config import file as config
from salsa_agent.core.model import (
    Answer,
    Best,
    Mx,
    Outcome,
    Publication,
    Question,
    RRType,
    Server,
    ServerResult,
    Source,
    SrvEntry,
    Verdict,
)
from salsa_agent.core.settings import Settings
from salsa_agent.core.verification.verdicts import combine
from salsa_agent.daemon import link_relays as linkrelays
from salsa_agent.nameservers import resolvconf
from salsa_agent.outputs import relay_files as outputs
from salsa_agent.outputs.netstring import NetstringError, NetstringReader, netstring
from salsa_agent.resolver import hosts
from salsa_agent.resolver.message import (
    Query,
    Reply,
    ServerFailed,
    is_reply,
    is_truncated,
    keeps_case,
    query_name,
    read,
)
from salsa_agent.resolver.resolution import server_text
from salsa_agent.resolver.resolver import _answer
from salsa_agent.resolver.transport import _endpoint_of
from salsa_agent.resolver.wire import canonical
from salsa_agent.smtp import tls
from salsa_agent.smtp.conversation import Conversation, Demands
from salsa_agent.system.logs import LineFormatter
from salsa_agent.text import clean, printable
from salsa_agent.wiring import log_messages as tell
from tests.core.sim import World, at

LIMIT = 5.0  # seconds of CPU for one input; all of them are far below
HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
NAME = "15.154.165.in-addr.arpa"

Target = Callable[[bytes], None]


@dataclass(frozen=True)
class Fuzzed:
    """A target, and inputs that are right, to begin with."""

    target: Target
    seeds: tuple[bytes, ...]


TARGETS: dict[str, Fuzzed] = {}


def fuzzed(*seeds: bytes) -> Callable[[Target], Target]:
    """Put a target into the table. Its log is watched, and its time."""

    def take(target: Target) -> Target:
        def watched(data: bytes) -> None:
            start = time.process_time()
            with watched_log():
                target(data)
            spent = time.process_time() - start
            assert spent < LIMIT, f"{spent:.1f} s of CPU"

        TARGETS[target.__name__] = Fuzzed(watched, seeds)
        return target

    return take


class Alarms(logging.Handler):
    """Keeps what was logged; each record is written out as the agent would."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []
        self._formatter = LineFormatter(colour=False)

    def emit(self, record: logging.LogRecord) -> None:
        line = self._formatter.format(record)
        if not line.isprintable() or record.levelno >= logging.ERROR or record.exc_info:
            self.said.append(line)


@contextlib.contextmanager
def watched_log() -> Iterator[None]:
    """Whatever is logged as an error within the block is a failure."""
    alarms = Alarms()
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(alarms)
    own = logging.getLogger("salsa-agent")
    own_level, own.propagate = own.level, True
    own.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(alarms)
        logger.setLevel(level)
        own.setLevel(own_level)
    assert not alarms.said, alarms.said


_loop: list[asyncio.AbstractEventLoop] = []


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on one loop for all inputs; what the loop has to complain about is a failure."""
    if not _loop:
        _loop.append(asyncio.new_event_loop())
    complaints: list[dict[str, Any]] = []
    loop = _loop[0]
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def limited() -> None:
        async with asyncio.timeout(20):
            await work
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"

    loop.run_until_complete(limited())
    assert not complaints, complaints


def close() -> None:
    """Give back what the targets keep between inputs."""
    while _loop:
        _loop.pop().close()


# --- files


@fuzzed(
    b'static.relays = ["[2001:db8::1]:587", "mail.example.net"]\nnetwork.ignore = ["br-*"]\n',
    b"network.ipv4_levels = [32, 24]\n",
    b'[dns]\nservers = ["192.0.2.1:53"]\ntimeout = 2.0\n[policy]\ndeny = ["*.example"]\n[smtp]\nport = 25\n',
    b'[verify]\nrecipient = "post@example.net"\ntls = "valid"\n[postfix]\nlisten = ["unix:/run/x", "inet:[::1]:1"]\n',
    b"static.relays = " + b"[" * 5000,
    b'[[site]]\nname = "home"\nprefix = ["192.0.2.0/24"]\nrelays = ["srv:example.net"]\n[[sender]]\naddress = ["*@a"]',
    b'[output]\ndirectory = "/run/x"\n[network]\nnat = "stun"\nstun_server = "stun.example.net:3478"\n',
)
def configuration(data: bytes) -> None:
    """The configuration file."""
    try:
        settings = config.parse(data, {})
    except ValueError as error:
        assert str(error)
        assert printable(f"x: {error}").isprintable()
        return
    for key in settings.static_relays:
        if isinstance(key, SrvEntry):
            assert key.domain.isascii() and key.domain.isprintable()
            continue
        assert key.host.isascii()
        assert key.host.isprintable()
        assert outputs.contents(Publication(best=_best(key.host, key.port)), verified=True)
    for text in (settings.output_directory, *map(str, settings.postfix_listen), settings.verify.recipient):
        assert text.isprintable(), text


@fuzzed(b"nameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions trust-ad ndots:1\nsearch example.net\n")
def resolv_conf(data: bytes) -> None:
    """The file that lists name servers, up to the socket that would be opened."""
    said = resolvconf.parse(data.decode(errors="replace"))
    for listed in said.nameservers:
        server = Server(f"{listed.ip}%{listed.scope}" if listed.scope else str(listed.ip))
        assert server_text(server).isprintable()
        with contextlib.suppress(OSError, ServerFailed):
            _endpoint_of(server)


@fuzzed(b"127.0.0.1 localhost\n2001:db8::1 Mail.Example.net mail # the relay\n")
def hosts_file(data: bytes) -> None:
    """The hosts file; the name looked up is the last word of it."""
    name = (data.split() or [b""])[-1].decode(errors="replace")
    with tempfile.NamedTemporaryFile(prefix="salsa-fuzz-") as file:
        file.write(data)
        file.flush()
        for ip in hosts.lookup(name, Path(file.name)):
            assert ip.version in (4, 6)


@fuzzed(
    json.dumps([{"ifindex": 2, "interface": "eth0", "relays": ["192.0.2.1", "a.example:587"]}]).encode(),
    b'[{"ifindex": 1e999, "interface": "eth0", "relays": []}]',
)
def link_relays(data: bytes) -> None:
    """What an earlier run kept of `SetLinkRelays`."""
    with tempfile.TemporaryDirectory(prefix="salsa-fuzz-") as directory:
        Path(directory, linkrelays._FILE).write_bytes(data)
        for given in linkrelays.LinkRelayStore(Path(directory)).links:
            for key in given.relays:
                assert key.host.isascii()
                assert key.host.isprintable()


# --- the network


_ASKED = (
    (RRType.MX, ["10 noc.example.", "0 ."]),
    (RRType.A, ["192.0.2.1"]),
    (RRType.AAAA, ["2001:db8::1"]),
    (RRType.SRV, ["0 1 587 mail.example.", "0 0 0 ."]),
    (RRType.TXT, ['"v=DMARC1; " "p=reject"']),
)


def _replies() -> Iterator[bytes]:
    """True replies, without their id; the first byte says what was asked."""
    for number, (rtype, texts) in enumerate(_ASKED):
        query = dns.message.make_query(NAME, str(rtype), use_edns=None)
        reply = dns.message.make_response(query)
        alias = dns.rrset.from_text(f"{NAME}.", 300, "IN", "CNAME", "0/25.example.")
        for records in ([dns.rrset.from_text(f"{NAME}.", 300, "IN", str(rtype), *texts)], [alias], []):
            reply.answer = records
            reply.authority = [
                dns.rrset.from_text("in-addr.arpa.", 60, "IN", "SOA", "ns.example. root.example. 1 2 3 4 5")
            ]
            yield bytes((number,)) + reply.to_wire()[2:]


@fuzzed(*_replies())
def dns_reply(data: bytes) -> None:
    """A reply with the id that was sent."""
    rtype = _ASKED[data[0] % len(_ASKED)][0] if data else RRType.MX
    query = Query(query_name(NAME), rtype)
    sent = query.wire
    reply = sent[:2] + data[1:]
    if not is_reply(reply, sent):
        return
    is_truncated(reply)
    keeps_case(reply, sent)
    try:
        said = read(reply, query)
    except ServerFailed as error:
        answer = Answer(Outcome.FAILED, reason=str(error), rcode=error.rcode)
    else:
        assert said.ttl is None or 0 <= said.ttl < 1 << 31
        if not isinstance(said, Reply):
            query_name(said.target)
            return
        answer = _answer(said, canonical(query.name))._replace(ttl=said.ttl)
    for srv in answer.srv:
        assert srv.target.isascii()
        assert srv.target.isprintable(), srv.target
    for text in answer.txt:
        assert text.isascii()
        assert text.isprintable(), text
    for mx in answer.mx:
        assert mx.exchange.isascii()
        assert mx.exchange.isprintable(), mx.exchange
    line = tell.question_line(Question(NAME, rtype, ()), answer)
    assert line.isprintable(), line


@fuzzed(
    b"\0220 relay.example ESMTP\r\n250-relay.example\r\n250 STARTTLS\r\n221 bye\r\n",
    b"\1" + b"220 relay.example ESMTP\r\n250 relay.example\r\n250 ok\r\n250 ok\r\n250 ok\r\n221 bye\r\n",
    b"\0" + b"554-no\r\n554 5.7.1 \x1b[31m\xff\r\n",
    b"\2\x16\x03\x03\x00\x02\x02\x28",
)
def smtp_replies(data: bytes) -> None:
    """All that a relay says, in one go; the first byte says how it is spoken to."""
    in_loop(_converse(data))


async def _converse(data: bytes) -> None:
    how = data[0] if data else 0
    demands = Demands(
        "relay.example",
        implicit_tls=bool(how & 2),
        tls="offered" if how & 4 else "off",
        recipient="post@example.net" if how & 1 else "",
        context=lambda _: tls.unchecked(),
    )
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            there.send(data[1:])
        there.shutdown(socket.SHUT_WR)
        conversation = Conversation(demands, here, literal="[192.0.2.2]")
        alone = await conversation.run()
        await conversation.end()
    result = combine([ServerResult(ip_address("192.0.2.1"), alone)], administrator=bool(how & 8))
    assert len(result.reason) <= 200
    assert result.reason.isascii()
    assert result.reason == "" or result.reason.isprintable()
    assert (result.verdict is Verdict.FAILED) == bool(result.reason)


@fuzzed(netstring(b"relay user@example.net") * 2, netstring(b""), b"10001:")
def netstrings(data: bytes) -> None:
    """What Postfix, or somebody else, sends to the socketmap."""
    reader = NetstringReader(10_000)
    step = data[0] + 1 if data else 1
    with contextlib.suppress(NetstringError):
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            while (query := reader.next()) is not None:
                assert len(query) <= 10_000


# --- exchange names, wherever they end


def _wire_names(data: bytes) -> list[bytes]:
    """Any bytes as labels, cut at zero bytes into names."""
    return [name for name in data.split(b"\0") if name][:8]


@fuzzed(b"noc.example\0a\x01b.example", b"\x1b[31m.example", b"`reboot`.example\0$(x).example", b"..\0-a.example")
def exchange_names(data: bytes) -> None:
    """An MX set with such exchanges: the list, files, log lines, D-Bus values and environments that come of it."""
    exchanges = [_label_text(name) for name in _wire_names(data)]
    world = World(Settings())
    world.dns.clear()
    world.mx(NAME, Answer(Outcome.FOUND, mx=tuple(Mx(i, text) for i, text in enumerate(exchanges)), ttl=300))
    for text in exchanges:
        for name in (text, text.rstrip("."), text.rstrip(".").lower()):
            world.host(name, at("203.0.113.1"))
    world.start("165.154.15.1")
    said = world.said
    for listed in said.relays:
        assert HOST.fullmatch(listed.relay.key.host), listed
        for value in values.relay(listed, lambda _: 0).values():
            _plain(value.value)
    for dropped in said.dropped:
        for value in values.dropped(dropped).values():
            wire.encode("v", [value])
            assert clean(value.value).isprintable()
    for line in (tell.best_line(said), tell.status_line(said)):
        assert line.isprintable(), line
    for name, content in outputs.contents(said, verified=True).items():
        assert re.fullmatch(r"[A-Za-z0-9._:=\n{}\[\]\", -]*", content), (name, content)
    assert len(world.published) <= 4


def _label_text(name: bytes) -> str:
    """The name as the resolver would give it."""
    labels = tuple(label[:63] for label in name.split(b".") if label)
    while sum(map(len, labels)) + len(labels) > 254:
        labels = labels[:-1]
    return dns.name.Name((*labels, b"")).to_text()


def _plain(value: object) -> None:
    text = str(value)
    assert text.isprintable(), text
    assert "\0" not in text


def _best(host: str, port: int) -> Best:
    return Best(host, port, Source.STATIC)
