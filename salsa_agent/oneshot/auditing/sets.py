"""What is wrong with MX and SRV sets at the levels of the reverse tree."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from salsa_agent.core.admission import canonical, hostname_error
from salsa_agent.core.model import Answer, IPAddress, Outcome, Question, RRType, Srv
from salsa_agent.core.selection import MAX_EXCHANGES
from salsa_agent.core.selection.ordering import has_service
from salsa_agent.oneshot.auditing.facts import Facts, hosts_of, in_words, some
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.auditing.ttl import ttl
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import sanitize


def failing(facts: Facts) -> Iterator[Finding]:
    """Levels that cannot be asked (B5), by kind."""
    kinds: dict[tuple[RRType, int, str], list[str]] = {}
    for question, level in facts.levels.items():
        answer = facts.answers[question]
        if answer.outcome is Outcome.FAILED:
            kinds.setdefault((question.rtype, level, sanitize(answer.reason)), []).append(question.name)
    for (rtype, level, reason), names in kinds.items():
        yield Finding(
            Severity.FAULT,
            "lookup-failed",
            f"{rtype} questions at /{level} fail for {some(names)}: {reason}.",
            "See to it that the zone is delegated to name servers that answer for it, and that they are up; until then "
            "agents use a less specific level, and ask again and again.",
            names=tuple(names),
        )


def nothing(facts: Facts) -> Iterator[Finding]:
    """Addresses for which there is no MX at any level, or a null MX."""
    if without := facts.decided(Outcome.NONE):
        addresses = tuple(one.address.ip for one in without)
        lowest = min(facts.levels.values())
        levels = f"/{max(facts.levels.values())} to /{lowest}" if len(set(facts.levels.values())) > 1 else f"/{lowest}"
        yield Finding(
            Severity.FAULT,
            "no-mx",
            f"No MX record at any level ({levels}) for {in_words(addresses, facts.audit.asked)}.",
            f"Publish one; 'salsactl zone {facts.audit.target} --mx PREFERENCE:HOST' prints the records.",
            addresses=addresses,
        )
    refusing: dict[str, list[IPAddress]] = {}
    for one in facts.decided(Outcome.REFUSED):
        refusing.setdefault(one.name, []).append(one.address.ip)
    for name, ips in refusing.items():
        yield Finding(
            Severity.NOTE,
            "refused",
            f"The null MX at {name} says that there is no relay for {in_words(tuple(ips), facts.audit.asked)}.",
            names=(name,),
            addresses=tuple(ips),
        )
        yield from ttl(f"The null MX at {name}", facts.answers[facts.by_name[name]], (name,))


def of_set(question: Question, answer: Answer) -> Iterator[Finding]:
    """One MX or SRV set: what agents drop of it (B7, B8, C2, C5), and its TTL (E1)."""
    name = question.name
    where = f"at {name}" + (f" (an alias of {sanitize(answer.alias_of)})" if answer.alias_of else "")
    hosts = hosts_of(answer)
    for mx in sorted(answer.mx, key=lambda mx: (mx.preference, mx.exchange)):
        host, record = canonical(mx.exchange), f'"MX {mx.preference} {sanitize(mx.exchange)}"'
        if host == "" and len(answer.mx) > 1:
            yield Finding(
                Severity.FAULT,
                "null-mx-among-others",
                f"{record} {where} stands among other MX records, and is dropped.",
                "A null MX stands alone (RFC 7505 section 3): remove it, or, if there is to be no relay, the others.",
                names=(name,),
            )
        elif host == "":
            yield Finding(
                Severity.FAULT,
                "null-mx-preference",
                f'{record} {where} is no null MX, and is dropped: that is "MX 0 ." (RFC 7505 section 3).',
                "Set its preference to 0.",
                names=(name,),
            )
        elif reason := hostname_error(host):
            advice = "Name a host, with an address record of its own, instead."
            if _is_literal(host):
                advice = "An exchange is a name: give the relay one, with an A or AAAA record, and name that."
            yield Finding(
                Severity.FAULT,
                "no-host-name",
                f"{record} {where} names no host ({reason}), and is dropped.",
                advice,
                names=(name,),
                exchange=sanitize(host),
            )
    for srv in sorted(answer.srv) if has_service(answer) else ():
        yield from _of_service(srv, where, name)
    if len(hosts) > MAX_EXCHANGES:
        yield Finding(
            Severity.FAULT,
            "too-many-exchanges",
            f"The {question.rtype} set {where} has {len(hosts)} exchanges; agents use the {MAX_EXCHANGES} best ones "
            "only.",
            f"Leave no more than {MAX_EXCHANGES}; one name may have several addresses.",
            names=(name,),
        )
    yield from ttl(f"The {question.rtype} set {where}", answer, (name,))


def _of_service(srv: Srv, where: str, name: str) -> Iterator[Finding]:
    """One SRV record that agents may drop (B8, C2)."""
    host, record = canonical(srv.target), f'"SRV {srv.priority} {srv.weight} {srv.port} {sanitize(srv.target)}"'
    if host == "":
        yield Finding(
            Severity.FAULT,
            "no-service-among-others",
            f"{record} {where} stands among other SRV records, and is dropped.",
            'The target "." stands alone (RFC 2782): remove it, or, if there is to be no service, the others.',
            names=(name,),
        )
    elif reason := hostname_error(host):
        yield Finding(
            Severity.FAULT,
            "no-host-name",
            f"{record} {where} names no host ({reason}), and is dropped.",
            "Name a host, with an address record of its own, instead.",
            names=(name,),
            exchange=sanitize(host),
        )
    elif srv.port == 0:
        yield Finding(
            Severity.FAULT,
            "no-port",
            f"{record} {where} has port 0, and is dropped.",
            "Give the port that the relay listens on, such as 465 for _submissions.",
            names=(name,),
            exchange=host,
        )


def of_services(facts: Facts) -> Iterator[Finding]:
    """Levels with SRV records alone: most hosts do not ask for them (B8)."""
    alone: dict[str, list[IPAddress]] = {}
    for one in facts.decided(Outcome.FOUND):
        level = one.name.partition("._tcp.")[2]
        if level and facts.answers[facts.by_name[level]].outcome is Outcome.NONE:
            alone.setdefault(one.name, []).append(one.address.ip)
    for name, ips in alone.items():
        yield Finding(
            Severity.NOTE,
            "no-mx-beside-srv",
            f"SRV records stand at {name} without an MX set at their level; agents ask for SRV records only where "
            f"dns.srv is true, others find a less specific level or nothing for "
            f"{in_words(tuple(ips), facts.audit.asked)}.",
            "Publish an MX set, or a null MX, at the same level.",
            names=(name,),
            addresses=tuple(ips),
        )


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
