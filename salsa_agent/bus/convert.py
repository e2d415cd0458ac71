"""The agent's values as D-Bus values (design section 4). Nothing here raises, whatever the network put into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from salsa_agent.bus.codec import Value
from salsa_agent.core.model import Asked, Dropped, Evidence, ListedRelay, RRType
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
    if of.expires is not None:
        found["expires"] = number("t", realtime_us(of.expires))
    return found


def same_but_for_expires(before: tuple[ListedRelay, ...], now: tuple[ListedRelay, ...]) -> bool:
    """Whether these lists are the same to a follower (H1)."""
    return len(before) == len(now) and all(map(_same, before, now))


def _same(before: ListedRelay, now: ListedRelay) -> bool:
    return before == now or (before.relay.key == now.relay.key and _lasting(before) == _lasting(now))


def _lasting(listed: ListedRelay) -> ListedRelay:
    # what an entry is spoken to at is not published either
    return listed._replace(relay=listed.relay._replace(expires=None, addresses=()))


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
