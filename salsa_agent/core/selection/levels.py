"""Rules B3 to B8: which level of the reverse tree decides for an address."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from salsa_agent.core import reverse_names
from salsa_agent.core.cache import CachedAnswer
from salsa_agent.core.model import Address, Evidence, Outcome, Question, RRType, Server
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.ordering import has_service, srv_questions
from salsa_agent.core.settings import Network


class LevelSet(NamedTuple):
    """The records that a level has for an address: its MX set, or the SRV sets that stand in its place (B8).

    `answers`: one, or of SRV sets one for each service that is there, best first.
    """

    address: Address
    level: int
    answers: tuple[tuple[Question, CachedAnswer], ...]

    @property
    def servers(self) -> tuple[Server, ...]:
        """Those that gave the set."""
        return self.answers[0][0].servers

    @property
    def is_srv(self) -> bool:
        """Whether these are SRV sets."""
        return self.answers[0][0].rtype is RRType.SRV


class LevelQuestions(NamedTuple):
    """What is asked at one level. `srv`: for both services in the order of `SERVICES` (B8); empty: not asked."""

    level: int
    mx: Question
    srv: tuple[Question, ...] = ()


class Climb(NamedTuple):
    """What the reverse tree says for one address.

    `questions`: all of its levels. `evidence`: None where nothing is asked, since its family is turned off. `decided`:
    the set that decides. `settled`: no pending answer can change that. `candidate`: while that is not so, the most
    specific set that is known already.
    """

    questions: tuple[tuple[Question, int], ...] = ()
    evidence: Evidence | None = None
    decided: LevelSet | None = None
    settled: bool = True
    candidate: LevelSet | None = None


class _Found(NamedTuple):
    """What one level comes to. `used`: the answers that say so."""

    outcome: Outcome
    name: str
    used: tuple[tuple[Question, CachedAnswer], ...] = ()
    records: LevelSet | None = None


def climb(address: Address, inputs: SelectionInput, answers: Answers) -> Climb:
    """From the most specific level on: the first with records or a null MX decides (B3, B7).

    NXDOMAIN and NODATA lead on to the next level (B4), and so does a failure (B5). A level decides only when all that
    are more specific have been answered or have failed.
    """
    levels = _levels(address, inputs.settings.network, inputs.settings.dns.srv, inputs.view.of_link(address.ifindex))
    if not levels:
        return Climb()
    questions = tuple((question, one.level) for one in levels for question in (one.mx, *one.srv))
    failed = False
    for place, one in enumerate(levels):
        found = _at_level(address, one, answers)
        if found.outcome is Outcome.PENDING:
            evidence = Evidence(address, Outcome.PENDING)
            return Climb(questions, evidence, settled=False, candidate=_candidate(address, levels[place:], answers))
        for question, cached in found.used:
            answers.use(question, cached)
        if found.outcome in (Outcome.FOUND, Outcome.REFUSED):
            return Climb(questions, Evidence(address, found.outcome, one.level, found.name), found.records)
        failed |= found.outcome is Outcome.FAILED
    return Climb(questions, Evidence(address, Outcome.FAILED if failed else Outcome.NONE))


def _at_level(address: Address, asked: LevelQuestions, answers: Answers) -> _Found:
    """Its SRV sets where it has any (B8), else what its MX answer says; known once no pending answer can change it."""
    pending = _Found(Outcome.PENDING, asked.mx.name)
    srv = [(question, cached) for question in asked.srv if (cached := answers.known(question)) is not None]
    if len(srv) < len(asked.srv):
        return pending
    if records := _srv_sets(address, asked.level, srv):
        return _Found(Outcome.FOUND, records.answers[0][0].name, tuple(srv), records)
    cached = answers.known(asked.mx)
    if cached is None:
        return pending
    used = ((asked.mx, cached), *srv)
    outcome = cached.answer.outcome
    if outcome is Outcome.NONE and any(one.answer.outcome is Outcome.FAILED for _, one in srv):
        outcome = Outcome.FAILED  # B5: it is not known that there is nothing
    records = LevelSet(address, asked.level, ((asked.mx, cached),)) if outcome is Outcome.FOUND else None
    return _Found(outcome, asked.mx.name, used, records)


def _srv_sets(address: Address, level: int, srv: Iterable[tuple[Question, CachedAnswer]]) -> LevelSet | None:
    found = tuple((question, cached) for question, cached in srv if has_service(cached.answer))
    return LevelSet(address, level, found) if found else None


def _candidate(address: Address, levels: Iterable[LevelQuestions], answers: Answers) -> LevelSet | None:
    """The most specific set that is known already."""
    for one in levels:
        known = [(question, cached) for question in one.srv if (cached := answers.known(question)) is not None]
        if records := _srv_sets(address, one.level, known):
            return records
        cached = answers.known(one.mx)
        if cached is not None and cached.answer.outcome is Outcome.FOUND:
            return LevelSet(address, one.level, ((one.mx, cached),))
    return None


@lru_cache(maxsize=256)
def _levels(address: Address, network: Network, srv: bool, servers: tuple[Server, ...]) -> tuple[LevelQuestions, ...]:
    """The questions for an address (B1, B8), the most specific level first."""

    def at(level: int) -> LevelQuestions:
        name = reverse_names.name_at(address.ip, level)
        return LevelQuestions(level, Question(name, RRType.MX, servers), srv_questions(name, servers) if srv else ())

    levels = reverse_names.levels_of(address, network.ipv4_levels, network.ipv6_levels)
    return tuple(map(at, levels))
