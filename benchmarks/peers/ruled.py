"""The least that a Python program does that does what the rules ask: `ruled.py BUS SERVER`, owner of bench.Ruled.

As lean.py, but each question has a socket and a random id of its own, and its reply is held to it (F2); the exchange's
addresses are asked for, too (C3); the kernel says by which link and source it would send (A4); one signal tells that a
round runs, two tell what came of it (H1, H2). It knows no other rule, and answers nobody.
"""

import asyncio
import secrets
import socket
import sys
from struct import pack, unpack_from

from dbus_next.aio import MessageBus

RTM_NEWADDR, RTM_GETROUTE, IFA_LOCAL, RTA_DST = 20, 26, 2, 1
NLM_F_REQUEST = 1
RTMGRP_IPV4_IFADDR = 0x10
HEADER, ADDRESS, ATTRIBUTE = 16, 8, 4  # octets of struct nlmsghdr, ifaddrmsg, rtattr
LEVELS = 3
A, MX, AAAA = 1, 15, 28
PATH, INTERFACE, PROPERTIES = "/bench/Ruled", "bench.Ruled", "org.freedesktop.DBus.Properties"
ROUTES = [
    pack("=IHHII8BIHH", 32 + len(target), RTM_GETROUTE, NLM_F_REQUEST, 1, 0,
         family, len(target) * 8, 0, 0, 0, 0, 0, 0, 0, ATTRIBUTE + len(target), RTA_DST) + target
    for family, target in ((socket.AF_INET, bytes((198, 41, 0, 4))), (socket.AF_INET6, b"\x20\x01" + bytes(14)))
]  # fmt: skip


class Ruled:
    def __init__(self, bus: MessageBus, server: str) -> None:
        self.bus, self.server = bus, server
        self.loop = asyncio.get_running_loop()
        self.address = self.host = ""
        self.answers: dict[int, bytes] = {}  # by level, then those for A and AAAA: what follows the question
        self.open: set[socket.socket] = set()
        self.routes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.kernel.bind((0, RTMGRP_IPV4_IFADDR))
        self.kernel.setblocking(False)
        self.loop.add_reader(self.kernel, self.hear_kernel)

    def hear_kernel(self) -> None:
        data = self.kernel.recv(1 << 16)
        start = 0
        while start < len(data):
            size, kind = unpack_from("=IH", data, start)
            at = start + HEADER + ADDRESS
            while kind == RTM_NEWADDR and at < start + size:
                length, attribute = unpack_from("=HH", data, at)
                if attribute == IFA_LOCAL:
                    self.begin(data[at + ATTRIBUTE : at + length])
                at += length + 3 & ~3
            start += size + 3 & ~3

    def begin(self, address: bytes) -> None:
        for route in ROUTES:
            self.routes.send(route)
            self.routes.recv(1 << 16)
        for sock in list(self.open):
            self.close(sock)
        self.address, self.host, self.answers = ".".join(map(str, address)), "", {}
        labels = [b"%c%d" % (len(str(octet)), octet) for octet in reversed(address)]
        for level in range(LEVELS):
            self.ask(b"".join(labels[level:]) + b"\x07in-addr\x04arpa\x00", MX, level)
        self.emit(PROPERTIES, "PropertiesChanged", "sa{sv}as", changed(put(b"", "State", "s", text("resolving"))))

    def ask(self, name: bytes, kind: int, place: int) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect((self.server, 53))
        query = pack(">6H", secrets.randbits(16), 0x0100, 1, 0, 0, 0) + name + pack(">HH", kind, 1)
        sock.send(query)
        self.open.add(sock)
        self.loop.add_reader(sock, self.hear_server, sock, query, place)

    def hear_server(self, sock: socket.socket, query: bytes, place: int) -> None:
        message = sock.recv(4096)
        if message[:2] != query[:2] or message[12 : len(query)] != query[12:]:
            return
        self.close(sock)
        self.answers[place] = message[len(query) :] if message[6:8] > b"\0\0" else b""
        if place < LEVELS:
            self.climb()
        elif {LEVELS, LEVELS + 1} <= self.answers.keys():
            self.decide()

    def climb(self) -> None:
        """The most specific level with a relay, once those before it have none."""
        for level in range(LEVELS):
            if self.host or level not in self.answers:
                return
            if found := self.answers[level]:
                self.host, name = exchange(found)
                self.ask(name, A, LEVELS)
                self.ask(name, AAAA, LEVELS + 1)

    def decide(self) -> None:
        relay = put(put(b"", "host", "s", text(self.host)), "port", "q", pack("<H", 25))
        relay = put(put(relay, "source", "s", text("dns")), "preference", "q", pack("<H", 10))
        relay = put(relay, "address", "s", text(self.address))
        evidence = put(put(b"", "address", "s", text(self.address)), "outcome", "s", text("found"))
        values = put(put(b"", "Relay", "s", text(self.host)), "RelayPort", "q", pack("<H", 25))
        values = put(put_list(put_list(values, "Relays", relay), "Addresses", evidence), "State", "s", text("ready"))
        self.emit(PROPERTIES, "PropertiesChanged", "sa{sv}as", changed(values))
        self.emit(INTERFACE, "RelayChanged", "sq", pad(text(self.host), 2) + pack("<H", 25))

    def emit(self, interface: str, member: str, signature: str, body: bytes) -> None:
        fields = b"\1\1o\0" + text(PATH)
        for code, kind, value in ((2, b"s", text(interface)), (3, b"s", text(member)), (8, b"g", short(signature))):
            fields = pad(fields, 8) + bytes((code, 1)) + kind + b"\0" + value
        head = pack("<4B3I", 0x6C, 4, 1, 1, len(body), self.bus.next_serial(), len(fields))
        self.bus._sock.send(head + pad(fields, 8) + body)

    def close(self, sock: socket.socket) -> None:
        self.loop.remove_reader(sock)
        self.open.discard(sock)
        sock.close()


# --- D-Bus values; what is put into an array begins at a multiple of eight


def pad(octets: bytes, to: int) -> bytes:
    return octets + bytes(-len(octets) % to)


def text(value: str) -> bytes:
    return pack("<I", len(value)) + value.encode() + b"\0"


def short(signature: str) -> bytes:
    return bytes((len(signature),)) + signature.encode() + b"\0"


def put(before: bytes, key: str, signature: str, value: bytes) -> bytes:
    """One more entry of an `a{sv}`."""
    return pad(pad(before, 8) + text(key) + short(signature), 2 if signature == "q" else 4) + value


def put_list(before: bytes, key: str, entries: bytes) -> bytes:
    """One more entry, of type aa{sv}, with one element."""
    head = put(before, key, "aa{sv}", b"")
    skip = -len(head) % 8
    return head + pack("<II", 4 + skip + len(entries), len(entries)) + bytes(skip) + entries


def changed(entries: bytes) -> bytes:
    """The body of PropertiesChanged."""
    head = pad(text(INTERFACE), 4)
    return pad(pad(head + pack("<I", len(entries)), 8) + entries, 4) + pack("<I", 0)


def exchange(records: bytes) -> tuple[str, bytes]:
    """Of the first record, which the server gives the best place."""
    start = at = 14  # behind a pointer for a name, then type, class, TTL, length and preference
    labels = []
    while size := records[at]:
        labels.append(records[at + 1 : at + 1 + size])
        at += 1 + size
    return b".".join(labels).decode(), records[start : at + 1]


async def main() -> None:
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    ruled = Ruled(bus, sys.argv[2])
    await bus.request_name(INTERFACE)
    await bus.wait_for_disconnect()
    ruled.kernel.close()


asyncio.run(main())
