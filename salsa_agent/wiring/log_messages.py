"""What an operator's log says: a line for a change of the best relay, one for a round, and at debug for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from salsa_agent.core.addresses import LOOPBACK, LeftOut
from salsa_agent.core.events import Check, RoundEnded
from salsa_agent.core.model import Address, Answer, CheckResult, ListedRelay, Publication, Question, RelayKey
from salsa_agent.text import host_port

_MOST_ADDRESSES = 20  # of those that count, and of those that do not: a line must not be cut in its middle


def best_line(said: Publication) -> str:
    """The best relay and why it is that one: address, level, name, verdict."""
    if not said.best.host:
        return f"no relay to use now ({said.state})"
    return f"relay is now {host_port(said.best.host, said.best.port)} ({_why(said)})"


def round_line(ended: RoundEnded, said: Publication) -> str:
    """One line for a round: what caused it, what it cost, what came of it."""
    return (
        f"round ({ended.cause}) decided in {ended.seconds * 1000:.0f} ms: addresses {ended.addresses}, "
        f"questions {ended.questions}, relays {len(said.relays)}, {said.state}"
    )


def addresses_line(counting: Sequence[Address], left_out: Sequence[LeftOut]) -> str:
    """The host's addresses that count (rules A), and the others with the rule that leaves them out.

    Those that are loopback by themselves (A2) are on every host, and left unsaid.
    """
    count = [f"{one.ip} on {one.interface}" for one in counting]
    others = [one for one in left_out if one.why.reason != LOOPBACK]
    shown = [f"{one.ip} on {one.interface}: {one.why.rule} ({one.why.reason})" for one in others[:_MOST_ADDRESSES]]
    line = f"addresses that count: {_enumerated(count, len(count))}"
    return f"{line}; left out: {_enumerated(shown, len(others))}" if others else line


def _enumerated(shown: Sequence[str], count: int) -> str:
    """The first of `count` things, and how many there are besides."""
    more = count - len(shown[:_MOST_ADDRESSES])
    return ", ".join(shown[:_MOST_ADDRESSES]) + (f" and {more:,} more" if more else "") if count else "none"


def question_line(question: Question, answer: Answer) -> str:
    """One line for a question."""
    what = [f"{question.rtype} {question.name}: {answer.outcome}"]
    if answer.rcode:
        what.append(answer.rcode)
    if answer.reason and answer.reason != answer.rcode:
        what.append(answer.reason)
    if answer.mx:
        what.append(", ".join(f"{mx.preference} {mx.exchange}" for mx in answer.mx[:8]))
    if answer.addresses:
        what.append(", ".join(str(ip) for ip in answer.addresses[:8]))
    if answer.server:
        what.append(f"from {answer.server} in {answer.elapsed * 1000:.0f} ms")
    return " ".join(what)


def check_line(check: Check, result: CheckResult) -> str:
    """One line for a conversation with a relay."""
    reason = f" ({result.reason})" if result.reason else ""
    return f"relay {host_port(check.key.host, check.key.port)}: {result.verdict}{reason}"


def status_line(said: Publication) -> str:
    """What the service manager shows."""
    return f"{said.state}; relay: {host_port(said.best.host, said.best.port) if said.best.host else 'none'}"


def _why(said: Publication) -> str:
    key = RelayKey(said.best.host, said.best.port)
    entry = next((listed for listed in said.relays if listed.relay.key == key), None)
    return str(said.best.source) if entry is None else _entry(entry)


def _entry(listed: ListedRelay) -> str:
    relay = listed.relay
    known = (
        f"{relay.address} on {relay.interface}" if relay.address else "",
        "" if relay.level is None else f"/{relay.level}",
        relay.name,
    )
    where = f"{relay.source}: {', '.join(filter(None, known))}" if relay.name else f"{relay.source}"
    reason = f" ({listed.reason})" if listed.reason else ""
    return f"{where}; {listed.verdict}{reason}"
