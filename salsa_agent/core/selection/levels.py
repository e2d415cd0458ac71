"""Rules B3 to B7: which level of the reverse tree decides for an address."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from salsa_agent.core import reverse_names
from salsa_agent.core.cache import CachedAnswer
from salsa_agent.core.model import Address, Evidence, Outcome, Question, RRType, Server
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.settings import Network


class MxSet(NamedTuple):
    """The answer with an MX set that was found for an address."""

    address: Address
    level: int
    question: Question
    cached: CachedAnswer


class Climb(NamedTuple):
    """What the reverse tree says for one address.

    `questions`: all of its levels. `evidence`: None where nothing is asked, since its family is turned off. `decided`:
    the set that decides. `settled`: no pending answer can change that. `candidate`: while that is not so, the most
    specific set that is known already.
    """

    questions: tuple[tuple[Question, int], ...] = ()
    evidence: Evidence | None = None
    decided: MxSet | None = None
    settled: bool = True
    candidate: MxSet | None = None


def climb(address: Address, inputs: SelectionInput, answers: Answers) -> Climb:
    """From the most specific level on: the first with records or a null MX decides (B3, B7).

    NXDOMAIN and NODATA lead on to the next level (B4), and so does a failure (B5). A level decides only when all that
    are more specific have been answered or have failed.
    """
    questions = _questions(address, inputs.settings.network, inputs.view.of_link(address.ifindex))
    if not questions:
        return Climb()
    known = [(question, level, answers.known(question)) for question, level in questions]
    failed = False
    for place, (question, level, cached) in enumerate(known):
        if cached is None:
            evidence = Evidence(address, Outcome.PENDING)
            return Climb(questions, evidence, settled=False, candidate=_candidate(address, known[place:]))
        answers.use(question, cached)
        outcome = cached.answer.outcome
        if outcome in (Outcome.FOUND, Outcome.REFUSED):
            decided = MxSet(address, level, question, cached) if outcome is Outcome.FOUND else None
            return Climb(questions, Evidence(address, outcome, level, question.name), decided)
        failed |= outcome is Outcome.FAILED
    return Climb(questions, Evidence(address, Outcome.FAILED if failed else Outcome.NONE))


def _candidate(address: Address, known: list[tuple[Question, int, CachedAnswer | None]]) -> MxSet | None:
    for question, level, cached in known:
        if cached is not None and cached.answer.outcome is Outcome.FOUND:
            return MxSet(address, level, question, cached)
    return None


@lru_cache(maxsize=256)
def _questions(address: Address, network: Network, servers: tuple[Server, ...]) -> tuple[tuple[Question, int], ...]:
    """The questions for an address (B1) with their levels, the most specific first."""
    levels = reverse_names.levels_of(address, network.ipv4_levels, network.ipv6_levels)
    return tuple((Question(reverse_names.name_at(address.ip, level), RRType.MX, servers), level) for level in levels)
