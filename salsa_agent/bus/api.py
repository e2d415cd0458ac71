"""What callers on the bus may ask of the agent, and how it says no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from salsa_agent.core.model import Asked, Dropped, IPAddress, Relay

MOST_LINK_RELAYS = 16  # of one link; design section 4


class RequestError(Exception):
    """The request is refused; the message is one plain sentence for the caller."""


class InvalidArgs(RequestError):
    """An argument is not of the form it must have."""


class NoSuchRelay(RequestError):
    """The relay is neither in the list nor the published best one (D6)."""


class LimitsExceeded(RequestError):
    """The caller asked for more than its share."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the reverse tree says for an address: `Lookup`."""

    relays: Sequence[Relay]
    questions: Sequence[Asked]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the last round asked, and what it left out: `Explain`."""

    questions: Sequence[Asked]
    dropped: Sequence[Dropped]


class Requests(Protocol):
    """The methods of org.salsa.Agent1, in the agent's own values. All may raise RequestError."""

    async def refresh(self) -> None:
        """Forget what is cached and run a round; returns at its decision."""

    def report_failure(self, host: str, port: int, reason: str, uid: int) -> None:
        """Mark a relay as failed (D6). `uid`: of the caller."""

    async def lookup(self, address: IPAddress) -> Looked:
        """Ask the reverse tree for any address."""

    def explain(self) -> Explanation:
        """Why the list is as it is."""

    def set_link_relays(self, ifindex: int, relays: Sequence[str]) -> None:
        """What the configuration of a link says, in the forms of `static.relays` (C9)."""

    def revert_link(self, ifindex: int) -> None:
        """Forget what was set for a link."""
