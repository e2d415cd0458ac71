"""DNS messages (RFC 1035 section 4): the query that is sent, and what a reply says about its question.

Names and record data are read by dnspython. The loop over the records is here: `dns.message.from_wire` makes an object
of every record of every section, and imports a module for each record type that a reply cares to name, which takes
15 seconds for a hostile reply of 64 KiB (docs/decisions/dnspython-with-our-own-loop.md).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
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
import dns.wire
from dns.name import Name
from dns.rdataclass import IN
from dns.rdatatype import AAAA, CNAME, MX, NS, SOA, SRV, TXT, A, RdataType

from salsa_agent.core.model import IPAddress, Mx, Outcome, RRType, Srv

QR, OPCODE, AA, TC, RD, AD, RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0020, 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BARE_ERRORS = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))  # servers may send these without the question

TYPES = {RRType.A: A, RRType.MX: MX, RRType.AAAA: AAAA, RRType.SRV: SRV, RRType.TXT: TXT}

MAX_CHAIN = 16  # CNAMEs in one reply
MAX_RECORDS = 512  # of one reply; those after them are not read
MAX_POINTERS = 16  # of one name, in a row; an honest one has one, and dnspython 2.7 would follow any number
MAX_LABELS = 1 << 15  # in the names of one reply: about 50 ms; 512 honest records have at most half as many

_HEADER = struct.Struct("!6H")
_QUESTION_TAIL = struct.Struct("!2H")

Record = Mx | Srv | IPAddress | str


class ServerFailed(Exception):
    """A server is of no use for this question: an error, a reply that cannot be read, or no way to it.

    `rcode`: where it sent one. `replied`: whether anything came from it.
    """

    def __init__(self, reason: str, rcode: str = "", *, replied: bool = True) -> None:
        super().__init__(reason)
        self.rcode = rcode
        self.replied = replied


class Malformed(dns.exception.FormError):
    """The message is not what RFC 1035 describes. One of the library's errors, which it lets through as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)  # type: ignore[no-untyped-call]


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
    """What a server said of a name, at the end of its aliases `canonical`. `ttl` as in model.Answer."""

    outcome: Outcome
    rcode: str
    authentic: bool  # the AD bit, for what it is worth
    ttl: int | None
    canonical: Name
    records: tuple[Record, ...] = ()


