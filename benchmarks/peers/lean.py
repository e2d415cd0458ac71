"""The least that a Python program can do: `lean.py BUS SERVER`, owner of bench.Lean.

DNS messages made by hand, on one socket; one signal. It believes whatever it hears, retries nothing, follows addresses
that come only, and what the kernel could not tell it, it never learns.
"""

import asyncio
import socket
import sys
from struct import pack, unpack_from

from dbus_next import Message, Variant
from dbus_next.aio import MessageBus

RTM_NEWADDR, IFA_LOCAL = 20, 2
RTMGRP_IPV4_IFADDR = 0x10
HEADER, ADDRESS, ATTRIBUTE = 16, 8, 4  # octets of struct nlmsghdr, ifaddrmsg, rtattr
LEVELS = 3


class Lean:
    def __init__(self, bus: MessageBus, server: str) -> None:
        self.bus = bus
        self.relay = ""
        self.last_id = 0
        self.waiting: dict[int, tuple[list[str | None], int]] = {}  # by id: the answers for an address, and which
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.connect((server, 53))
        self.kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.kernel.bind((0, RTMGRP_IPV4_IFADDR))
        for sock, heard in ((self.dns, self.hear_server), (self.kernel, self.hear_kernel)):
            sock.setblocking(False)
            asyncio.get_running_loop().add_reader(sock, heard)

    def hear_kernel(self) -> None:
        data = self.kernel.recv(1 << 16)
        start = 0
        while start < len(data):
            size, kind = unpack_from("=IH", data, start)
            at = start + HEADER + ADDRESS
            while kind == RTM_NEWADDR and at < start + size:
                length, attribute = unpack_from("=HH", data, at)
                if attribute == IFA_LOCAL:
                    self.ask(data[at + ATTRIBUTE : at + length])
                at += length + 3 & ~3
            start += size + 3 & ~3

    def ask(self, address: bytes) -> None:
        labels = [b"%c%d" % (len(str(octet)), octet) for octet in reversed(address)]
        answers: list[str | None] = [None] * LEVELS
        for level in range(LEVELS):
            self.last_id = self.last_id + 1 & 0xFFFF
            self.waiting[self.last_id] = answers, level
            name = b"".join(labels[level:]) + b"\x07in-addr\x04arpa\x00"
            self.dns.send(pack(">6H", self.last_id, 0x0100, 1, 0, 0, 0) + name + b"\x00\x0f\x00\x01")

    def hear_server(self) -> None:
        message = self.dns.recv(512)
        answers, level = self.waiting.pop(message[0] << 8 | message[1], ([], 0))
        if answers:
            answers[level] = first_exchange(message)
            self.decide(answers)

    def decide(self, answers: list[str | None]) -> None:
        """The most specific level with a relay, once those before it have none."""
        relay = next((answer for answer in answers if answer != ""), None)
        if relay and relay != self.relay:
            self.relay = relay
            body = ["bench.Lean", {"Relay": Variant("s", relay)}, []]
            changed = ("/bench/Lean", "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body)
            self.bus.send(Message.new_signal(*changed))


def first_exchange(message: bytes) -> str:
    """Of the first record, which the server gives the best place; empty if there is none."""
    if not message[6:8] > b"\x00\x00":
        return ""
    at = message.index(0, 12) + 5  # labels of digits and letters hold no zero
    at += 14  # a pointer for a name, then type, class, TTL, length and preference
    labels = []
    while size := message[at]:
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    return b".".join(labels).decode()


async def main() -> None:
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    lean = Lean(bus, sys.argv[2])
    await bus.request_name("bench.Lean")
    await bus.wait_for_disconnect()
    lean.dns.close()


asyncio.run(main())
