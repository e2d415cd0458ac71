"""What the doctor looks at, collected once; the groups of findings read it, and do no IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from salsa_agent.core.addresses import counting
from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    CheckResult,
    ListedRelay,
    NetworkFacts,
    Publication,
    RelayKey,
    Server,
    State,
    Verdict,
)
from salsa_agent.core.settings import Settings
from salsa_agent.oneshot.findings import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code`: the same word for the same kind; texts are one or two sentences."""

    severity: Severity
    code: str
    problem: str
    cure: str


class Agents(NamedTuple):
    """Where an agent runs. `asked`: the bus that was named, else `auto`; `on`: the buses on which the name is owned.

    `buses`: those that there are. `state`: what the agent says of itself; empty: there is none.
    """

    asked: str = "auto"
    on: tuple[str, ...] = ()
    buses: tuple[str, ...] = ()
    state: str = ""


class Probe(NamedTuple):
    """What one DNS server said to the question for the MX records of a name that does not exist."""

    server: Server
    answer: Answer


class Port(NamedTuple):
    """An attempt to reach a relay at one of the ports of mail. `error`: empty, it was reached; `greeting`: its line."""

    key: RelayKey
    error: str = ""
    greeting: str = ""


class Check(NamedTuple):
    """A relay that was spoken to, and the seconds until the verdict."""

    key: RelayKey
    result: CheckResult
    seconds: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that was seen. `said`: the decision, that of the sender where one is given; None: not in time."""

    settings: Settings
    facts: NetworkFacts = field(default_factory=NetworkFacts)
    said: Publication | None = None
    asked: tuple[Asked, ...] = ()
    checks: tuple[Check, ...] = ()
    probes: tuple[Probe, ...] = ()
    ports: tuple[Port, ...] = ()
    agents: Agents = field(default_factory=Agents)
    networkmanager: bool = True  # it is on the system bus
    sender: str = ""
    dmarc: str = ""  # the policy of the sender's domain: `none`, `quarantine`, `reject`; empty: it has none
    root: Path = Path("/")
    now: float = 0.0  # realtime clock, seconds
    installed: float = 0.0  # when this program was installed, likewise

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those that count (rules A)."""
        return counting(self.facts, self.settings.network.ignore)

    @property
    def relays(self) -> tuple[ListedRelay, ...]:
        """The list."""
        return self.said.relays if self.said else ()

    @property
    def works(self) -> bool:
        """Whether there is a relay that was not found to fail."""
        if self.said is None or not self.said.best.host:
            return False
        key = RelayKey(self.said.best.host, self.said.best.port)
        return all(one.verdict is not Verdict.FAILED for one in self.relays if one.relay.key == key)

    @property
    def offline(self) -> bool:
        """Whether no address counts."""
        return self.said is not None and self.said.state is State.OFFLINE
