"""Rule C11: which relays an envelope sender has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

MAX_SENDER = 320  # characters; RFC 3696 (errata 1690): 64 of the local part, "@", 255 of the domain
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and lone surrogates, which are no characters
NULL_SENDERS = frozenset({"", "<>", '"<>"'})  # RFC 5321 section 4.5.5; the last as Postfix writes it in a lookup key


class HasPatterns(Protocol):
    """A `[[sender]]` of the configuration, or what is published for one."""

    @property
    def address(self) -> tuple[str, ...]:
        """Its shell patterns, in lower case."""


Entry = TypeVar("Entry", bound=HasPatterns)


def may_be_sender(text: str) -> bool:
    """Whether this is looked at as an envelope sender; what is not printable may be part of one, such as a ZWNJ."""
    return len(text) <= MAX_SENDER and _CONTROL.search(text) is None


def entry_for(sender: str, entries: Sequence[Entry]) -> Entry | None:
    """The first entry that holds for this envelope sender; None: it has the list of rule C6, as the null sender has."""
    if sender in NULL_SENDERS:
        return None
    address = sender.lower()
    return next((one for one in entries if any(fnmatchcase(address, pattern) for pattern in one.address)), None)
