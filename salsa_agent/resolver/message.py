"""DNS messages (RFC 1035 section 4): the query that is sent, and what a reply says about its question.

Replies are read here and in `wire`: `dns.message.from_wire` makes an object of every record of every section, and
imports a module for each record type that a reply cares to name, which takes 15 seconds for a hostile reply of 64 KiB
(docs/decisions/dnspython-with-our-own-loop.md).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rcode
from dns.name import Name
from dns.rdatatype import AAAA, CNAME, MX, NS, SOA, SRV, TXT, A

from salsa_agent.core.model import IPAddress, Mx, Outcome, RRType, Srv
from salsa_agent.resolver.wire import IN, Malformed, Record, Wire

QR, OPCODE, AA, TC, RD, AD, RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0020, 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BARE_ERRORS = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))  # servers may send these without the question

TYPES = {RRType.A: A, RRType.MX: MX, RRType.AAAA: AAAA, RRType.SRV: SRV, RRType.TXT: TXT}

MAX_CHAIN = 16  # CNAMEs in one reply

_HEADER = struct.Struct("!6H")
_QUESTION_TAIL = struct.Struct("!2H")
_MX_HEAD = struct.Struct("!H")
_SRV_HEAD = struct.Struct("!3H")
_SOA_TAIL = struct.Struct("!5L")

Data = Mx | Srv | IPAddress | str


class ServerFailed(Exception):
    """A server is of no use for this question: an error, a reply that cannot be read, or no way to it.

    `rcode`: where it sent one. `replied`: whether anything came from it.
    """

    def __init__(self, reason: str, rcode: str = "", *, replied: bool = True) -> None:
        super().__init__(reason)
        self.rcode = rcode
        self.replied = replied


class Query:
    """One question as a message, with a random id (RFC 5452 section 9.2). RD is set, and AD: RFC 6840 section 5.7.

    `mixed_case`: each letter of the name is in upper or lower case at random, which a forger has to guess, too (0x20:
    draft-vixie-dnsext-dns0x20-00). No EDNS: the answers are small, where not there is TCP, and every server and
    middlebox takes a plain query.
    """

    __slots__ = ("mixed_case", "name", "rtype", "wire")

    def __init__(self, name: Name, rtype: RRType, *, mixed_case: bool = False) -> None:
        self.name = name
        self.rtype = rtype
        plain = name.to_digestable()
        sent = _randomize_case(plain) if mixed_case else plain
        self.mixed_case = sent != plain  # a name without letters has no case
        header = _HEADER.pack(secrets.randbits(16), RD | AD, 1, 0, 0, 0)
        self.wire = header + sent + _QUESTION_TAIL.pack(TYPES[rtype], IN)


class Reply(NamedTuple):
    """What a server said of a name, at the end of its aliases `canonical`. `ttl` as in model.Answer.

    Names are as those of `Wire`.
    """

    outcome: Outcome
    rcode: str
    authentic: bool  # the AD bit, for what it is worth
    ttl: int | None
    canonical: str
    records: tuple[Data, ...] = ()


class Alias(NamedTuple):
    """The name that was asked is an alias of `target`, about which the reply says nothing: it has to be asked (B6)."""

    target: str
    rcode: str
    authentic: bool
    ttl: int


def query_name(text: str) -> Name:
    """The absolute name. Raises ValueError when it is none: no server could answer."""
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError) as error:  # UnicodeError is a ValueError
        raise ValueError("not a domain name") from error


def is_reply(wire: bytes, query: bytes) -> bool:
    """Whether this message has the id and the question that were sent (RFC 5452 section 9.1), in whatever case."""
    if len(wire) < _HEADER.size or wire[:2] != query[:2]:
        return False
    flags, questions = struct.unpack_from("!2H", wire, 2)
    if not flags & QR or flags & OPCODE:
        return False
    if questions == 0:
        return flags & RCODE in BARE_ERRORS
    # a first name cannot be compressed; a length is below 64 and no letter
    return questions == 1 and wire[_HEADER.size : len(query)].lower() == query[_HEADER.size :].lower()


def keeps_case(wire: bytes, query: bytes) -> bool:
    """Whether a reply has the question's name as it was sent. An error without the question does."""
    return wire[4:6] == b"\0\0" or wire[_HEADER.size : len(query)] == query[_HEADER.size :]


def is_truncated(wire: bytes) -> bool:
    """Whether the reply did not fit."""
    return bool(wire[2] & TC >> 8)


def read(wire: bytes, query: Query) -> Reply | Alias:
    """What the reply says. Raises ServerFailed for an error, and for what cannot be read."""
    code = wire[3] & RCODE
    rcode = dns.rcode.to_text(dns.rcode.Rcode(code))
    if code not in (NOERROR, NXDOMAIN):
        raise ServerFailed(rcode, rcode)
    try:
        return _Reader(wire, query).read(rcode)
    except Malformed as error:
        raise ServerFailed(str(error), rcode) from error
    except (ValueError, struct.error) as error:
        raise ServerFailed("malformed reply", rcode) from error


