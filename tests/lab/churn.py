"""A hostile local user: connect, Hello, eight calls, close, over and over.

`python -m tests.lab.churn ADDRESS UID SECONDS [METHOD]`, as root; the method takes no arguments.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from salsa_agent.bus import message as wire
from tests.lab.messages import frame

NAME, PATH = "org.salsa.Agent1", "/org/salsa/Agent1"
CALLS = 8


def frames(member: str) -> bytes:
    """Hello, and the calls behind it in one piece."""
    bus = "org.freedesktop.DBus"
    octets = frame(wire.CALL, 1, path="/org/freedesktop/DBus", interface=bus, member="Hello", destination=bus)
    for serial in range(2, 2 + CALLS):
        octets += frame(wire.CALL, serial, path=PATH, interface=NAME, member=member, destination=NAME)
    return octets


def once(path: str, uid: int, octets: bytes) -> None:
    """One connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n")
        if not sock.recv(256).startswith(b"OK "):
            return
        sock.sendall(b"BEGIN\r\n" + octets)
        sock.recv(1 << 16)  # Hello is answered: the bus has taken the calls


def main() -> None:
    """Attack, and print how many connections were made."""
    address, uid, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    path = address.partition("path=")[2].partition(",")[0]
    octets = frames(sys.argv[4] if len(sys.argv) > 4 else "Refresh")
    deadline = time.monotonic() + seconds
    made = 0
    while time.monotonic() < deadline:
        try:
            once(path, uid, octets)
            made += 1
        except OSError:
            time.sleep(0.01)
    print(made)


if __name__ == "__main__":
    main()
