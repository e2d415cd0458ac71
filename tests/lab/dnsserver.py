"""A scriptable DNS server over UDP and TCP, in the test's own process or as one of its own in a namespace.

    python -m tests.lab.dnsserver --listen 192.0.2.53 --port 53 --log QUERIES ZONE.json

prints `ready` when it listens, reads ZONE.json again on SIGHUP (then prints `reloaded`), ends on SIGTERM, and appends a
line of JSON for each query to QUERIES (see Logged). A zone says for each name and type what is done:

    {"1.15.154.165.in-addr.arpa": {"MX": ["10 noc.example.", "20 vertex.example."]},
     "slow.example": {"A": {"answer": ["192.0.2.1"], "ttl": 30, "delay": 0.5}, "*": {"silent": true}},
     "alias.example": {"CNAME": ["slow.example."]},
     "": {"*": {"rcode": "REFUSED"}}}

Names have no trailing dot and are in lower case. A list is short for {"answer": list}. The type `*` stands for all that
are not listed, the name "" for all names that are not; without them, a listed name has no other data, another name does
not exist. CNAMEs are followed within the zone. For the other keys see Behaviour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from salsa_agent.core.model import Server

Zone = dict[str, dict[str, Any]]

APEX = "example."
MAX_CHAIN = 20


@dataclass(slots=True)
class Behaviour:
    """What is done with one question. The keys of the zone file, with their defaults."""

    answer: list[str] = field(default_factory=list)  # record data as in a zone file
    ttl: int = 300
    rcode: str = ""  # instead of an answer; NXDOMAIN comes with the SOA
    soa: list[int] | None = field(default_factory=lambda: [900, 600])  # of negative answers: TTL, minimum; null: none
    delay: float = 0.0  # seconds
    silent: bool = False  # no reply at all, but for the faults
    drop: int = 0  # this many queries are not answered at first
    faults: list[str] = field(default_factory=list)  # false replies sent before the true one: see FAULTS
    truncated: bool = False  # over UDP the reply is only TC
    tcp: str = ""  # over TCP: `close` without an answer, `silent`, `truncated` there, too, `drip` half of it
    ad: bool = False
    aa: bool = False
    lower: bool = False  # the question is repeated in lower case, however it was asked
    chase: bool = True  # follow a CNAME within the zone
    authority: list[str] = field(default_factory=list)  # further records: `NAME TTL IN TYPE DATA`
    additional: list[str] = field(default_factory=list)
    raw: Callable[[bytes], bytes] | None = None  # from the query to the reply's bytes (in Python only)


@dataclass(frozen=True, slots=True)
class Logged:
    """A query that came in. `time`: CLOCK_BOOTTIME in seconds; `id`, `address`, `port` as the client sent it."""

    time: float
    name: str
    type: str
    id: int
    address: str
    port: int
    transport: str
    ad: bool
    rd: bool


class DnsServer:
    """One zone on any number of addresses. `queries`: what was asked so far. `zone` may be changed at any time."""

    def __init__(self, zone: Zone | None = None, log: IO[str] | None = None) -> None:
        self.zone: Zone = zone if zone is not None else {}
        self.queries: list[Logged] = []
        self.port = 0
        self.address = ""
        self._log = log
        self._dropped: dict[tuple[str, str], int] = {}
        self._closers: list[Callable[[], Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def server(self) -> Server:
        """This one, as the agent knows it."""
        return Server(self.address, self.port)

    def asked(self, name: str = "", rtype: str = "") -> list[Logged]:
        """The queries for this name and type."""
        return [q for q in self.queries if name in ("", q.name) and rtype in ("", q.type)]

    async def listen(self, address: str = "127.0.0.1", port: int = 0, *, tcp: bool = True) -> None:
        """Serve on `address` (with a scope for a link-local one), of the namespace that this thread is in now."""
        udp, listener = _sockets(address, port, tcp)
        self.address, self.port = address, udp.getsockname()[1]
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=udp)
        self._closers.append(transport.abort)
        if listener is not None:
            server = await asyncio.start_server(self._serve_tcp, sock=listener)
            self._closers.append(server.close)

    async def close(self) -> None:
        for close in self._closers:
            close()
        self._closers.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports' connection_lost

    # --- answering

    def take(self, wire: bytes, transport: str, client: Sequence[Any]) -> tuple[dns.message.Message, Behaviour] | None:
        """Note a query, and find what is done with it; None: nothing."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        rtype = dns.rdatatype.to_text(question.rdtype)
        ad, rd = bool(query.flags & dns.flags.AD), bool(query.flags & dns.flags.RD)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        logged = Logged(now, name, rtype, query.id, client[0], client[1], transport, ad, rd)
        self.queries.append(logged)
        if self._log is not None:
            self._log.write(json.dumps(asdict(logged)) + "\n")
            self._log.flush()
        behaviour = self._behaviour(name, rtype)
        seen = self._dropped.get((name, rtype), 0)
        if seen < behaviour.drop:
            self._dropped[name, rtype] = seen + 1
            return None
        return query, behaviour

    def _behaviour(self, name: str, rtype: str) -> Behaviour:
        node = self.zone.get(name, self.zone.get(""))
        if node is None:
            return Behaviour(rcode="NXDOMAIN")
        given: Any = node.get(rtype, node.get("CNAME", node.get("*", [])))
        return Behaviour(answer=given) if isinstance(given, list) else Behaviour(**given)

    def reply(self, query: dns.message.Message, behaviour: Behaviour) -> bytes:
        """The true reply."""
        if behaviour.raw is not None:
            return behaviour.raw(query.to_wire())
        reply = dns.message.make_response(query, recursion_available=not behaviour.aa)
        reply.flags |= (dns.flags.AD if behaviour.ad else 0) | (dns.flags.AA if behaviour.aa else 0)
        reply.authority += [_record(line) for line in behaviour.authority]
        reply.additional += [_record(line) for line in behaviour.additional]
        if behaviour.rcode:
            reply.set_rcode(dns.rcode.from_text(behaviour.rcode))
        if behaviour.rcode not in ("", "NXDOMAIN"):
            return reply.to_wire()
        name = query.question[0].name
        rtype = dns.rdatatype.to_text(query.question[0].rdtype)
        for _ in range(MAX_CHAIN):
            key = name.to_text(omit_final_dot=True).lower()
            node = self.zone.get(key, {})
            step = self._behaviour(key, rtype)
            alias = rtype not in node and "CNAME" in node
            if step.answer:
                kind = "CNAME" if alias else rtype
                reply.answer.append(dns.rrset.from_text_list(name, step.ttl, "IN", kind, step.answer))
            if not alias or not behaviour.chase:
                break
            name = dns.name.from_text(step.answer[0])
        else:
            return reply.to_wire()
        if not step.answer:
            if step.rcode:
                reply.set_rcode(dns.rcode.from_text(step.rcode))
            if step.soa is not None:
                reply.authority.append(_soa(name, *step.soa))
        return reply.to_wire(max_size=65535)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                taken = self.take(await reader.readexactly(length), "tcp", writer.get_extra_info("peername"))
                if taken is None:
                    continue
                query, behaviour = taken
                await asyncio.sleep(behaviour.delay)
                if behaviour.tcp == "close":
                    return
                if behaviour.silent or behaviour.tcp == "silent":
                    continue
                reply = self.reply(query, behaviour)
                if behaviour.tcp == "truncated":
                    reply = _cut(query)
                for fault in behaviour.faults:
                    false = _false(fault, query, reply)
                    writer.write(struct.pack("!H", len(false)) + false)
                framed = struct.pack("!H", len(reply)) + reply
                writer.write(framed[: len(framed) // 2] if behaviour.tcp == "drip" else framed)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        taken = self._server.take(data, "udp", addr)
        if taken is None:
            return
        query, behaviour = taken
        reply = self._server.reply(query, behaviour) if not behaviour.silent else b""
        if behaviour.lower:
            end = 12 + len(query.question[0].name.to_wire() or b"")
            reply = reply[:12] + reply[12:end].lower() + reply[end:]
        for fault in behaviour.faults:
            if fault == "source":
                self._from_elsewhere(reply or dns.message.make_response(query).to_wire(), addr)
            else:
                self._transport.sendto(_false(fault, query, reply), addr)
        if behaviour.silent:
            return
        if behaviour.truncated or len(reply) > 512:
            reply = _cut(query)
        if behaviour.delay:
            asyncio.get_running_loop().call_later(behaviour.delay, self._send, reply, addr)
        else:
            self._send(reply, addr)

    def _send(self, reply: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(reply, addr)

    def _from_elsewhere(self, reply: bytes, addr: Any) -> None:
        """From another port of this address and, on loopback, from this port of another address."""
        own = self._transport.get_extra_info("sockname")
        sources = [(own[0], 0)]
        if own[0].startswith("127."):
            sources.append(("127.9.9.9", own[1]))
        for source in sources:
            with socket.socket(self._transport.get_extra_info("socket").family, socket.SOCK_DGRAM) as other:
                other.bind(source)
                other.sendto(reply, addr)


FAULTS = ("id", "question", "source", "garbage", "query", "short")


def _false(fault: str, query: dns.message.Message, reply: bytes) -> bytes:
    """A message that is not the reply; where it has records, they are a lie."""
    lie = dns.message.make_response(query)
    question = query.question[0]
    data = {"MX": "1 lie.example.", "A": "192.0.2.66", "AAAA": "2001:db8::66"}[dns.rdatatype.to_text(question.rdtype)]
    lie.answer.append(dns.rrset.from_text(question.name, 300, "IN", question.rdtype, data))
    match fault:
        case "id":
            lie.id ^= 0x5555
        case "question":
            other = dns.name.from_text("other.example.")
            lie.question = [dns.rrset.RRset(other, question.rdclass, question.rdtype)]
            lie.answer = [dns.rrset.from_text(other, 300, "IN", question.rdtype, data)]
        case "garbage":
            return bytes(range(256))
        case "query":  # not a reply at all
            lie.flags &= ~dns.flags.QR
        case "short":
            return query.to_wire()[:5]
        case _:
            raise ValueError(f"no such fault: {fault}")
    return lie.to_wire()


def _cut(query: dns.message.Message) -> bytes:
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def _soa(name: dns.name.Name, ttl: int, minimum: int) -> dns.rrset.RRset:
    """Of the zone one label up, as if it were cut there."""
    owner = name.parent() if len(name) > 1 else name
    return dns.rrset.from_text(owner, ttl, "IN", "SOA", f"ns.{APEX} root.{APEX} 1 3600 600 86400 {minimum}")


def _record(line: str) -> dns.rrset.RRset:
    name, ttl, rclass, rtype, data = line.split(None, 4)
    return dns.rrset.from_text(name, int(ttl), rclass, rtype, data)


def _sockets(address: str, port: int, tcp: bool) -> tuple[socket.socket, socket.socket | None]:
    """A UDP and a TCP socket on the same port."""
    bare, _, zone = address.partition("%")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    for attempt in range(20):
        where: tuple[Any, ...] = (bare, port)
        if family == socket.AF_INET6:
            where = (bare, port, 0, socket.if_nametoindex(zone) if zone else 0)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        listener = socket.socket(family, socket.SOCK_STREAM) if tcp else None
        try:
            udp.setblocking(False)
            udp.bind(where)
            if listener is not None:
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((bare, udp.getsockname()[1], *where[2:]))
                listener.listen()
        except OSError:
            udp.close()
            if listener is not None:
                listener.close()
            if port or attempt == 19:
                raise
            continue
        return udp, listener
    raise AssertionError("unreachable")


@asynccontextmanager
async def dns_server(
    zone: Zone | None = None, address: str = "127.0.0.1", port: int = 0, *, tcp: bool = True
) -> AsyncIterator[DnsServer]:
    """A server in this process, for the length of the block."""
    server = DnsServer(zone)
    try:
        await server.listen(address, port, tcp=tcp)
        yield server
    finally:
        await server.close()


async def _main(addresses: list[str], port: int, zone: Path, log: IO[str] | None) -> None:
    server = DnsServer(json.loads(zone.read_text()), log)
    stop = asyncio.Event()

    def reload() -> None:
        server.zone = json.loads(zone.read_text())
        print("reloaded", flush=True)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        for address in addresses:
            ip_address(address)
            await server.listen(address, port)
        print("ready", flush=True)
        await stop.wait()
    finally:
        await server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.dnsserver")
    parser.add_argument("--listen", action="append", required=True, metavar="ADDR", help="may be given again")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--log", type=Path, metavar="FILE")
    parser.add_argument("zone", type=Path)
    options = parser.parse_args()
    log = options.log.open("a") if options.log else None
    try:
        asyncio.run(_main(options.listen, options.port, options.zone, log))
    finally:
        if log is not None:
            log.close()


if __name__ == "__main__":
    main()
