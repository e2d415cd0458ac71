"""What goes into the engine (events) and what it wants done (deeds). Nothing else passes between it and the drivers."""

from __future__ import annotations

from dataclasses import dataclass

from salsa_agent.core.model import (
    Answer,
    CheckResult,
    IPAddress,
    NetworkFacts,
    Publication,
    Question,
    RelayKey,
    ServerView,
)
from salsa_agent.core.settings import Settings

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FactsRead:
    """The netlink driver read the kernel's state (it may well be the same as before)."""

    facts: NetworkFacts


@dataclass(frozen=True, slots=True)
class ServersRead:
    """The resolver configuration was read."""

    view: ServerView


@dataclass(frozen=True, slots=True)
class Answered:
    """A question that was wanted has its answer."""

    question: Question
    answer: Answer


@dataclass(frozen=True, slots=True)
class Checked:
    """A conversation that was wanted has ended."""

    check: Check
    result: CheckResult


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """Somebody called `Refresh`; `token` comes back in `RefreshDone`."""

    token: int


@dataclass(frozen=True, slots=True)
class SettingsRead:
    """The configuration was read again (SIGHUP)."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Resumed:
    """The machine woke from suspend: a network change by definition."""


Event = FactsRead | ServersRead | Answered | Checked | RefreshAsked | SettingsRead | Resumed


# --- deeds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this question; `Answered` is expected."""

    question: Question


@dataclass(frozen=True, slots=True)
class Drop:
    """The answer is no longer wanted: cancel the question."""

    question: Question


@dataclass(frozen=True, slots=True)
class Check:
    """Speak to this relay at these addresses (best first, rule D1); `Checked` is expected. `serial` makes it unique."""

    serial: int
    key: RelayKey
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """The verdict is no longer wanted: cancel the conversation."""

    check: Check


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the outside. Only sent when something changed; the bus leaves out a moved `expires` (rule H1)."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class RefreshDone:
    """The round that `Refresh` asked for has decided."""

    token: int


@dataclass(frozen=True, slots=True)
class NetworkLeft:
    """The network changed: what drivers remember of the old one (slow servers, F2) is void."""


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round has decided: what an operator's log says of it. `seconds` from its start."""

    cause: str
    addresses: int
    questions: int
    seconds: float


Deed = Ask | Drop | Check | Abandon | Publish | RefreshDone | NetworkLeft | RoundEnded
