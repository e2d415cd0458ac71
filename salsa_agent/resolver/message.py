"""DNS messages (RFC 1035 section 4): the query that is sent, and what a reply says about its question.

A reply is read record by record, not by `dns.message`: that makes an object of every record of every section, and looks
for a Python module for each record type a reply cares to name. It takes ten times as long for an honest reply, seconds
for a hostile one.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from salsa_agent.core.model import IPAddress, Mx, Outcome, RRType
from salsa_agent.resolver.names import MAX_NAME, Name, rcode_text, text_of

QR, OPCODE, AA, TC, RD, AD, RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0020, 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BARE_ERRORS = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))  # servers may send these without the question

IN = 1
NS, CNAME, SOA = 2, 5, 6
TYPES = {RRType.A: 1, RRType.MX: 15, RRType.AAAA: 28}

MAX_CHAIN = 16  # CNAMEs in one reply
MAX_STEPS = 1 << 17  # labels and pointers in one reply; the fullest honest one has half as many

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_PREFERENCE = struct.Struct("!H")
_SOA_TIMES = struct.Struct("!5I")


class ServerFailed(Exception):
    """A server's error, or nonsense: it is not asked that question again. `rcode`: where it sent one."""

    def __init__(self, reason: str, rcode: str = "") -> None:
        super().__init__(reason)
        self.rcode = rcode


class Malformed(Exception):
    """The message is not what RFC 1035 describes."""


