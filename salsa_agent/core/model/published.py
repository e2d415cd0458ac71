"""What the outside is told (rules H)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from salsa_agent.core.model.dns import Outcome
from salsa_agent.core.model.host import Address
from salsa_agent.core.model.relays import Relay, Source, Verdict


class State(StrEnum):
    """The agent's `State` (rule H2)."""

    STARTING = "starting"
    OFFLINE = "offline"
    RESOLVING = "resolving"
    DEGRADED = "degraded"
    READY = "ready"


class ListedRelay(NamedTuple):
    """A relay of the published list, with its verdict. `tls`, `auth` and `wants_auth` as in `CheckResult`."""

    relay: Relay
    verdict: Verdict = Verdict.UNVERIFIED
    reason: str = ""
    starttls: bool | None = None
    tls: str = ""
    auth: bool | None = None
    wants_auth: bool = False


class Evidence(NamedTuple):
    """One own address and what the reverse tree said of it. `site`: the name of its link's site (C10)."""

    address: Address
    outcome: Outcome
    level: int | None = None
    name: str = ""
    site: str = ""


class Dropped(NamedTuple):
    """An exchange or relay that was left out, and the rule that did it."""

    host: str
    rule: str
    reason: str
    name: str = ""
    address: str = ""


class Best(NamedTuple):
    """The relay to use now; no host: none."""

    host: str = ""
    port: int = 0
    source: Source = Source.NONE


NO_RELAY = Best()


class SenderChoice(NamedTuple):
    """What is published for one `[[sender]]` of the configuration (rule C11).

    `address`: its patterns. `network`: `never`, `last` or `first`. `decided`: its best relay is known; until then
    `best` is `NO_RELAY`.
    """

    address: tuple[str, ...]
    network: str = "never"
    best: Best = NO_RELAY
    relays: tuple[ListedRelay, ...] = ()
    decided: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What the outside is told. Times are engine time (seconds on the clock passed as `now`)."""

    state: State = State.STARTING
    best: Best = NO_RELAY
    relays: tuple[ListedRelay, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    changed: float | None = None  # when `best` last changed; None: never
    dropped: tuple[Dropped, ...] = field(default=(), compare=False)
    senders: tuple[SenderChoice, ...] = ()  # in the order of the configuration
