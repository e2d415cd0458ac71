"""What is wrong with the hosts that the sets name: their addresses, and how they answer."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.admission import address_error, canonical
from salsa_agent.core.model import IPAddress, Outcome, Verdict
from salsa_agent.core.selection import MAX_ADDRESSES, MAX_RELAYS
from salsa_agent.oneshot.auditing.facts import SOME, Facts, addresses_of, in_words, some
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.auditing.ttl import ttl
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import sanitize


def of_exchange(facts: Facts, host: str) -> Iterator[Finding]:
    """One exchange: its addresses (C3, C5), the aliases before them, their TTL."""
    answers, names = facts.exchanges[host], facts.standing[host]
    at = facts.set_at(names)
    addresses = addresses_of(answers)
    failed = [answer for answer in answers if answer.outcome is Outcome.FAILED]
    banned = [ip for ip in addresses if address_error(ip)]
    usable = [ip for ip in addresses if ip not in banned]
    if alias := next((answer.alias_of for answer in answers if answer.alias_of), ""):
        yield Finding(
            Severity.FAULT,
            "alias-exchange",
            f"The exchange {host} is an alias (CNAME) of {sanitize(canonical(alias))}.",
            f"Name {sanitize(canonical(alias))} itself in {at}: "
            "an exchange must not be an alias (RFC 2181 section 10.3).",
            names=names,
            exchange=host,
        )
    if failed:
        yield Finding(
            Severity.WARNING if usable else Severity.FAULT,
            "exchange-lookup-failed",
            f"Address lookups of the exchange {host} fail: {sanitize(failed[0].reason)}.",
            "See to it that its zone is delegated to name servers that answer for it, and that they are up.",
            names=names,
            exchange=host,
        )
    elif not addresses:
        yield Finding(
            Severity.FAULT,
            "no-address",
            f"The exchange {host} has no A or AAAA record.",
            f"Add one, or remove {host} from {at}.",
            names=names,
            exchange=host,
        )
    if banned:
        unusable = ", ".join(f"{ip} ({address_error(ip)})" for ip in banned[:SOME])
        yield Finding(
            Severity.WARNING if usable else Severity.FAULT,
            "unusable-address",
            f"The exchange {host} has {'' if usable else 'only '}addresses that agents do not speak to: {unusable}.",
            "Remove them." if usable else f"Give it one that hosts reach, or remove {host} from {at}.",
            names=names,
            exchange=host,
        )
    for answer in answers:
        if len(answer.addresses) > MAX_ADDRESSES:
            yield Finding(
                Severity.WARNING,
                "too-many-addresses",
                f"The exchange {host} has {len(answer.addresses)} addresses; agents keep {MAX_ADDRESSES} at most.",
                "Give the others to a second exchange.",
                names=names,
                exchange=host,
            )
    for answer in answers:
        if answer.addresses:
            family = "A" if answer.addresses[0].version == 4 else "AAAA"
            yield from ttl(f"The {family} records of the exchange {host}", answer, names, host)


def no_way_out(facts: Facts) -> Iterator[Finding]:
    """Sets that decide though none of their exchanges is usable (B3), and relays beyond what was looked at (C5)."""
    decided: dict[str, list[IPAddress]] = {}
    for one in facts.decided(Outcome.FOUND):
        decided.setdefault(one.name, []).append(one.address.ip)
    for name, ips in decided.items():
        sets = facts.at_level(name)
        if not any(facts.usable & facts.hosts[one] for one in sets):
            addresses = tuple(ips)
            yield Finding(
                Severity.FAULT,
                "no-usable-exchange",
                f"No exchange of the {facts.by_name[name].rtype} set at {some(sets)} is usable, "
                f"and agents look no further: there is no relay for {in_words(addresses, facts.audit.asked)}.",
                "Repair the set, or remove it, so that a less specific one decides.",
                names=tuple(sets),
                addresses=addresses,
            )
    if len(facts.choice.relays) >= MAX_RELAYS:
        yield Finding(
            Severity.NOTE,
            "not-all-relays",
            f"The first {MAX_RELAYS} relays were looked at only.",
            "Audit parts of the prefix.",
        )


def of_relays(facts: Facts) -> Iterator[Finding]:
    """Relays that do not answer as one should (D1, D7)."""
    for key, result in facts.audit.checks.items():
        names = facts.standing.get(key.host, ())
        if result.verdict is Verdict.FAILED:
            yield Finding(
                Severity.FAULT,
                "relay-failed",
                f"The relay {key.host}, port {key.port}, does not answer as it should: {sanitize(result.reason)}.",
                f"Have it answer the hosts of {facts.audit.target}, or remove it from {facts.set_at(names)}. "
                "If it refuses this host alone, audit from inside the prefix.",
                names=names,
                exchange=key.host,
            )
        elif result.starttls is False:
            yield Finding(
                Severity.NOTE,
                "no-starttls",
                f"The relay {key.host}, port {key.port}, does not offer STARTTLS: hosts that ask for it pass it over.",
                names=names,
                exchange=key.host,
            )
