"""Rule B1: the names at which the reverse tree is asked for an address."""

from __future__ import annotations

from collections.abc import Sequence

from salsa_agent.core.model import Address, IPAddress

TEMPORARY_FROM = 64  # a temporary address has no stable 128-bit name, and asking for it would give it away (RFC 8981)


def name_at(ip: IPAddress, level: int) -> str:
    """The reverse name of the first `level` bits of `ip`, no trailing dot (RFC 1035 3.5, RFC 3596 2.5)."""
    if ip.version == 4:
        return ".".join([*reversed(str(ip).split(".")[: level // 8]), "in-addr", "arpa"])
    nibbles = f"{int(ip):032x}"[: level // 4]
    return ".".join([*reversed(nibbles), "ip6", "arpa"])


def levels_of(address: Address, ipv4: Sequence[int], ipv6: Sequence[int]) -> tuple[int, ...]:
    """The levels to ask for this address, the most specific first."""
    levels = sorted(set(ipv4 if address.ip.version == 4 else ipv6), reverse=True)
    if address.temporary:
        levels = [level for level in levels if level <= TEMPORARY_FROM]
    return tuple(levels)
