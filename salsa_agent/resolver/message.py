"""DNS messages (RFC 1035 section 4): the query that is sent, and what a reply says about its question.

Names, the reading of octets and record data are dnspython's, under a loop of ours: `dns.message.from_wire` makes an
object of every record of every section, and imports a module for each record type that a reply cares to name, which
takes 15 seconds for a hostile reply of 64 KiB (docs/decisions/dnspython-with-our-own-loop.md).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
from dns.name import Name
from dns.rdatatype import AAAA, CNAME, MX, NS, SOA, SRV, TXT, A

from salsa_agent.core.model import IPAddress, Mx, Outcome, RRType, Srv
from salsa_agent.resolver.wire import Malformed, Wire, WireRecord, canonical

QR, OPCODE, AA, TC, RD, AD, RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0020, 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BARE_ERRORS = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))  # servers may send these without the question

TYPES = {RRType.A: A, RRType.MX: MX, RRType.AAAA: AAAA, RRType.SRV: SRV, RRType.TXT: TXT}

MAX_CHAIN = 16  # CNAMEs in one reply

MAX_DECODED = 1024  # records of a set; C5 lets 32 exchanges count, and 16 addresses

_HEADER = struct.Struct("!6H")
_QUESTION_TAIL = struct.Struct("!2H")
_IN = 1  # the class
_PREFERENCE = 2  # octets of the preference of an MX record, and of the priority of an SRV record, which come first

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
        self.wire = header + sent + _QUESTION_TAIL.pack(TYPES[rtype], _IN)


class Reply(NamedTuple):
    """What a server said of a name, at the end of its aliases `canonical`. `ttl` as in model.Answer.

    Names are in the form of `canonical`.
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
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        raise ServerFailed("malformed reply", rcode) from error


class _Reader:
    """Goes through a reply once. Of its records those are decoded that may count for the name that was asked."""

    def __init__(self, octets: bytes, query: Query) -> None:
        self._query = query
        self._wire = Wire(octets, len(query.wire))
        _, self._flags, _, self._answers, self._authorities, _ = _HEADER.unpack_from(octets)

    def read(self, rcode: str) -> Reply | Alias:
        """Follow the aliases from the name that was asked to where the records are, or should be."""
        found, aliases = self._answer_section()
        name, ttls = canonical(self._query.name), list[int]()
        while name not in found and name in aliases:
            alias = aliases[name]
            name = canonical(_target(self._wire.decode(alias)))
            ttls.append(alias.ttl)
            if len(ttls) > MAX_CHAIN:
                raise Malformed("CNAME loop")
        authentic = bool(self._flags & AD)
        records = found.get(name, [])
        if records and rcode == "NOERROR":
            ttl = min([*ttls, *(record.ttl for record in records)])
            data = dict.fromkeys(_data(self._wire.decode(record)) for record in self._best(records))
            return Reply(Outcome.FOUND, rcode, authentic, ttl, name, tuple(data))
        negative_ttl, referral = self._authority_section(name)
        if rcode == "NOERROR":  # an NXDOMAIN says it whatever stands beside it (RFC 2308 section 2.1)
            if referral and negative_ttl is None and not self._flags & AA:
                raise Malformed("referral to other servers")  # who only says whom to ask does not know (section 2.2)
            if ttls and negative_ttl is None:
                return Alias(name, rcode, authentic, min(ttls))
        return Reply(Outcome.NONE, rcode, authentic, None if negative_ttl is None else min([*ttls, negative_ttl]), name)

    def _answer_section(self) -> tuple[dict[str, list[WireRecord]], dict[str, WireRecord]]:
        """The records of the type that was asked, and the aliases, by owner."""
        found: dict[str, list[WireRecord]] = {}
        aliases: dict[str, WireRecord] = {}
        wanted = TYPES[self._query.rtype]
        for record in self._wire.records(self._answers, frozenset((wanted, CNAME))):
            if record.rtype == wanted:
                found.setdefault(record.owner, []).append(record)
            else:
                aliases.setdefault(record.owner, record)
        return found, aliases

    def _authority_section(self, name: str) -> tuple[int | None, bool]:
        """How long `name` has no such records (RFC 2308 section 5; None: no SOA says so); whether there is an NS."""
        referral = False
        for record in self._wire.records(self._authorities, frozenset((SOA, NS))):
            if record.rtype == NS:
                referral = True
            elif self._wire.is_below(name, record.owner):
                soa = self._wire.decode(record)
                assert isinstance(soa, dns.rdtypes.ANY.SOA.SOA)
                return min(record.ttl, soa.minimum), referral
        return None, referral

    def _best(self, records: Sequence[WireRecord]) -> Sequence[WireRecord]:
        """The records of a set that may count (C5), wherever they stand: the lowest in preference, priority or address.

        Of more than MAX_DECODED with the same preference those that stand first.
        """
        if len(records) <= MAX_DECODED:
            return records
        once: dict[bytes, WireRecord] = {}
        for record in records:
            once.setdefault(self._wire.octets(record), record)
        match self._query.rtype:
            case RRType.MX | RRType.SRV:
                best = sorted(once, key=lambda octets: octets[:_PREFERENCE])
            case RRType.A | RRType.AAAA:
                best = sorted(once)
            case RRType.TXT:
                best = list(once)
        return [once[octets] for octets in best[:MAX_DECODED]]


def _target(rdata: dns.rdata.Rdata) -> Name:
    assert isinstance(rdata, dns.rdtypes.ANY.CNAME.CNAME)
    return rdata.target


def _data(rdata: dns.rdata.Rdata) -> Data:
    """Names are in lower case: a server may compress them by pointers into the question, whose case is random."""
    match rdata:
        case dns.rdtypes.ANY.MX.MX():
            return Mx(rdata.preference, canonical(rdata.exchange))
        case dns.rdtypes.IN.SRV.SRV():
            return Srv(rdata.priority, rdata.weight, rdata.port, canonical(rdata.target))
        case dns.rdtypes.ANY.TXT.TXT():
            return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in b"".join(rdata.strings))
        case dns.rdtypes.IN.A.A() | dns.rdtypes.IN.AAAA.AAAA():
            return ip_address(rdata.address)
    raise Malformed


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
