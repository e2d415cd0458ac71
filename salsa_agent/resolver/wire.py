"""The records of a reply, read by dnspython within bounds (RFC 1035 sections 3.2.1 and 4.1.4). All may be hostile.

A reply of 64 KiB may have 4,000 records, and names that take the library 15 seconds
(docs/decisions/dnspython-with-our-own-loop.md). So a record is decoded only where somebody wants it, a name that many
records share is read once, and what is read of names is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.wire
from dns.name import Name
from dns.rdataclass import IN
from dns.rdatatype import RdataType

MAX_POINTERS = 16  # of one name, in a row; an honest one has one, and dnspython 2.7 would follow any number
MAX_LABELS = 1 << 15  # in the names of one reply, each of which counts for NAME_COST more: about 50 ms
NAME_COST = 8  # labels that a name costs beside its own
_POINTER = 0xC0


class Malformed(dns.exception.FormError):
    """The message is not what RFC 1035 describes. One of the library's errors, which it lets through as it is."""

    def __init__(self, reason: str = "malformed reply") -> None:
        super().__init__(reason)  # type: ignore[no-untyped-call]


class WireRecord(NamedTuple):
    """A record of class IN; its data has `length` octets from `at`. `owner`: as `canonical`; `ttl`: seconds."""

    owner: str
    rtype: int
    ttl: int
    at: int
    length: int


class Wire(dns.wire.Parser):
    """A message. What cannot be read raises one of the library's errors (DNSException)."""

    _pointers_left = MAX_POINTERS  # here, as the library's constructor calls `seek`

    def __init__(self, octets: bytes, at: int) -> None:
        """`at`: where the first record begins."""
        super().__init__(octets, at)
        self._labels_left = MAX_LABELS
        self._owners: dict[int, str] = {}  # by where a pointer leads
        self._names: dict[str, Name] = {}

    def records(self, count: int, types: frozenset[int]) -> Iterator[WireRecord]:
        """Those of the next `count` records that are of these types."""
        for _ in range(count):
            owner = self._owner()
            rtype, rclass, ttl, length = self.get_struct("!HHIH")
            at = self.current
            # not by the library: it looks for a module for each type that it does not know, and keeps a class for ever
            self.get_bytes(length)
            if rclass == IN and rtype in types:
                yield WireRecord(owner, rtype, 0 if ttl >> 31 else ttl, at, length)  # RFC 2181 section 8

    def octets(self, record: WireRecord) -> bytes:
        """Its data as it came."""
        return self.wire[record.at : record.at + record.length]

    def decode(self, record: WireRecord) -> dns.rdata.Rdata:
        """Its data. Only for types that the library knows."""
        walk = self.current, self.furthest
        self.current = self.furthest = record.at  # where a name goes on behind a pointer is the furthest of this record
        try:
            with self.restrict_to(record.length):
                return dns.rdata.from_wire_parser(IN, RdataType(record.rtype), self)
        finally:
            self.current, self.furthest = walk

    def is_below(self, name: str, owner: str) -> bool:
        """Whether the zone of an owner may hold a name."""
        if name not in self._names:
            self._names[name] = dns.name.from_text(name)
        return self._names[name].is_subdomain(self._names[owner])

    def get_name(self, origin: Name | None = None, decompress: bool = True) -> Name:  # noqa: ARG002 - as in the library
        """The name here. All that are read may be compressed (RFC 3597 section 4): dnspython 2.7 does not ask."""
        self._pointers_left = MAX_POINTERS
        name = dns.name.from_wire_parser(self)
        self._labels_left -= NAME_COST + len(name.labels)
        if self._labels_left < 0:
            raise Malformed("reply with too many names")
        return name

    def seek(self, where: int) -> None:
        """Where a name goes on, at each of its pointers."""
        self._pointers_left -= 1
        if self._pointers_left < 0:
            raise Malformed("name with too many pointers")
        super().seek(where)

    def _owner(self) -> str:
        """The owner of the record here. In most replies it is a pointer, the same one in each record of a set."""
        pointer = -1
        if self.remaining() >= 2 and self.wire[self.current] >= _POINTER:
            pointer = int.from_bytes(self.wire[self.current : self.current + 2], "big")
            if (known := self._owners.get(pointer)) is not None:
                self.get_bytes(2)
                return known
        name = self.get_name()
        text = canonical(name)
        self._names[text] = name
        if pointer >= 0:
            self._owners[pointer] = text
        return text


def canonical(name: Name) -> str:
    """A name as in zone files, with the final dot and in lower case, so that equal names are equal texts."""
    return name.canonicalize().to_text()
