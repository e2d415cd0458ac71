"""What the doctor looks at, collected once; the groups of findings read it, and do no IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from salsa_agent.core.addresses import counting
from salsa_agent.core.admission import is_internal
from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    CheckResult,
    IPAddress,
    ListedRelay,
    NetworkFacts,
    Publication,
    RelayKey,
    Server,
    State,
    Verdict,
)
from salsa_agent.core.settings import Settings
from salsa_agent.oneshot.severity import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code`: the same word for the same kind; texts are one or two sentences."""

    severity: Severity
    code: str
    problem: str
    cure: str


class Agents(NamedTuple):
    """Where an agent runs. `asked`: the bus that was named, else `auto`; `on`: the buses of these with an agent.

    `buses`: those of these that there are. `elsewhere`: other buses with an agent, such as private ones, as `--bus`
    names them. `state`: what the agent says of itself; empty: there is none. `starttls`: the relays of its list that
    offered STARTTLS to it. `of_links`: it has relays that a link's configuration gave. `refused`: the words in which
    the system bus refuses the agent its name.
    """

    asked: str = "auto"
    on: tuple[str, ...] = ()
    buses: tuple[str, ...] = ()
    state: str = ""
    elsewhere: tuple[str, ...] = ()
    starttls: frozenset[RelayKey] = frozenset()
    of_links: bool = False
    refused: str = ""


class Probe(NamedTuple):
    """What one DNS server said to the question for the MX records of a name that does not exist."""

    server: Server
    answer: Answer


class View(NamedTuple):
    """What one DNS server says of this host's reverse names, of each the exchanges. `in_use`: it is asked (rule F1)."""

    server: Server
    said: tuple[tuple[str, Answer], ...]
    in_use: bool = True


class Outside(NamedTuple):
    """What a NAT says when it is asked for the address outside. `method`: `nat-pmp` or `stun`, `asked`: whom.

    `ip`: None, it does not say. `relay`: the first that the reverse tree publishes for it; empty: none.
    """

    method: str
    asked: str
    ip: IPAddress | None = None
    relay: str = ""


class Port(NamedTuple):
    """An attempt to reach a relay at one of the ports of mail. `error`: empty, it was reached.

    `greeting`: its first line. `starttls`: whether it offers that; None: it was not asked. `refusal`: its words, where
    it does not take MAIL in the clear.
    """

    key: RelayKey
    error: str = ""
    greeting: str = ""
    starttls: bool | None = None
    refusal: str = ""


class Spf(NamedTuple):
    """What the sender's domain says by SPF of the chosen relay (RFC 7208). `address`: of the relay.

    `result`: as in section 2.6 of the RFC; empty: nothing can be said. `why`: of an error.
    """

    result: str = ""
    address: str = ""
    why: str = ""


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
    spf: Spf = field(default_factory=Spf)
    certificates: tuple[Check, ...] = ()  # the administrator's relays once more, with the certificate checked
    views: tuple[View, ...] = ()
    outside: tuple[Outside, ...] = ()
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
    def best(self) -> ListedRelay | None:
        """The relay that was chosen; None: there is none."""
        if self.said is None or not self.said.best.host:
            return None
        key = RelayKey(self.said.best.host, self.said.best.port)
        return next((one for one in self.relays if one.relay.key == key), None)

    @property
    def works(self) -> bool:
        """Whether there is a relay that was not found to fail."""
        return self.best is not None and self.best.verdict is not Verdict.FAILED

    @property
    def behind_nat(self) -> bool:
        """Whether every IPv4 address that counts is a private one."""
        of_ipv4 = [one.ip for one in self.addresses if one.ip.version == 4]
        return bool(of_ipv4) and all(map(is_internal, of_ipv4))

    @property
    def offline(self) -> bool:
        """Whether no address counts."""
        return self.said is not None and self.said.state is State.OFFLINE
