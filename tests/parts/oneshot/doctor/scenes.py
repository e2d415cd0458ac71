"""A sound world for the doctor, and what broken ones are made of."""

from __future__ import annotations

from ipaddress import ip_address

from salsa_agent.core.model import (
    Address,
    Answer,
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Outcome,
    Publication,
    Question,
    Relay,
    RelayKey,
    RRType,
    Server,
    Source,
    State,
    Verdict,
)
from salsa_agent.oneshot.doctor.examine import as_plain, findings
from salsa_agent.oneshot.doctor.scene import Scene

NOW = 1_800_000_000.0
SERVER = Server("192.0.2.53")
NAME = "1.2.0.192.in-addr.arpa"
MX = Question(NAME, RRType.MX, (SERVER,))
FOUND = Answer(Outcome.FOUND, server="192.0.2.53")
NONE = Answer(Outcome.NONE, server="192.0.2.53")
FAILED = Answer(Outcome.FAILED, reason="192.0.2.53: timed out")
A, B = RelayKey("mx.a.example", 25), RelayKey("mx.b.test", 25)


def listed(key: RelayKey = A, verdict: Verdict = Verdict.OK, reason: str = "", *, source: Source = Source.DNS,
           wants_auth: bool = False) -> ListedRelay:  # fmt: skip
    return ListedRelay(Relay(key, source), verdict, reason, wants_auth=wants_auth)


def said(*relays: ListedRelay, outcome: Outcome = Outcome.FOUND, dropped: tuple[Dropped, ...] = ()) -> Publication:
    best = Best(*relays[0].relay.key, relays[0].relay.source) if relays else Best()
    evidence = (Evidence(Address(ip_address("192.0.2.1"), 2, "eth0"), outcome),)
    return Publication(State.READY, best, relays, evidence, dropped=dropped)


def codes(scene: Scene) -> list[tuple[str, str]]:
    return [(one["severity"], one["code"]) for one in as_plain(findings(scene))]