class _Reader:
    """Goes through a reply once. Of its records those are decoded that say something about the name that was asked."""

    def __init__(self, octets: bytes, query: Query) -> None:
        self._query = query
        self._octets = octets
        self._wire = Wire(octets, len(query.wire))
        _, self._flags, _, self._answers, self._authorities, _ = _HEADER.unpack_from(octets)

    def read(self, rcode: str) -> Reply | Alias:
        """Follow the aliases from the name that was asked to where the records are, or should be."""
        found, aliases = self._answer_section()
        name, ttls = canonical(self._query.name), list[int]()
        while name not in found and name in aliases:
            alias = aliases[name]
            name = self._name(alias, alias.at)
            ttls.append(alias.ttl)
            if len(ttls) > MAX_CHAIN:
                raise Malformed("CNAME loop")
        authentic = bool(self._flags & AD)
        records = found.get(name, [])
        if records and rcode == "NOERROR":
            ttl = min([*ttls, *(record.ttl for record in records)])
            return Reply(Outcome.FOUND, rcode, authentic, ttl, name, tuple(dict.fromkeys(map(self._decoded, records))))
        negative_ttl, referral = self._authority_section(name)
        if rcode == "NOERROR":  # an NXDOMAIN says it whatever stands beside it (RFC 2308 section 2.1)
            if referral and negative_ttl is None and not self._flags & AA:
                raise Malformed("referral to other servers")  # who only says whom to ask does not know (section 2.2)
            if ttls and negative_ttl is None:
                return Alias(name, rcode, authentic, min(ttls))
        return Reply(Outcome.NONE, rcode, authentic, None if negative_ttl is None else min([*ttls, negative_ttl]), name)

    def _answer_section(self) -> tuple[dict[str, list[Record]], dict[str, Record]]:
        """The records of the type that was asked, and the aliases, by owner."""
        found: dict[str, list[Record]] = {}
        aliases: dict[str, Record] = {}
        wanted = TYPES[self._query.rtype]
        for record in self._wire.records(self._answers):
            if record.rtype == wanted:
                found.setdefault(record.owner, []).append(record)
            elif record.rtype == CNAME:
                aliases.setdefault(record.owner, record)
        return found, aliases

    def _authority_section(self, name: str) -> tuple[int | None, bool]:
        """How long `name` has no such records (RFC 2308 section 5; None: no SOA says so); whether there is an NS."""
        referral = False
        for record in self._wire.records(self._authorities):
            if record.rtype == NS:
                referral = True
            elif record.rtype == SOA and is_below(name, record.owner):
                _, at = self._wire.name(record.at)
                _, at = self._wire.name(at)
                if at + _SOA_TAIL.size != record.end:
                    raise Malformed
                return min(record.ttl, _SOA_TAIL.unpack_from(self._octets, at)[-1]), referral
        return None, referral

    def _decoded(self, record: Record) -> Data:
        """What a record says. Raises ValueError, struct.error where it is not of its type's form."""
        data = self._octets[record.at : record.end]
        match self._query.rtype:
            case RRType.MX:
                (preference,) = _MX_HEAD.unpack_from(data)
                return Mx(preference, self._name(record, record.at + _MX_HEAD.size))
            case RRType.SRV:
                priority, weight, port = _SRV_HEAD.unpack_from(data)
                return Srv(priority, weight, port, self._name(record, record.at + _SRV_HEAD.size))
            case RRType.A:
                return IPv4Address(data)
            case RRType.AAAA:
                return IPv6Address(data)
            case RRType.TXT:
                return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in b"".join(_strings(data)))

    def _name(self, record: Record, at: int) -> str:
        """The name that is the rest of a record's data."""
        name, end = self._wire.name(at)
        if end != record.end:
            raise Malformed
        return name


def canonical(name: Name) -> str:
    """A name in the form of those of `Wire`."""
    return name.canonicalize().to_text()


def is_below(name: str, zone: str) -> bool:
    """Whether a zone may hold a name. A dot behind an odd number of backslashes separates no labels."""
    if zone in (".", name):
        return True
    below = name.removesuffix("." + zone)
    return below != name and (len(below) - len(below.rstrip("\\"))) % 2 == 0


def _strings(data: bytes) -> Iterator[bytes]:
    """The character strings of a TXT record (RFC 1035 section 3.3.14)."""
    at = 0
    while at < len(data):
        begin, at = at + 1, at + 1 + data[at]
        if at > len(data):
            raise Malformed
        yield data[begin:at]


def _randomize_case(name: bytes) -> bytes:
    """The name of a message with each letter in upper or lower case at random, not all of them in lower case."""
    letters = [at for at, byte in enumerate(name) if 97 <= byte <= 122]  # a length is below 64
    if not letters:
        return name
    case = secrets.randbits(len(letters)) or 1
    mixed = bytearray(name)
    for bit, at in enumerate(letters):
        mixed[at] ^= 0x20 * (case >> bit & 1)
    return bytes(mixed)
