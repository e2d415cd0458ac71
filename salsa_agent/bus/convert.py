"""The agent's values as D-Bus values (dbus/org.salsa.Agent1.xml).

Nothing here raises, whatever the network put into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from salsa_agent.bus.codec import Value
from salsa_agent.bus.interface import STATISTICS
from salsa_agent.core.model import (
    SUBMISSIONS_PORT,
    Asked,
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    RRType,
    SenderChoice,
)
from salsa_agent.text import clean

Dict = dict[str, Value]
RealtimeUs = Callable[[float], int]


def relay(listed: ListedRelay, realtime_us: RealtimeUs) -> Dict:
    """An entry of `Relays`."""
    of = listed.relay
    found = {
        "host": text(of.key.host),
        "port": number("q", of.key.port),
        "source": text(of.source),
        "verdict": text(listed.verdict),
    }
    if listed.reason:
        found["reason"] = text(listed.reason)
    if of.preference is not None:
        found["preference"] = number("q", of.preference)
    if of.name:
        found["name"] = text(of.name)
    if of.level is not None:
        found["level"] = number("y", of.level)
    if of.address:
        found["address"] = text(of.address)
    if of.interface:
        found["interface"] = text(of.interface)
    if of.authenticated is not None:
        found["authenticated"] = Value("b", of.authenticated)
    if listed.starttls is not None:
        found["starttls"] = Value("b", listed.starttls)
    if spoken := tls(listed):
        found["tls"] = text(spoken)
    if listed.auth is not None:
        found["auth"] = Value("b", listed.auth)
    if listed.wants_auth:
        found["wants_auth"] = Value("b", True)
    if of.site:
        found["site"] = text(of.site)
    if of.expires is not None:
        found["expires"] = number("t", realtime_us(of.expires))
    return found


def tls(listed: ListedRelay) -> str:
    """How a relay is to be spoken to (rule D10): `implicit`, `starttls`, `none`; empty: not known."""
    return "implicit" if listed.relay.implicit_tls else listed.tls


def tls_of(best: Best, relays: Sequence[ListedRelay]) -> str:
    """The same of the best relay of this list; empty without one."""
    if not best.host:
        return ""
    found = next((tls(listed) for listed in relays if listed.relay.key == (best.host, best.port)), "")
    return found or ("implicit" if best.port == SUBMISSIONS_PORT else "")


def sender(of: SenderChoice) -> Dict:
    """An entry of `Senders`."""
    return {
        "address": Value("as", [clean(pattern) for pattern in of.address]),
        "network": text(of.network),
        "host": text(of.best.host),
        "port": number("q", of.best.port),
        "source": text(of.best.source),
        "tls": text(tls_of(of.best, of.relays)),
    }


def statistics(counters: Mapping[str, int]) -> Value:
    """The property `Statistics`; what is not counted is 0."""
    return Value("a{st}", {name: number("t", counters.get(name, 0)).value for name in STATISTICS})


def evidence(of: Evidence) -> Dict:
    """An entry of `Addresses`."""
    found = {
        "address": text(str(of.address.ip)),
        "interface": text(of.address.interface),
        "origin": text(of.address.origin),
        "outcome": text(of.outcome),
    }
    if of.level is not None:
        found["level"] = number("y", of.level)
    if of.name:
        found["name"] = text(of.name)
    if of.site:
        found["site"] = text(of.site)
    return found


def asked(of: Asked) -> Dict:
    """An entry of `questions`, in `Lookup` and `Explain`. `ttl` 0: the answer has none."""
    found = {
        "name": text(of.question.name),
        "type": text(of.question.rtype),
        "outcome": text(of.answer.outcome),
        "rcode": text(of.answer.rcode),
        "server": text(of.answer.server),
        "elapsed": number("t", of.answer.elapsed * 1_000_000),
        "ttl": number("u", of.answer.ttl or 0),
    }
    if of.level is not None and of.question.rtype is RRType.MX:
        found["level"] = number("y", of.level)
    return found


def dropped(of: Dropped) -> Dict:
    """An entry of `dropped`, in `Explain`."""
    return {
        "host": text(of.host),
        "rule": text(of.rule),
        "reason": text(of.reason),
        "name": text(of.name),
        "address": text(of.address),
    }


def text(value: str) -> Value:
    """A string, without what a D-Bus string must not hold (NUL, surrogates) or a terminal should not see."""
    return Value("s", clean(value))


_LAST: dict[str, int] = {"y": 0xFF, "q": 0xFFFF, "u": 0xFFFF_FFFF, "t": 0xFFFF_FFFF_FFFF_FFFF}


def number(kind: str, value: Any) -> Value:
    """An unsigned number of type `kind`, brought into its range."""
    return Value(kind, max(0, min(int(value), _LAST[kind])))
