"""What is wrong with what is published for a prefix, in words that say what to change. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from itertools import chain

from salsa_agent.core.admission import address_error, canonical, hostname_error
from salsa_agent.core.cache import MAX_TTL, MIN_TTL
from salsa_agent.core.model import Answer, Evidence, IPAddress, Mx, Outcome, Question, RRType, Srv, Verdict
from salsa_agent.core.reverse_names import TEMPORARY_FROM, name_at
from salsa_agent.core.selection import MAX_ADDRESSES, MAX_EXCHANGES, MAX_RELAYS
from salsa_agent.core.selection.ordering import SERVICES, has_service
from salsa_agent.oneshot.auditing.audit import Audit
from salsa_agent.text import sanitize

_SOME = 3  # names or addresses that a sentence lists


class Severity(StrEnum):
    """How bad it is. `FAULT`: mail relays are not found or not used as they are published."""

    FAULT = "fault"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to change, or to know. `code`: the same word for the same kind; all texts are printable ASCII.

    `names`: reverse names; `exchange`: a host name; `addresses`: those of the prefix that it is about.
    """

    severity: Severity
    code: str
    problem: str
    change: str = ""
    names: tuple[str, ...] = ()
    exchange: str = ""
    addresses: tuple[IPAddress, ...] = ()


def findings(audit: Audit) -> list[Finding]:
    """Everything that was found, the worst first."""
    facts = _Facts(audit)
    found = [
        *_failing(facts),
        *_nothing(facts),
        *(finding for question, answer in facts.sets.items() for finding in _of_set(question, answer)),
        *_of_services(facts),
        *(finding for host in facts.exchanges for finding in _of_exchange(facts, host)),
        *_no_way_out(facts),
        *_of_relays(facts),
        *_hidden(facts),
        *_temporary(facts),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


class _Facts:
    """An audit, put in order. `sets`: questions at levels that found records; `exchanges`: hosts, with address answers.

    `hosts`: the exchanges of a name's set that are host names; `standing`: the names whose sets have an exchange.
    """

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self.choice = audit.choice
        self.levels = {question: level for question, level in audit.choice.wanted.items() if level is not None}
        self.by_name = {question.name: question for question in self.levels}
        self.answers = audit.answers
        self.sets = {q: audit.answers[q] for q in self.levels if audit.answers[q].outcome is Outcome.FOUND}
        looked: dict[str, list[Answer]] = {}
        for question in audit.choice.wanted:
            if question.rtype in (RRType.A, RRType.AAAA):
                looked.setdefault(question.name, []).append(audit.answers[question])
        self.exchanges = looked
        self.hosts = {q.name: _hosts(answer) for q, answer in self.sets.items()}
        naming: dict[str, list[str]] = {host: [] for host in looked}
        for name, hosts in self.hosts.items():
            for host in hosts & naming.keys():
                naming[host].append(name)
        self.standing = {host: tuple(names) for host, names in naming.items()}
        self.usable = {
            host for host, answers in looked.items() if any(not address_error(ip) for ip in _addresses(answers))
        }

    def at_level(self, name: str) -> list[str]:
        """The names of the sets that decide together with that at `name`: SRV sets of both services (B8)."""
        question = self.by_name[name]
        if question.rtype is not RRType.SRV:
            return [name]
        level = name.partition("._tcp.")[2]
        names = (f"_{service}._tcp.{level}" for service in SERVICES)
        return [one for one in names if one in self.by_name and has_service(self.answers[self.by_name[one]])]

    def set_at(self, names: Sequence[str]) -> str:
        """The set at these names, in words."""
        kinds = {self.by_name[name].rtype for name in names} or {RRType.MX}
        return f"the {' or '.join(sorted(kinds))} set at {_some(names)}"

    def is_there(self, name: str) -> bool:
        """Whether a level may be decided by what stands at this name, and not by a `.` in its place (B8)."""
        question = self.by_name[name]
        return question.rtype is not RRType.SRV or has_service(self.answers[question])

    def records(self, names: Iterable[str]) -> frozenset[Mx | Srv]:
        """What stands at these names."""
        answers = [self.answers[self.by_name[name]] for name in names]
        return frozenset(chain(*(answer.mx for answer in answers), *(answer.srv for answer in answers)))

    def decided(self, *outcomes: Outcome) -> list[Evidence]:
        return [one for one in self.choice.evidence if one.outcome in outcomes]


def _failing(facts: _Facts) -> Iterator[Finding]:
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
            f"{rtype} questions at /{level} fail for {_some(names)}: {reason}.",
            "See to it that the zone is delegated to name servers that answer for it, and that they are up; until then "
            "agents use a less specific level, and ask again and again.",
            names=tuple(names),
        )


def _nothing(facts: _Facts) -> Iterator[Finding]:
    """Addresses for which there is no MX at any level, or a null MX."""
    if without := facts.decided(Outcome.NONE):
        addresses = tuple(one.address.ip for one in without)
        lowest = min(facts.levels.values())
        levels = f"/{max(facts.levels.values())} to /{lowest}" if len(set(facts.levels.values())) > 1 else f"/{lowest}"
        yield Finding(
            Severity.FAULT,
            "no-mx",
            f"No MX record at any level ({levels}) for {_of(addresses, facts.audit.asked)}.",
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
            f"The null MX at {name} says that there is no relay for {_of(tuple(ips), facts.audit.asked)}.",
            names=(name,),
            addresses=tuple(ips),
        )
        yield from _ttl(f"The null MX at {name}", facts.answers[facts.by_name[name]], (name,))


