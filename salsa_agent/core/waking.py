"""When the engine has something to do that no event announces."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.parts import Parts
from salsa_agent.core.phases import Phase
from salsa_agent.core.rounds import Round


def times(parts: Parts, phase: Phase, offline_until: float | None, now: float) -> Iterator[float]:
    """The times to wake at. `offline_until`: of E6's two seconds. `now`: when the engine was called last."""
    yield from (time for time in _times(parts, phase, offline_until, now) if time is not None)


def _times(parts: Parts, phase: Phase, offline_until: float | None, now: float) -> Iterator[float | None]:
    current, waiting = parts.rounds.current, parts.rounds.waiting
    yield parts.upkeep.reread_at
    if phase is Phase.OFFLINE:
        yield offline_until if offline_until is not None and offline_until > now else None
    elif phase is Phase.STARTING or current is None:
        known = parts.network.inputs is not None  # if not, what is read will call
        yield parts.rounds.start_at(waiting, now) if waiting and known else None
    else:
        if phase is Phase.DECIDED:
            yield parts.rounds.start_at(waiting, now) if waiting else parts.cache.due(current.depends_on)
            yield parts.upkeep.relearn_at
        else:
            yield current.ends_at
        yield from _of_answers_and_verdicts(parts, current, now)


def _of_answers_and_verdicts(parts: Parts, current: Round, now: float) -> Iterator[float | None]:
    if not current.complete:
        yield current.half_of_dns if now < current.half_of_dns else current.dns_deadline
    if parts.questions.pending:
        yield current.dns_deadline
    yield parts.questions.wake_at
    yield parts.checks.due(now)
