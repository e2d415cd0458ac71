"""Every key of the configuration with its form (salsa-agent.toml(5)), and the nearest one to an unknown key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from salsa_agent.config import values as form

Form = Callable[[object], Any]  # takes what TOML gave; raises ValueError with a phrase that says what it must be
Forms = Mapping[str, Form]

KEYS: Mapping[str, Forms] = {
    "static": {"relays": form.texts(form.relay_entry)},
    "network": {
        "ignore": form.texts(form.pattern),
        "ipv4_levels": form.levels(8, 8, 32),
        "ipv6_levels": form.levels(4, 16, 128),
        "nat": form.word("off", "nat-pmp", "stun"),
        "stun_server": form.text(form.stun_server, empty=None),
    },
    "dns": {
        "servers": form.texts(form.dns_server),
        "timeout": form.seconds(0.1, 30),
        "attempts": form.whole(1, 5),
        "trust_ad": form.texts(form.trusted_server),
        "case_randomization": form.flag,
        "srv": form.flag,
    },
    "smtp": {"port": form.whole(1, 65535)},
    "srv": {"targets": form.texts(form.host_pattern)},
    "verify": {
        "enabled": form.flag,
        "timeout": form.seconds(0.5, 30),
        "interval": form.whole(30, 86400, or_zero=True),
        "tls": form.word("off", "offered", "valid"),
        "recipient": form.text(form.mailbox, empty=""),
    },
    "policy": {
        "allow": form.texts(form.host_pattern),
        "deny": form.texts(form.host_pattern),
        "require": form.word("none", "dnssec"),
        "internal": form.flag,
    },
    "output": {"directory": form.text(form.absolute_path, empty="")},
    "postfix": {"listen": form.texts(form.endpoint)},
}
"""The keys of each table."""

ENTRY_KEYS: Mapping[str, Forms] = {
    "site": {
        "name": form.required_text(form.plain_name),
        "prefix": form.texts(form.prefix),
        "interface": form.texts(form.pattern),
        "domain": form.texts(form.domain),
        "connection": form.texts(form.plain_name),
        "relays": form.texts(form.relay_entry),
        "use": form.word("first", "last", "only"),
    },
    "sender": {
        "address": form.texts(form.address_pattern, empty=False),
        "relays": form.texts(form.relay_entry, empty=False),
        "network": form.word("never", "last", "first"),
    },
}
"""The keys of each entry of the tables that come as often as one likes: `[[site]]`, `[[sender]]`."""


_EVERYWHERE = {key: f"{table}.{key}" for table, keys in [*KEYS.items()][::-1] for key in keys}  # of two the first


def unknown_table(name: str) -> str:
    """What to say of a table, or of a key outside all tables, that is unknown."""
    tables = {table: table for table in (*KEYS, *ENTRY_KEYS)}
    return _unknown(_nearest(name, _EVERYWHERE | tables), tables)


def unknown_key(table: str, name: str, known: Forms) -> str:
    """What to say of a key of `table` that is unknown."""
    full = {key: f"{table}.{key}" if table in KEYS else key for key in known}
    return _unknown(_nearest(name, full) or _nearest(name, _EVERYWHERE, 0.8), full)


def _unknown(nearest: str, known: Mapping[str, str]) -> str:
    """`known`: the keys that may stand there, by their full names; all are named where none is near."""
    if not nearest and len(known) == 1:
        (nearest,) = known.values()
    return f"unknown key; did you mean {nearest}?" if nearest else f"unknown key; known are {', '.join(known.values())}"


def _nearest(name: str, known: Mapping[str, str], likeness: float = 0.6) -> str:
    import difflib  # late: only a mistake needs it

    return "".join(known[key] for key in difflib.get_close_matches(name.lower(), known, 1, likeness))
