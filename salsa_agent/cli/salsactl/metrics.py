"""`salsactl metrics`: the agent's state and counters as OpenMetrics text, for node_exporter's textfile collector."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.salsactl.command import Command, say, say_json

STATES = ("starting", "offline", "resolving", "degraded", "ready")
VERDICTS = ("unverified", "ok", "failed")

_HELP = {
    "rounds": "Recomputations of the relay list.",
    "network_changes": "Changes of the network.",
    "questions": "DNS questions asked.",
    "questions_failed": "DNS questions that got no answer.",
    "checks": "Conversations with relays.",
    "checks_failed": "Conversations with relays that failed.",
    "best_changes": "Changes of the relay in use.",
    "reports": "Failures that programs reported and that were accepted.",
}

_TEXT = """\
Print the agent's state and counters as OpenMetrics text.

examples:
  salsactl metrics
  salsactl metrics >salsa.prom.new && mv salsa.prom.new /var/lib/prometheus/node-exporter/salsa.prom
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        properties = await agent.properties()
    if given.json:
        say_json(
            {
                "State": properties["State"],
                "relays": _verdicts(properties),
                "Statistics": properties.get("Statistics", {}),
            }
        )
    else:
        say("\n".join(_lines(properties)))
    return EX_OK


def _verdicts(properties: dict[str, Any]) -> dict[str, int]:
    given = [relay["verdict"] for relay in properties["Relays"]]
    return {verdict: given.count(verdict) for verdict in VERDICTS}


def _lines(properties: dict[str, Any]) -> Iterator[str]:
    """The exposition (OpenMetrics 1.0): counters end in _total, a state set names its states, # EOF is last."""
    counters = properties.get("Statistics", {})
    yield from _head("salsa_state", "stateset", "What the agent is doing.")
    for state in STATES:
        yield f'salsa_state{{salsa_state="{state}"}} {int(properties["State"] == state)}'
    yield from _head("salsa_relays", "gauge", "Listed relays, by verdict.")
    for verdict, number in _verdicts(properties).items():
        yield f'salsa_relays{{verdict="{verdict}"}} {number}'
    for name, text in _HELP.items():
        yield from _head(f"salsa_{name}", "counter", text)
        yield f"salsa_{name}_total {int(counters.get(name, 0))}"
    yield from _head("salsa_start_time_seconds", "gauge", "When the agent started, since 1970.", unit="seconds")
    yield f"salsa_start_time_seconds {int(counters.get('started', 0)) / 1_000_000:.6f}"
    yield "# EOF"


def _head(name: str, kind: str, text: str, unit: str = "") -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {text}"


COMMAND = Command("metrics", "state and counters as OpenMetrics text", _TEXT, _run)