def _of_set(question: Question, answer: Answer) -> Iterator[Finding]:
    """One MX or SRV set: what agents drop of it (B7, B8, C2, C5), and its TTL (E1)."""
    name = question.name
    where = f"at {name}" + (f" (an alias of {sanitize(answer.alias_of)})" if answer.alias_of else "")
    hosts = _hosts(answer)
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
    yield from _ttl(f"The {question.rtype} set {where}", answer, (name,))


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


def _of_services(facts: _Facts) -> Iterator[Finding]:
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
            f"dns.srv is true, others find a less specific level or nothing for {_of(tuple(ips), facts.audit.asked)}.",
            "Publish an MX set, or a null MX, at the same level.",
            names=(name,),
            addresses=tuple(ips),
        )


def _of_exchange(facts: _Facts, host: str) -> Iterator[Finding]:
    """One exchange: its addresses (C3, C5), the aliases before them, their TTL."""
    answers, names = facts.exchanges[host], facts.standing[host]
    at = facts.set_at(names)
    addresses = _addresses(answers)
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
        listed = ", ".join(f"{ip} ({address_error(ip)})" for ip in banned[:_SOME])
        yield Finding(
            Severity.WARNING if usable else Severity.FAULT,
            "unusable-address",
            f"The exchange {host} has {'' if usable else 'only '}addresses that agents do not speak to: {listed}.",
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
            yield from _ttl(f"The {family} records of the exchange {host}", answer, names, host)


def _ttl(what: str, answer: Answer, names: tuple[str, ...], host: str = "") -> Iterator[Finding]:
    """TTLs that agents do not follow (E1)."""
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


def _no_way_out(facts: _Facts) -> Iterator[Finding]:
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
                f"No exchange of the {facts.by_name[name].rtype} set at {_some(sets)} is usable, "
                f"and agents look no further: there is no relay for {_of(addresses, facts.audit.asked)}.",
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


def _of_relays(facts: _Facts) -> Iterator[Finding]:
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


def _hidden(facts: _Facts) -> Iterator[Finding]:
    """A level that decides, with another set than one above it (B3): it may be meant, or left over."""
    pairs: dict[tuple[str, str], list[IPAddress]] = {}
    for one in facts.decided(Outcome.FOUND, Outcome.REFUSED):
        here = facts.records(facts.at_level(one.name))
        for name in _above(facts, one):
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
            f"{_of(tuple(ips), facts.audit.asked, every='all')}.",
            "If that is not meant, remove the more specific records.",
            names=(name, above_name),
            addresses=tuple(ips),
        )


def _temporary(facts: _Facts) -> Iterator[Finding]:
    """IPv6 addresses with records below /64 only: a temporary one has none (B1)."""
    missing = [
        one.address.ip
        for one in facts.decided(Outcome.FOUND)
        if one.address.ip.version == 6
        and (one.level or 0) > TEMPORARY_FROM
        and not any(
            facts.answers[facts.by_name[name]].outcome in (Outcome.FOUND, Outcome.REFUSED)
            for name in _above(facts, one)
            if facts.levels[facts.by_name[name]] <= TEMPORARY_FROM
        )
    ]
    if missing:
        yield Finding(
            Severity.NOTE,
            "temporary-addresses",
            f"Records stand below /{TEMPORARY_FROM} only for {_of(tuple(missing), facts.audit.asked, every='all')}; "
            f"hosts ask from /{TEMPORARY_FROM} up for a temporary address (RFC 8981), and find none.",
            f"Publish at /{TEMPORARY_FROM} or less specific.",
            addresses=tuple(missing),
        )


def _above(facts: _Facts, one: Evidence) -> list[str]:
    """The names of the less specific levels of this address, the most specific first; SRV sets before the MX set."""
    levels = sorted({level for level in facts.levels.values() if level < (one.level or 0)}, reverse=True)
    names = [name_at(one.address.ip, level) for level in levels]
    asked = [(*(f"_{service}._tcp.{name}" for service in SERVICES), name) for name in names]
    return [name for level in asked for name in level if name in facts.by_name and facts.is_there(name)]


def _hosts(answer: Answer) -> set[str]:
    """The exchanges of a set that are host names."""
    names = [*(mx.exchange for mx in answer.mx), *(srv.target for srv in answer.srv if srv.port)]
    return {host for name in names if not hostname_error(host := canonical(name))}


def _addresses(answers: Iterable[Answer]) -> list[IPAddress]:
    return [ip for answer in answers for ip in answer.addresses]


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _some(names: Iterable[str]) -> str:
    """A few of the names, and how many more there are."""
    every = list(dict.fromkeys(names))
    more = len(every) - _SOME
    return ", ".join(every[:_SOME]) + (f" and {more} more" if more > 0 else "")


def _of(addresses: tuple[IPAddress, ...], asked: tuple[IPAddress, ...], every: str = "any of the") -> str:
    """These addresses in words; `every` for all that were asked about."""
    if len(asked) == 1:
        return str(asked[0])
    if len(addresses) == len(asked):
        return f"{every} {len(asked)} addresses asked about"
    return f"{len(addresses)} of the {len(asked)} addresses asked about ({_some(map(str, addresses))})"
