"""The answer of a NAT gateway or a STUN server, whichever protocol it came by."""

from __future__ import annotations

from typing import NamedTuple

from salsa_agent.core.model import IPAddress


class MappedAddress(NamedTuple):
    """The external address that was answered; or None, and why there is none (`reason`, printable)."""

    ip: IPAddress | None
    reason: str = ""