class Query:
    """One question as it goes over the wire. `end`: where it ends, in the query and in its replies."""

    __slots__ = ("_question", "end", "name", "rtype")

    def __init__(self, name: Name, rtype: RRType) -> None:
        self.name = name
        self.rtype = rtype
        self._question = name + struct.pack("!2H", TYPES[rtype], IN)
        self.end = _HEADER.size + len(self._question)

    def to_wire(self) -> bytes:
        """The message, with a fresh random id; RD is set, and AD: whether the answer is authentic (RFC 6840 5.7).

        No EDNS: the answers are small, where not there is TCP, and every server and middlebox takes a plain query.
        """
        return _HEADER.pack(secrets.randbits(16), RD | AD, 1, 0, 0, 0) + self._question


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said.

    `ttl` as in model.Answer. `alias`, where `pending`: this name has to be asked now (rule B6). `canonical`: the name
    that it is about, at the end of the aliases.
    """

    outcome: Outcome
    rcode: str
    authentic: bool  # the AD bit, for what it is worth
    ttl: int | None
    canonical: Name
    mx: tuple[Mx, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    alias: Name | None = None


def is_reply(wire: bytes, sent: bytes) -> bool:
    """Whether this message has the id and the question that were sent (RFC 5452 section 9.1)."""
    if len(wire) < _HEADER.size or wire[:2] != sent[:2]:
        return False
    flags, questions = struct.unpack_from("!2H", wire, 2)
    if not flags & QR or flags & OPCODE:
        return False
    if questions == 0:
        return flags & RCODE in BARE_ERRORS
    # a first name cannot be compressed; a length is below 64 and no capital letter
    return questions == 1 and wire[_HEADER.size : len(sent)].lower() == sent[_HEADER.size :]


def is_truncated(wire: bytes) -> bool:
    """Whether the reply did not fit."""
    return bool(wire[2] & TC >> 8)


def read(wire: bytes, query: Query) -> Reply:
    """What the reply says. Raises ServerFailed for an error, and for what cannot be read."""
    rcode = wire[3] & RCODE
    if rcode not in (NOERROR, NXDOMAIN):
        text = rcode_text(rcode)
        raise ServerFailed(text, text)
    text = "NXDOMAIN" if rcode else "NOERROR"
    try:
        return _Reader(wire, query).reply(text)
    except (Malformed, IndexError, struct.error) as error:
        raise ServerFailed(str(error) if isinstance(error, Malformed) else "malformed reply", text) from error


class _Reader:
    """Goes through a reply once. Reading past the end raises IndexError or struct.error."""

    def __init__(self, wire: bytes, query: Query) -> None:
        self.wire = wire
        self.query = query
        self.at = query.end
        self.steps = 0
        _, self.flags, _, self.answers, self.authorities, _ = _HEADER.unpack_from(wire)

    def reply(self, rcode: str) -> Reply:
        """Follow the aliases from the name that was asked to where the records are, or should be."""
        found, aliases = self._answer_section()
        name, ttls = self.query.name, []
        while name not in found and name in aliases:
            name, ttl = aliases[name]
            ttls.append(ttl)
            if len(ttls) > MAX_CHAIN:
                raise Malformed("CNAME loop")
        authentic = bool(self.flags & AD)
        records = found.get(name)
        if records:
            if rcode == "NXDOMAIN":
                raise Malformed("NXDOMAIN with records")
            ttls += records.values()
            mx = tuple(item for item in records if isinstance(item, Mx))
            addresses = tuple(item for item in records if not isinstance(item, Mx))
            return Reply(Outcome.FOUND, rcode, authentic, min(ttls), name, mx, addresses)
        negative = self._negative_ttl(name)
        if ttls and rcode == "NOERROR" and negative is None:  # nothing is said about the target
            return Reply(Outcome.PENDING, rcode, authentic, min(ttls), name, alias=name)
        return Reply(Outcome.NONE, rcode, authentic, None if negative is None else min([*ttls, negative]), name)

    def _answer_section(self) -> tuple[dict[Name, dict[Mx | IPAddress, int]], dict[Name, tuple[Name, int]]]:
        """The records of the type that was asked, and the aliases: by owner, with their TTLs."""
        found: dict[Name, dict[Mx | IPAddress, int]] = {}
        aliases: dict[Name, tuple[Name, int]] = {}
        wanted = TYPES[self.query.rtype]
        for _ in range(self.answers):
            owner, rtype, ttl, end = self._record()
            if rtype == wanted:
                record = self._data(end)
                at_owner = found.setdefault(owner, {})
                at_owner[record] = min(ttl, at_owner.get(record, ttl))
            elif rtype == CNAME:
                aliases.setdefault(owner, (self._name(), ttl))
            else:
                self.at = end
            if self.at != end:
                raise Malformed("malformed reply")
        return found, aliases

    def _negative_ttl(self, name: Name) -> int | None:
        """How long `name` has no such records (RFC 2308 section 5); None: no SOA says so.

        Raises Malformed for a referral (section 2.2): a server that only says who else to ask does not know.
        """
        referral = False
        for _ in range(self.authorities):
            owner, rtype, ttl, end = self._record()
            if rtype == SOA and _is_within(name, owner):
                self._name()
                self._name()
                *_, minimum = _SOA_TIMES.unpack_from(self.wire, self.at)
                return min(ttl, int(minimum))
            referral = referral or rtype == NS
            self.at = end
        if referral and not self.flags & AA:
            raise Malformed("referral to other servers")
        return None

    def _record(self) -> tuple[Name, int, int, int]:
        """A record up to its data: owner, type (0 where it is not of class IN), TTL, and where it ends."""
        owner = self._name()
        rtype, rclass, ttl, length = _RECORD.unpack_from(self.wire, self.at)
        self.at += _RECORD.size
        end = self.at + length
        if end > len(self.wire):
            raise Malformed("malformed reply")
        return owner, rtype if rclass == IN else 0, 0 if ttl >> 31 else ttl, end  # RFC 2181 section 8

    def _data(self, end: int) -> Mx | IPAddress:
        start, self.at = self.at, end
        if self.query.rtype is RRType.MX:
            (preference,) = _PREFERENCE.unpack_from(self.wire, start)
            self.at = start + _PREFERENCE.size
            return Mx(preference, text_of(tuple(self._labels())))
        kind, size = (IPv4Address, 4) if self.query.rtype is RRType.A else (IPv6Address, 16)
        if end - start != size:
            raise Malformed("malformed reply")
        return kind(self.wire[start:end])

    def _name(self) -> Name:
        return b"".join([bytes((len(label),)) + label for label in self._labels()]).lower() + b"\0"

    def _labels(self) -> list[bytes]:
        """The labels of the name at `at`, which moves behind it (RFC 1035 section 4.1.4)."""
        wire, at = self.wire, self.at
        labels: list[bytes] = []
        size = 1
        lowest = at  # pointers lead ever further back
        behind = 0
        while length := wire[at]:
            self.steps += 1
            if length < 64:
                labels.append(wire[at + 1 : at + 1 + length])
                size += length + 1
                at += length + 1
            elif length >= 192:
                behind = behind or at + 2
                at = (length & 63) << 8 | wire[at + 1]
                if at >= lowest:
                    raise Malformed("malformed reply")
                lowest = at
            else:
                raise Malformed("malformed reply")
            if size > MAX_NAME or self.steps > MAX_STEPS:
                raise Malformed("malformed reply")
        self.at = behind or at + 1
        return labels


def _is_within(name: Name, zone: Name) -> bool:
    """Whether `name` is `zone` or below it."""
    while len(name) > len(zone):
        name = name[1 + name[0] :]
    return name == zone
