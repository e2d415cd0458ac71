"""Rule C11: which relays an envelope sender has."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

NULL_SENDERS = frozenset({"", "<>", '"<>"'})  # RFC 5321 section 4.5.5; the last as Postfix writes it in a lookup key


class HasPatterns(Protocol):
    """A `[[sender]]` of the configuration, or what is published for one."""

    @property
    def address(self) -> tuple[str, ...]:
        """Its shell patterns, in lower case."""


Entry = TypeVar("Entry", bound=HasPatterns)


def entry_for(sender: str, entries: Sequence[Entry]) -> Entry | None:
    """The first entry that holds for this envelope sender; None: it has the list of rule C6, as the null sender has."""
    if sender in NULL_SENDERS:
        return None
    address = sender.lower()
    return next((one for one in entries if any(fnmatchcase(address, pattern) for pattern in one.address)), None)
