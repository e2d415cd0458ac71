"""What the other side of a NAT protocol says, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass

from salsa_agent.core.model import IPAddress


@dataclass(frozen=True, slots=True)
class Statement:
    """The outside address, as it was told; or None, and the printable `reason`."""

    ip: IPAddress | None
    reason: str = ""
