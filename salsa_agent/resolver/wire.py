"""The records of a reply, and the names in them (RFC 1035 sections 3.2.1 and 4.1.4). All of it may be hostile.

What names share is read once (C5): a reply of 64 KiB may have 4,000 records, and a pointer to every octet before them
(docs/decisions/dnspython-with-our-own-loop.md).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from dns.name import Name

IN = 1  # the class
MAX_LABELS = 1 << 16  # read of one message, pointers among them; about 20 ms. 64 KiB of honest names have half as many
MAX_NAME = 255  # octets; RFC 1035 section 2.3.4

_RECORD = struct.Struct("!HHIH")
_POINTER = struct.Struct("!H")
_PLAIN = re.compile(rb"[a-z0-9_/.-]+")


class Malformed(ValueError):
    """The message is not what RFC 1035 describes."""

    def __init__(self, reason: str = "malformed reply") -> None:
        super().__init__(reason)


class Record(NamedTuple):
    """A record of class IN; its data is from `at` to `end`. `ttl`: seconds."""

    owner: str
    rtype: int
    ttl: int
    at: int
    end: int


class _Known(NamedTuple):
    """A name that was read. `text`: empty for the root. `size`: octets. `end`: where what follows it begins."""

    text: str
    size: int
    end: int


class Wire:
    """A message. What cannot be read raises Malformed, or struct.error where it ends too early.

    Names are as in zone files, with the final dot and in lower case, so that equal names are equal texts: a server may
    compress them by pointers into the question, whose case is random.
    """

    def __init__(self, octets: bytes, at: int) -> None:
        """`at`: where the first record begins."""
        self._octets = octets
        self._at = at
        self._known: dict[int, _Known] = {}  # by the place of a name, or of the rest of one
        self._labels_left = MAX_LABELS

    def records(self, count: int) -> Iterator[Record]:
        """The next `count` records, without those of other classes."""
        for _ in range(count):
            owner, at = self.name(self._at)
            rtype, rclass, ttl, length = _RECORD.unpack_from(self._octets, at)
            at += _RECORD.size
            self._at = end = at + length
            if end > len(self._octets):
                raise Malformed
            if rclass == IN:
                yield Record(owner, rtype, 0 if ttl >> 31 else ttl, at, end)  # RFC 2181 section 8

    def name(self, at: int) -> tuple[str, int]:
        """The name at `at`, and where what follows it begins."""
        unread: list[tuple[int, list[bytes], int]] = []
        place: int | None = at
        rest = _Known("", 1, 0)  # the root, whose end nobody needs
        while place is not None:
            if (known := self._known.get(place)) is not None:
                rest = known
                break
            labels, end, pointer = self._labels(place)
            unread.append((place, labels, end))
            if pointer is not None and pointer >= place:
                raise Malformed  # "a prior occurrence" (RFC 1035 section 4.1.4): so it ends
            place = pointer
        for begin, labels, end in reversed(unread):
            size = rest.size + sum(map(len, labels), len(labels))
            if size > MAX_NAME:
                raise Malformed
            self._known[begin] = rest = _Known(_text(labels) + rest.text, size, end)
        return rest.text or ".", rest.end

    def _labels(self, at: int) -> tuple[list[bytes], int, int | None]:
        """The labels at `at` up to the root or a pointer, where what follows begins, and where the pointer leads."""
        octets, labels = self._octets, list[bytes]()
        try:
            while 0 < (length := octets[at]) < 64:
                at += 1 + length
                labels.append(octets[at - length : at])
                if len(labels) > MAX_NAME // 2:
                    break
        except IndexError:
            raise Malformed from None
        self._labels_left -= 1 + len(labels)
        if self._labels_left < 0:
            raise Malformed("reply with too many labels")
        if length == 0:
            return labels, at + 1, None
        if length < 192:  # no known type of label, or too many
            raise Malformed
        (pointer,) = _POINTER.unpack_from(octets, at)
        return labels, at + 2, pointer & 0x3FFF


def _text(labels: list[bytes]) -> str:
    """In the form of zone files, with a dot behind each."""
    if not labels:
        return ""
    text = b".".join(labels).lower()
    if _PLAIN.fullmatch(text) and text.count(b".") == len(labels) - 1:
        return text.decode("ascii") + "."
    return Name([label.lower() for label in labels]).to_text() + "."
