"""What callers on the bus may ask of the agent, and how it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from salsa_agent.core.model import Asked, Best, Dropped, IPAddress, ListedRelay, Relay

MAX_LINK_RELAYS = 16  # of one link (rule C9)

_DBUS = "org.freedesktop.DBus.Error."


class RequestError(Exception):
    """The request is refused; the message is one plain sentence for the caller. `name`: of the D-Bus error."""

    name = f"{_DBUS}Failed"


class InvalidArgs(RequestError):
    """An argument is not of the form it must have."""

    name = f"{_DBUS}InvalidArgs"


class NoSuchRelay(RequestError):
    """The relay is in no list and not published (rule D6)."""

    name = "org.salsa.Agent1.Error.NoSuchRelay"


class LimitsExceeded(RequestError):
    """The caller, or all callers together, asked for more than their share."""

    name = f"{_DBUS}LimitsExceeded"


class AccessDenied(RequestError):
    """The caller may not ask for this."""

    name = f"{_DBUS}AccessDenied"


class UnknownMember(RequestError):
    """There is no such object, interface, method or property; or the property cannot be set."""

    def __init__(self, kind: str, text: str) -> None:
        """`kind`: the end of the name of the D-Bus error, such as `UnknownMethod`."""
        super().__init__(text)
        self.name = _DBUS + kind


class LookupResult(NamedTuple):
    """What the reverse tree says for an address: `Lookup`."""

    relays: Sequence[Relay]
    questions: Sequence[Asked]


class Explanation(NamedTuple):
    """What the last round asked, and what it left out: `Explain`."""

    questions: Sequence[Asked]
    dropped: Sequence[Dropped]


class SenderRelays(NamedTuple):
    """The relay for an envelope sender, and its list: `RelayFor` (rule C11)."""

    best: Best
    relays: Sequence[ListedRelay]


class Requests(Protocol):
    """The methods of org.salsa.Agent1, in the agent's own values. All may raise RequestError. `uid`: of the caller."""

    async def refresh(self, uid: int) -> None:
        """Forget what is cached and run a round; returns at its decision, or after 20 s."""

    def report_failure(self, host: str, port: int, reason: str, uid: int) -> None:
        """Mark a relay as failed (rule D6)."""

    def relay_for(self, sender: str) -> SenderRelays:
        """The relay for an envelope sender (rule C11). `sender`: an address, or a form of the null sender."""

    async def lookup(self, address: IPAddress, uid: int) -> LookupResult:
        """Ask the reverse tree for any address."""

    def explain(self) -> Explanation:
        """Why the list is as it is."""

    def set_link_relays(self, ifindex: int, relays: Sequence[str]) -> None:
        """What the configuration of a link says, in the forms of `static.relays` (rule C9)."""

    def revert_link(self, ifindex: int) -> None:
        """Forget what was set for a link."""

    def statistics(self) -> Mapping[str, int]:
        """The counters of the property `Statistics`, by their names there."""
