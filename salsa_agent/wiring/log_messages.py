"""What an operator's log says: one line for a change of the best relay, one for a round, questions at debug."""

from __future__ import annotations

from salsa_agent.core.events import Check, RoundEnded
from salsa_agent.core.model import Answer, CheckResult, ListedRelay, Publication, Question, RelayKey
from salsa_agent.text import host_port


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
