"""The agent's state and counters as metrics, in OpenMetrics 1.0 and in the text format 0.0.4 of Prometheus.

node_exporter's textfile collector reads the latter only: a `stateset` in a file makes it drop all of that file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

STATES = ("starting", "offline", "resolving", "degraded", "ready")
VERDICTS = ("unverified", "ok", "failed")

_COUNTERS = {
    "rounds": "Recomputations of the relay list.",
    "network_changes": "Changes of the network.",
    "questions": "DNS questions asked.",
    "questions_failed": "DNS questions that got no answer.",
    "checks": "Conversations with relays.",
    "checks_failed": "Conversations with relays that failed.",
    "best_changes": "Changes of the relay in use.",
    "reports": "Failures that programs reported and that were accepted.",
}


class Family(NamedTuple):
    """One metric, named without the `_total` of a counter. `samples`: values by their labels, `{...}` or empty."""

    name: str
    kind: str  # as OpenMetrics calls it
    help: str
    samples: Mapping[str, str]
    unit: str = ""


def families(properties: Mapping[str, Any]) -> Iterator[Family]:
    """The metrics of an agent, by its properties on D-Bus."""
    counters = properties.get("Statistics", {})
    states = {f'{{salsa_state="{state}"}}': str(int(properties["State"] == state)) for state in STATES}
    yield Family("salsa_state", "stateset", "What the agent is doing.", states)
    relays = {f'{{verdict="{verdict}"}}': str(number) for verdict, number in verdicts(properties).items()}
    yield Family("salsa_relays", "gauge", "Listed relays, by verdict.", relays)
    for name, text in _COUNTERS.items():
        yield Family(f"salsa_{name}", "counter", text, {"": str(int(counters.get(name, 0)))})
    started = f"{int(counters.get('started', 0)) / 1_000_000:.6f}"
    yield Family("salsa_start_time_seconds", "gauge", "When the agent started, since 1970.", {"": started}, "seconds")


def up(properties: Mapping[str, Any]) -> Iterator[Family]:
    """The same for a file, which is there without an agent, too: hence with whether one runs."""
    yield _up(1)
    yield from families(properties)


def down() -> Iterator[Family]:
    """What is known where no agent runs."""
    yield _up(0)


def _up(number: int) -> Family:
    return Family("salsa_up", "gauge", "Whether an agent runs.", {"": str(number)})


def verdicts(properties: Mapping[str, Any]) -> dict[str, int]:
    """How many of the listed relays have which verdict."""
    given = [relay["verdict"] for relay in properties["Relays"]]
    return {verdict: given.count(verdict) for verdict in VERDICTS}


def openmetrics(given: Iterable[Family]) -> str:
    """OpenMetrics 1.0: samples of counters end in _total, a state set names its states, # EOF is last."""
    lines = []
    for one in given:
        lines.append(f"# TYPE {one.name} {one.kind}")
        if one.unit:
            lines.append(f"# UNIT {one.name} {one.unit}")
        lines.append(f"# HELP {one.name} {one.help}")
        lines += _samples(one)
    return "\n".join([*lines, "# EOF", ""])


def prometheus(given: Iterable[Family]) -> str:
    """Text format 0.0.4: a counter's family is named as its sample is, a state set is a gauge for each state."""
    lines = []
    for one in given:
        lines.append(f"# HELP {_sample_name(one)} {one.help}")
        lines.append(f"# TYPE {_sample_name(one)} {'gauge' if one.kind == 'stateset' else one.kind}")
        lines += _samples(one)
    return "\n".join([*lines, ""])


def _samples(one: Family) -> Iterator[str]:
    return (f"{_sample_name(one)}{labels} {value}" for labels, value in one.samples.items())


def _sample_name(one: Family) -> str:
    return f"{one.name}_total" if one.kind == "counter" else one.name
