"""What the engine is told (events) and what it wants done (commands). Nothing else passes between it and the drivers.

They are named tuples as in `model`, but for those without fields: a tuple without items equals any other.
"""

from __future__ import annotations

from typing import NamedTuple

from salsa_agent.core.admission import is_internal
from salsa_agent.core.model import (
    Answer,
    CheckResult,
    IPAddress,
    LinkInfo,
    LinkRelays,
    NetworkFacts,
    Publication,
    Question,
    RelayKey,
    Server,
    ServerView,
)
from salsa_agent.core.settings import Settings


class _WithoutFields:
    """Equal to whatever is of the same kind."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# --- events -----------------------------------------------------------------------------------------------------------


class FactsRead(NamedTuple):
    """The netlink driver read the kernel's state. It may be the same as before where everything was read again (E3)."""

    facts: NetworkFacts


class ServersRead(NamedTuple):
    """The resolver configuration was read."""

    view: ServerView


class Answered(NamedTuple):
    """A question that was wanted has its answer."""

    question: Question
    answer: Answer


class Checked(NamedTuple):
    """The verdict on a relay is in.

    `lingering`: those of its addresses with which a conversation is still being ended; ConversationsEnded follows then.
    """

    check: Check
    result: CheckResult
    lingering: tuple[IPAddress, ...] = ()


class ConversationsEnded(NamedTuple):
    """All conversations of this check are over, after a Checked that left some."""

    check: Check


class RefreshAsked(NamedTuple):
    """Somebody called `Refresh`; `token` comes back in `RefreshDone`. `root`: it was root, whom D11 does not bound."""

    token: int
    root: bool = True


class SettingsRead(NamedTuple):
    """The configuration was read again (SIGHUP)."""

    settings: Settings


class Resumed(_WithoutFields):
    """The machine woke from suspend: a network change by definition."""


class ExternalAddressFound(NamedTuple):
    """The external address that a NAT told, or None if it told none of use (G1). May come again, changed, later."""

    request: DiscoverExternalAddress
    ip: IPAddress | None


class FailureReported(NamedTuple):
    """A user found that a relay does not work for them (D6)."""

    key: RelayKey
    reason: str


class LinkRelaysSet(NamedTuple):
    """What the links' own configuration gives now, all links together (C9): DHCP option 69, `SetLinkRelays`."""

    links: tuple[LinkRelays, ...]


class LinkInfoRead(NamedTuple):
    """What else the links say was read: their domains and connections (F4), all links together."""

    infos: tuple[LinkInfo, ...]


Event = (
    FactsRead
    | ServersRead
    | Answered
    | Checked
    | ConversationsEnded
    | RefreshAsked
    | SettingsRead
    | Resumed
    | ExternalAddressFound
    | FailureReported
    | LinkRelaysSet
    | LinkInfoRead
)


# --- commands ---------------------------------------------------------------------------------------------------------


class Ask(NamedTuple):
    """Ask this question; `Answered` is expected."""

    question: Question


class Drop(NamedTuple):
    """The answer is no longer wanted: cancel the question."""

    question: Question


class Check(NamedTuple):
    """Speak to this relay at these addresses (best first, rule D1); `Checked` is expected. `serial` makes it unique.

    `ifindex`: the link that a private address is spoken to through (rule D11); 0: the routing table's choice.
    `implicit_tls` and `tls` say how it is spoken to (rule D7). `administrator`: a demand for AUTH is a success (rule
    D10). `route_versions`: the IP versions of which a missing route is waited for (rule D1).
    """

    serial: int
    key: RelayKey
    addresses: tuple[IPAddress, ...]
    ifindex: int = 0
    implicit_tls: bool = False
    tls: str = "off"
    administrator: bool = False
    route_versions: tuple[int, ...] = (4, 6)

    def link_for(self, ip: IPAddress) -> int:
        """The index of the link that `ip` is spoken to through; 0: the routing table's choice."""
        return self.ifindex if is_internal(ip) else 0


class Abandon(NamedTuple):
    """The verdict is no longer wanted: cancel the conversation."""

    check: Check


class Publish(NamedTuple):
    """Tell the outside. Only sent when something changed; the bus leaves out a moved `expires` (rule H1)."""

    publication: Publication


class RefreshDone(NamedTuple):
    """The round that `Refresh` asked for has decided."""

    token: int


class NetworkChanged(_WithoutFields):
    """The network changed: what drivers remember of the old one (slow servers, F2) is void."""


class DiscoverExternalAddress(NamedTuple):
    """Ask for the external address of the link `ifindex` (G1); `ExternalAddressFound` is expected, maybe repeatedly.

    `method`: `nat-pmp` (asks `gateway`) or `stun` (asks `server`, whose name is looked up at
    `servers`). It goes on until another request or `ForgetExternalAddress` comes.
    """

    serial: int
    method: str
    ifindex: int
    gateway: str = ""
    server: RelayKey | None = None
    servers: tuple[Server, ...] = ()


class ForgetExternalAddress(_WithoutFields):
    """No external address is wanted any more."""


class RereadKernel(_WithoutFields):
    """Read all of the kernel's state again, for what no message told (E3); FactsRead is expected where it differs."""


class RereadNameservers(_WithoutFields):
    """Read the resolver configuration and the links' information again; ServersRead is expected where it differs."""


class RoundEnded(NamedTuple):
    """A round has decided: what an operator's log says of it.

    `seconds` from its start. `routine`: it was due to an expiry, a retry or E5, and nothing that is published changed.
    """

    cause: str
    addresses: int
    questions: int
    seconds: float
    routine: bool = False


Command = (
    Ask
    | Drop
    | Check
    | Abandon
    | Publish
    | RefreshDone
    | NetworkChanged
    | DiscoverExternalAddress
    | ForgetExternalAddress
    | RereadKernel
    | RereadNameservers
    | RoundEnded
)
