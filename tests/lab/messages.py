"""D-Bus messages as octets, made field by field."""

from __future__ import annotations

from typing import Any

from salsa_agent.bus import message as wire


def frame(kind: int, serial: int, *, flags: int = 0, body: bytes = b"", **fields: Any) -> bytes:
    """A whole message. `fields`: those of its header (`wire.Header`), well formed or not."""
    return wire.frame(wire.Header(kind, flags, serial, **fields), body)