class Alias(NamedTuple):
    """The name that was asked is an alias of `target`, about which the reply says nothing: it has to be asked (B6)."""

    target: Name
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
    """Goes through a reply once, and reads at most MAX_RECORDS of its records."""

    def __init__(self, wire: bytes, query: Query) -> None:
        self._query = query
        self._parser = _Parser(wire, len(query.wire))
        _, self._flags, _, self._answers, self._authorities, _ = _HEADER.unpack_from(wire)
        self._records_left = MAX_RECORDS

    def read(self, rcode: str) -> Reply | Alias:
        """Follow the aliases from the name that was asked to where the records are, or should be."""
        found, aliases = self._answer_section()
        name, ttls = self._query.name, list[int]()
        while name not in found and name in aliases:
            name, ttl = aliases[name]
            ttls.append(ttl)
            if len(ttls) > MAX_CHAIN:
                raise Malformed("CNAME loop")
        authentic = bool(self._flags & AD)
        records = found.get(name, {})
        if records and rcode == "NOERROR":
            return Reply(Outcome.FOUND, rcode, authentic, min([*ttls, *records.values()]), name, tuple(records))
        negative_ttl, referral = self._authority_section(name)
        if rcode == "NOERROR":  # an NXDOMAIN says it whatever stands beside it (RFC 2308 section 2.1)
            if referral and negative_ttl is None and not self._flags & AA:
                raise Malformed("referral to other servers")  # who only says whom to ask does not know (section 2.2)
            if self._records_left < 0:
                raise Malformed(f"more than {MAX_RECORDS} records")
            if ttls and negative_ttl is None:
                return Alias(name, rcode, authentic, min(ttls))
        return Reply(Outcome.NONE, rcode, authentic, None if negative_ttl is None else min([*ttls, negative_ttl]), name)

    def _answer_section(self) -> tuple[dict[Name, dict[Record, int]], dict[Name, tuple[Name, int]]]:
        """The records of the type that was asked, and the aliases: by owner, with their TTLs."""
        found: dict[Name, dict[Record, int]] = {}
        aliases: dict[Name, tuple[Name, int]] = {}
        wanted = TYPES[self._query.rtype]
        for owner, rdata, ttl in self._records(self._answers, frozenset((wanted, CNAME))):
            if isinstance(rdata, dns.rdtypes.ANY.CNAME.CNAME):
                aliases.setdefault(owner, (rdata.target, ttl))
            elif rdata is not None:
                at_owner = found.setdefault(owner, {})
                record = _record(rdata)
                at_owner[record] = min(ttl, at_owner.get(record, ttl))
        return found, aliases

    def _authority_section(self, name: Name) -> tuple[int | None, bool]:
        """How long `name` has no such records (RFC 2308 section 5; None: no SOA says so); whether there is an NS."""
        referral = False
        for owner, rdata, ttl in self._records(self._authorities, frozenset((SOA, NS))):
            if rdata is None:
                referral = True
            elif isinstance(rdata, dns.rdtypes.ANY.SOA.SOA) and name.is_subdomain(owner):
                return min(ttl, rdata.minimum), referral
        return None, referral

    def _records(self, count: int, types: frozenset[RdataType]) -> Iterator[tuple[Name, dns.rdata.Rdata | None, int]]:
        """Owner, data and TTL of the records of class IN and these types (of NS, whose data is not used, None)."""
        parser = self._parser
        for _ in range(count):
            self._records_left -= 1
            if self._records_left < 0:
                return
            owner = parser.get_name()
            rtype, rclass, ttl, length = parser.get_struct("!HHIH")
            ttl = 0 if ttl >> 31 else ttl  # RFC 2181 section 8
            if rclass != IN or rtype not in types:
                # the library looks for a module for each type that it does not know, and keeps a class for ever
                parser.get_bytes(length)
            elif rtype == NS:
                parser.get_bytes(length)
                yield owner, None, ttl
            else:
                with parser.restrict_to(length):
                    rdata = dns.rdata.from_wire_parser(IN, RdataType(rtype), parser)
                yield owner, rdata, ttl


class _Parser(dns.wire.Parser):
    """The library's, which stops at a name with more than MAX_POINTERS compression pointers, and when the names that it
    read have more than MAX_LABELS labels together.
    """

    _pointers_left = MAX_POINTERS  # here, as the library's constructor calls `seek`

    def __init__(self, wire: bytes, current: int) -> None:
        super().__init__(wire, current)
        self._labels_left = MAX_LABELS

    def get_name(self, origin: Name | None = None, decompress: bool = True) -> Name:  # noqa: ARG002 - as in the library
        """The name here. All that are read may be compressed (RFC 3597 section 4): dnspython 2.7 does not ask."""
        self._pointers_left = MAX_POINTERS
        name = dns.name.from_wire_parser(self)
        self._labels_left -= len(name.labels)
        if self._labels_left < 0:
            raise Malformed("reply with too many labels")
        return name

    def seek(self, where: int) -> None:
        """Where a name goes on, at each of its pointers."""
        self._pointers_left -= 1
        if self._pointers_left < 0:
            raise Malformed("name with too many pointers")
        super().seek(where)


def _record(rdata: dns.rdata.Rdata) -> Record:
    """Names are in lower case: a server may compress them by pointers into the question, whose case is random."""
    match rdata:
        case dns.rdtypes.ANY.MX.MX():
            return Mx(rdata.preference, rdata.exchange.canonicalize().to_text())
        case dns.rdtypes.IN.SRV.SRV():
            return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.canonicalize().to_text())
        case dns.rdtypes.ANY.TXT.TXT():
            return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in b"".join(rdata.strings))
        case dns.rdtypes.IN.A.A() | dns.rdtypes.IN.AAAA.AAAA():
            return ip_address(rdata.address)
    raise Malformed("malformed reply")


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
