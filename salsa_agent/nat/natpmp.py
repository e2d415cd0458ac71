"""NAT-PMP (RFC 6886), of which only the question for the external address is used."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from salsa_agent.nat.answer import MappedAddress
from salsa_agent.nat.udp import NoAnswer, connected, exchange

PORT = 5351  # of the gateway
GROUP, GROUP_PORT = "224.0.0.1", 5350  # where it announces changes (3.2.1)
WAITS = tuple(0.25 * 2**attempt for attempt in range(9))  # 3.1: after the ninth request 64 s
SPACING = 0.1  # seconds, at least, between two that are reported; a gateway leaves 0.25 between repeats

REQUEST = b"\x00\x00"  # version 0, opcode 0: external address request (3.2)
_RESPONSE = 128  # added to the opcode
_RESULTS = {  # 3.5
    1: "unsupported version",
    2: "not authorized or refused",
    3: "network failure",
    4: "out of resources",
    5: "unsupported opcode",
}
_IP_MULTICAST_ALL = 49  # linux/in.h

log = logging.getLogger("salsa-agent")


def parse(data: bytes) -> MappedAddress | None:
    """What a response or announcement says (3.2); None: `data` is none. Never raises.

    The epoch is not looked at: it tells whether port mappings were lost (3.6), of which there are none.
    """
    if len(data) < 8:
        return None
    version, opcode, result = struct.unpack_from("!BBH", data)
    if version != 0 or opcode != _RESPONSE:
        return None
    if result != 0:
        return MappedAddress(None, _RESULTS.get(result, f"result code {result}"))
    return MappedAddress(IPv4Address(data[8:12])) if len(data) >= 12 else None


async def follow(
    gateway: IPv4Address, ifindex: int, report: Callable[[MappedAddress], None], waits: Sequence[float]
) -> None:
    """Ask the gateway for its external address and report the answer; then, until cancelled, what it announces.

    A missing answer is reported, unless it announced something meanwhile. Returns early where announcements cannot be
    received.
    """
    announced = False

    def on_announcement(answer: MappedAddress) -> None:
        nonlocal announced
        announced = True
        report(answer)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_listen(gateway, ifindex, on_announcement), name="NAT-PMP announcements")
        try:
            with connected(gateway, PORT, ifindex) as sock:
                report(await exchange(sock, REQUEST, waits, parse))
        except NoAnswer as error:
            if not announced:
                report(MappedAddress(None, str(error)))


async def _listen(gateway: IPv4Address, ifindex: int, on_announcement: Callable[[MappedAddress], None]) -> None:
    """Receive the announcements on the link (3.2.1). Others on it could send them, too: only the gateway's count."""
    loop = asyncio.get_running_loop()
    try:
        with _member(ifindex) as sock:
            while True:
                data, sender = await loop.sock_recvfrom(sock, 64)
                answer = parse(data) if sender[0] == str(gateway) else None
                if answer is not None:
                    on_announcement(answer)
                await asyncio.sleep(SPACING if answer else 0)  # sock_recvfrom is no pause when something is there
    except OSError as error:  # such as another program that does not share the port
        log.debug("NAT-PMP: announcements are not received: %s", error)


def _member(ifindex: int) -> socket.socket:
    """A socket that gets what is sent to the group on this link alone.

    The port is shared (3.2.1), and by SO_REUSEADDR: of sockets with SO_REUSEPORT Linux picks one for each datagram.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # every host is in this group on all of its links
        sock.bind((GROUP, GROUP_PORT))
        membership = struct.pack("=4s4si", socket.inet_aton(GROUP), bytes(4), ifindex)  # struct ip_mreqn
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError:
        sock.close()
        raise
    return sock
