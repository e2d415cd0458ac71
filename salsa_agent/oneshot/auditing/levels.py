"""Levels that hide others, or that temporary addresses do not see."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.model import IPAddress, Outcome
from salsa_agent.core.reverse_names import TEMPORARY_FROM
from salsa_agent.oneshot.auditing.facts import Facts, above, in_words
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.severity import Severity


def hidden(facts: Facts) -> Iterator[Finding]:
    """A level that decides, with another set than one above it (B3): it may be meant, or left over."""
    pairs: dict[tuple[str, str], list[IPAddress]] = {}
    for one in facts.decided(Outcome.FOUND, Outcome.REFUSED):
        here = facts.records(facts.at_level(one.name))
        for name in above(facts, one):
            if facts.answers[facts.by_name[name]].outcome not in (Outcome.FOUND, Outcome.REFUSED):
                continue
            if facts.records(facts.at_level(name)) != here:
                pairs.setdefault((one.name, name), []).append(one.address.ip)
            break  # what is further up is hidden by that one
    for (name, above_name), ips in pairs.items():
        level, above_level = facts.levels[facts.by_name[name]], facts.levels[facts.by_name[above_name]]
        yield Finding(
            Severity.NOTE,
            "hides-level",
            f"What is published at /{level} ({name}) hides other records at /{above_level} ({above_name}) from "
            f"{in_words(tuple(ips), facts.audit.asked, every='all')}.",
            "If that is not meant, remove the more specific records.",
            names=(name, above_name),
            addresses=tuple(ips),
        )


def temporary(facts: Facts) -> Iterator[Finding]:
    """IPv6 addresses with records below /64 only: a temporary one has none (B1)."""
    missing = [
        one.address.ip
        for one in facts.decided(Outcome.FOUND)
        if one.address.ip.version == 6
        and (one.level or 0) > TEMPORARY_FROM
        and not any(
            facts.answers[facts.by_name[name]].outcome in (Outcome.FOUND, Outcome.REFUSED)
            for name in above(facts, one)
            if facts.levels[facts.by_name[name]] <= TEMPORARY_FROM
        )
    ]
    if missing:
        yield Finding(
            Severity.NOTE,
            "temporary-addresses",
            f"Records stand below /{TEMPORARY_FROM} only for "
            f"{in_words(tuple(missing), facts.audit.asked, every='all')}; "
            f"hosts ask from /{TEMPORARY_FROM} up for a temporary address (RFC 8981), and find none.",
            f"Publish at /{TEMPORARY_FROM} or less specific.",
            addresses=tuple(missing),
        )
