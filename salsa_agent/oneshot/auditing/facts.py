"""An audit put in order, and the words that its findings share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from salsa_agent.core.admission import address_error, canonical, hostname_error
from salsa_agent.core.model import Answer, Evidence, IPAddress, Mx, Outcome, RRType, Srv
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.selection.ordering import SERVICES, has_service
from salsa_agent.oneshot.auditing.audit import Audit

SOME = 3  # names or addresses that a sentence lists


class Facts:
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
        self.hosts = {q.name: hosts_of(answer) for q, answer in self.sets.items()}
        naming: dict[str, list[str]] = {host: [] for host in looked}
        for name, hosts in self.hosts.items():
            for host in hosts & naming.keys():
                naming[host].append(name)
        self.standing = {host: tuple(names) for host, names in naming.items()}
        self.usable = {
            host for host, answers in looked.items() if any(not address_error(ip) for ip in addresses_of(answers))
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
        return f"the {' or '.join(sorted(kinds))} set at {some(names)}"

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


def above(facts: Facts, one: Evidence) -> list[str]:
    """The names of the less specific levels of this address, the most specific first; SRV sets before the MX set."""
    levels = sorted({level for level in facts.levels.values() if level < (one.level or 0)}, reverse=True)
    names = [name_at(one.address.ip, level) for level in levels]
    asked = [(*(f"_{service}._tcp.{name}" for service in SERVICES), name) for name in names]
    return [name for level in asked for name in level if name in facts.by_name and facts.is_there(name)]


def hosts_of(answer: Answer) -> set[str]:
    """The exchanges of a set that are host names."""
    names = [*(mx.exchange for mx in answer.mx), *(srv.target for srv in answer.srv if srv.port)]
    return {host for name in names if not hostname_error(host := canonical(name))}


def addresses_of(answers: Iterable[Answer]) -> list[IPAddress]:
    return [ip for answer in answers for ip in answer.addresses]


def some(names: Iterable[str]) -> str:
    """A few of the names, and how many more there are."""
    every = list(dict.fromkeys(names))
    more = len(every) - SOME
    return ", ".join(every[:SOME]) + (f" and {more} more" if more > 0 else "")


def in_words(addresses: tuple[IPAddress, ...], asked: tuple[IPAddress, ...], every: str = "any of the") -> str:
    """These addresses in words; `every` for all that were asked about."""
    if len(asked) == 1:
        return str(asked[0])
    if len(addresses) == len(asked):
        return f"{every} {len(asked)} addresses asked about"
    return f"{len(addresses)} of the {len(asked)} addresses asked about ({some(map(str, addresses))})"
