"""What an agent may say, for the tests of `salsactl`: the post's relays, long IPv6 names, a link."""

from __future__ import annotations

import time
from ipaddress import ip_address

from salsa_agent.bus.api import Explanation
from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Mx,
    Outcome,
    Publication,
    Question,
    Relay,
    RelayKey,
    RRType,
    Source,
    State,
    Verdict,
)
from tests.lab.busagent import realtime_us

START = time.time()
NOW = START - realtime_us(0) / 1_000_000  # on the clock of the lab's service
V4, V6 = ip_address("165.154.15.1"), ip_address("2001:db8:1500:1:a5:9a:f:1")
NAME_32, NAME_24, NAME_16 = "1.15.154.165.in-addr.arpa", "15.154.165.in-addr.arpa", "154.165.in-addr.arpa"
NAME_128 = V6.reverse_pointer
LONG_HOST = f"{'relay-of-the-computing-centre.' * 2}ipv6.example.net"


def _dns(
    host: str, preference: int, name: str = NAME_16, level: int = 16, ip: str = str(V4), on: str = "ppp0"
) -> Relay:
    return Relay(
        RelayKey(host, 25), Source.DNS, preference=preference, name=name, level=level, address=ip, interface=on,
        authenticated=False, expires=NOW + 3540,
    )  # fmt: skip


NOC, VERTEX = _dns("noc.tor.hookup.net", 10), _dns("vertex.tor.hookup.net", 20)
SIX = _dns(LONG_HOST, 5, NAME_128, 128, str(V6), "wlp0s20f3")
LITERAL = Relay(RelayKey("2001:db8:53::25", 587), Source.LINK, interface="ppp0")
HOME = Relay(RelayKey("smtp.clear.net.nz", 25), Source.STATIC)

WHOLE = Publication(
    State.DEGRADED,
    Best("vertex.tor.hookup.net", 25, Source.DNS),
    (
        ListedRelay(SIX, Verdict.FAILED, "connect: no answer from any of its addresses within 8 s, the last timed out"),
        ListedRelay(LITERAL, Verdict.FAILED, "421 too many connections"),
        ListedRelay(NOC, Verdict.FAILED, "connection refused", None),
        ListedRelay(VERTEX, Verdict.OK, "", True),
        ListedRelay(HOME),
    ),
    (
        Evidence(Address(V6, 3, "wlp0s20f3"), Outcome.FOUND, 128, NAME_128),
        Evidence(Address(V4, 4, "ppp0"), Outcome.FOUND, 16, NAME_16),
        Evidence(Address(ip_address("203.0.113.9"), 4, "ppp0", origin="nat"), Outcome.FAILED),
    ),
    changed=NOW - 190,
)  # fmt: skip
NOTHING = Publication(State.OFFLINE)


def _mx(name: str, level: int, outcome: Outcome, rcode: str, server: str = "10.0.0.53", ttl: int | None = 300) -> Asked:
    return Asked(Question(name, RRType.MX, ()), Answer(outcome, (), (), ttl, False, rcode, server, 0.0123), level)


EXPLAINED = Explanation(
    [
        _mx(NAME_128, 128, Outcome.FOUND, "NOERROR", "2001:db8:1500:1:53:53:53:53"),
        _mx(NAME_32, 32, Outcome.NONE, "NXDOMAIN"),
        _mx(NAME_24, 24, Outcome.FAILED, "SERVFAIL", ttl=None),
        _mx(NAME_16, 16, Outcome.FOUND, "NOERROR", ttl=3600),
        Asked(
            Question("noc.tor.hookup.net", RRType.A, ()),
            Answer(Outcome.FOUND, (Mx(1, "x"),), ttl=60, rcode="NOERROR", server="10.0.0.53", elapsed=1.25),
        ),
        Asked(
            Question("noc.tor.hookup.net", RRType.AAAA, ()),
            Answer(Outcome.NONE, rcode="NOERROR", server="10.0.0.53"),
        ),
    ],
    [
        Dropped("mail.tor.hookup.net", "C4", "has the own address 165.154.15.1", NAME_16, str(V4)),
        Dropped("localhost", "C2", "a single label", NAME_16, str(V4)),
    ],
)  # fmt: skip
