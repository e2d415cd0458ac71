"""What goes into the engine (events) and what it wants done (deeds). Nothing else passes between it and the drivers."""

from __future__ import annotations

from dataclasses import dataclass

from salsa_agent.core.model import (
    Answer,
    CheckResult,
    IPAddress,
    LinkRelays,
    NetworkFacts,
    Publication,
    Question,
    RelayKey,
    Server,
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


@dataclass(frozen=True, slots=True)
class OutsideLearned:
    """What a NAT says the outside address is; None: it says nothing of use (G1). May come again, changed, later."""

    wish: LearnOutside
    ip: IPAddress | None


@dataclass(frozen=True, slots=True)
class FailureReported:
    """A user found that a relay does not work for them (D6)."""

    key: RelayKey
    reason: str


@dataclass(frozen=True, slots=True)
class LinkRelaysSet:
    """What the links' own configuration gives now, all links together (C9): DHCP option 69, `SetLinkRelays`."""

    links: tuple[LinkRelays, ...]


Event = (
    FactsRead
    | ServersRead
    | Answered
    | Checked
    | RefreshAsked
    | SettingsRead
    | Resumed
    | OutsideLearned
    | FailureReported
    | LinkRelaysSet
)


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
class LearnOutside:
    """Ask the NAT for the outside address (G1) of the link `ifindex`; `OutsideLearned` is expected, maybe repeatedly.

    `method`: `nat-pmp` (asks `gateway`) or `stun` (asks `server`, `host` or `host:port`, whose name is looked up at
    `servers`). It goes on until another wish or `ForgetOutside` comes.
    """

    serial: int
    method: str
    ifindex: int
    gateway: str = ""
    server: str = ""
    servers: tuple[Server, ...] = ()


@dataclass(frozen=True, slots=True)
class ForgetOutside:
    """No outside address is wanted any more."""


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round has decided: what an operator's log says of it. `seconds` from its start."""

    cause: str
    addresses: int
    questions: int
    seconds: float


Deed = Ask | Drop | Check | Abandon | Publish | RefreshDone | NetworkLeft | LearnOutside | ForgetOutside | RoundEnded
