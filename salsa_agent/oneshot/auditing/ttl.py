"""TTLs that agents do not follow (rule E1)."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.cache import MAX_TTL, MIN_TTL
from salsa_agent.core.model import Answer
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import sanitize


def ttl(what: str, answer: Answer, names: tuple[str, ...], host: str = "") -> Iterator[Finding]:
    """What is wrong with the TTL of an answer. `what` begins the sentence; `host`: the exchange that it is of."""
    if answer.ttl is None or MIN_TTL <= answer.ttl <= MAX_TTL:
        return
    have = "have" if host else "has"
    if answer.ttl < MIN_TTL:
        yield Finding(
            Severity.WARNING,
            "ttl-too-short",
            f"{what} {have} a TTL of {answer.ttl} s; agents keep answers for {MIN_TTL} s at least.",
            f"Raise it to {MIN_TTL} s or more. If {sanitize(answer.server)} is a cache, it may be what is left of a "
            "longer one: then audit again.",
            names=names,
            exchange=host,
        )
    else:
        yield Finding(
            Severity.WARNING,
            "ttl-too-long",
            f"{what} {have} a TTL of {answer.ttl} s; agents keep answers for {MAX_TTL} s at most, other caches do not.",
            f"Lower it to {MAX_TTL} s or less.",
            names=names,
            exchange=host,
        )
