"""Everything a DNS server can do wrong, at one level, at all of them, and for the address of an exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.lab.whole import FULL, HOME, NET16, NET24, NOC, RELAYS, VERTEX
from tests.torture.trial import CONFIG, DNS_PART, RETRIES, ROUND, VERIFY, ZONE, A, Trial, fault

Node = Mapping[str, Any]

LONG = ".".join(["x" * 63] * 3 + ["y" * 57, "net"])  # 253 characters, 255 bytes
LOOP = {"one.loop.example": {"CNAME": ["two.loop.example."]}, "two.loop.example": {"CNAME": ["one.loop.example."]}}
CHAIN = {f"c{n}.chain.example": {"CNAME": [f"c{n + 1}.chain.example."]} for n in range(40)}

FAILING: dict[str, Node] = {
    "every query dropped": {"*": {"silent": True}},
    "answers after the deadline": {"*": {"delay": 6.0, "answer": []}},
    "SERVFAIL": {"*": {"rcode": "SERVFAIL"}},
    "REFUSED": {"*": {"rcode": "REFUSED"}},
    "FORMERR": {"*": {"rcode": "FORMERR"}},
    "NOTIMP": {"*": {"rcode": "NOTIMP"}},
    "garbage for an answer": {"*": {"silent": True, "faults": ["garbage"]}},
    "an answer of five bytes": {"*": {"silent": True, "faults": ["short"]}},
    "the query sent back": {"*": {"silent": True, "faults": ["query"]}},
    "a lie with the wrong id": {"*": {"silent": True, "faults": ["id"]}},
    "a lie about another name": {"*": {"silent": True, "faults": ["question"]}},
    "a lie from another port": {"*": {"silent": True, "faults": ["source"]}},
    "truncated, TCP closed at once": {"*": {"truncated": True, "tcp": "close"}},
    "truncated, TCP silent": {"*": {"truncated": True, "tcp": "silent"}},
    "truncated over TCP, too": {"*": {"truncated": True, "tcp": "truncated"}},
    "half an answer over TCP": {"*": {"truncated": True, "tcp": "drip"}},
    "a CNAME loop": {"CNAME": ["one.loop.example."]},
    "a chain of 40 CNAMEs": {"CNAME": ["c0.chain.example."]},
    "a referral": {"*": {"soa": None, "authority": ["in-addr.arpa. 300 IN NS ns.example."]}},
}
GOOD = [f"10 {NOC}.", f"20 {VERTEX}."]
# as many octets as a message holds, in fewer records than are read of one (512): the server sends them in any order
MANY = [f"host{n:04}.{'x' * 60}.{'y' * 50}.example.org" for n in range(460)]
HARMLESS: dict[str, Node] = {
    "the first query dropped": {"MX": {"answer": GOOD, "drop": 1}},
    "an answer just in time": {"MX": {"answer": GOOD, "delay": 0.2}},
    "lies before the answer": {"MX": {"answer": GOOD, "faults": ["id", "question", "source", "garbage", "query"]}},
    "truncated, TCP works": {"MX": {"answer": GOOD, "truncated": True}},
    "lies over TCP before the answer": {
        "MX": {"answer": GOOD, "truncated": True, "faults": ["id", "question", "garbage", "query"]}
    },
    "an answer of 64 KiB": {"MX": [*GOOD, *(f"{n + 30} {name}." for n, name in enumerate(MANY))]},
    "a CNAME to a name of 255 bytes": {"CNAME": [f"{LONG}."]},
    "records nobody asked for": {
        "MX": {"answer": GOOD, "additional": [f"{NOC}. 300 IN A 203.0.113.99", "lie.example. 300 IN A 203.0.113.9"]}
    },
    "a TTL of 0": {"MX": {"answer": GOOD, "ttl": 0}},
    "a TTL of 2^31 - 1": {"MX": {"answer": GOOD, "ttl": 2**31 - 1}},
}
ALIASES = LOOP | CHAIN | {LONG: {"MX": GOOD}}


def _one_level(trial: Trial, node: Node) -> None:
    """B5: the next less specific level is used, and the failed one asked again."""
    trial.world.publish(ZONE | ALIASES | {NET24: dict(node)})
    trial.start()
    trial.roam(A)
    trial.expect(NOC, ROUND, "degraded")
    trial.world.publish(ZONE | {NET24: {"MX": [f"5 {VERTEX}."]}})
    trial.expect(VERTEX, RETRIES[1] + ROUND, "ready")


def _all_levels(trial: Trial, node: Node) -> None:
    """`failed` is never `none`: the static relay for the time being, and all is asked again."""
    trial.world.publish(ZONE | ALIASES | {key: dict(node) for key in (FULL, NET24, NET16)})
    trial.start()
    trial.roam(A)
    trial.expect(HOME, ROUND, "degraded")
    trial.world.publish(ZONE)
    trial.expect(NOC, RETRIES[1] + ROUND, "ready")


def _address(trial: Trial, node: Node) -> None:
    """The exchange is left out meanwhile (B5)."""
    trial.world.publish(ZONE | ALIASES | {NOC: dict(node)})
    trial.start()
    trial.roam(A)
    trial.expect(VERTEX, ROUND, "degraded")
    trial.world.publish(ZONE)
    trial.expect(NOC, RETRIES[1] + ROUND, "ready")


def _harmless(trial: Trial, node: Node) -> None:
    trial.world.publish(ZONE | ALIASES | {NET16: dict(node)})
    trial.allowed |= set(MANY)
    # with time for the lab's server, which takes its own to put 64 KiB together, and the machine with it
    slow = "64 KiB" in trial.row.fault
    patient = CONFIG.replace("dns.timeout = 0.5", "dns.timeout = 5.0").replace(
        "verify.timeout = 2.0", "verify.timeout = 8.0"
    )
    trial.start(config=patient if slow else CONFIG)
    trial.roam(A)
    trial.expect(NOC, 10 * DNS_PART + VERIFY if slow else ROUND, "ready")


def _register() -> None:
    for name, node in FAILING.items():
        for where, case in (("one level", _one_level), ("all levels", _all_levels), ("an exchange", _address)):
            fault("DNS", f"{name}: {where}")(lambda trial, case=case, node=node: case(trial, node))  # type: ignore[misc]
    for name, node in HARMLESS.items():
        fault("DNS", name)(lambda trial, node=node: _harmless(trial, node))  # type: ignore[misc]


_register()


@fault("DNS", "an exchange of 255 bytes")
def long_exchange(trial: Trial) -> None:
    trial.world.publish(ZONE | {NET24: {"MX": [f"5 {LONG}."]}, LONG: {"A": [RELAYS[NOC]]}})
    trial.allowed |= {LONG}
    trial.start()
    trial.roam(A)
    trial.expect(LONG, ROUND, "ready")


@fault("DNS", "the server dies with the network change, and comes back")
def dies(trial: Trial) -> None:
    trial.start()
    trial.world.far.ip("addr", "del", "192.0.2.53/32", "dev", "down0")
    trial.world.far.ip("route", "add", "blackhole", "192.0.2.53/32")
    try:
        trial.roam(A)
        trial.expect(HOME, ROUND, "degraded")
    finally:
        trial.world.far.ip("route", "del", "blackhole", "192.0.2.53/32")
        trial.world.far.ip("addr", "add", "192.0.2.53/32", "dev", "down0")
    trial.expect(NOC, RETRIES[1] + ROUND, "ready")


@fault("DNS", "all fails on an unchanged network, after its TTL")
def stale(trial: Trial) -> None:
    """E5: what was found stands. The TTL is at least a minute (E1), so Refresh makes it be asked again."""
    trial.start()
    trial.roam(A)
    trial.expect(NOC, ROUND, "ready")
    trial.world.publish(ZONE | {key: {"*": {"silent": True}} for key in (FULL, NET24, NET16)})
    trial.world.call("Refresh")
    trial.expect(NOC, ROUND, "degraded")
