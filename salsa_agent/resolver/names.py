"""Domain names as text and in messages, and the names of response codes.

Nearly all of them are plain. For the rest there is dnspython, which is imported when the first one comes: it takes a
tenth of the start.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_NAME = 255  # octets, RFC 1035 section 2.3.4

Name = bytes  # a name of a message: uncompressed, in lower case

# nothing to escape (RFC 1035 section 5.1)
_PLAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.ASCII)
_PLAIN_LABELS = re.compile(rb"[A-Za-z0-9_.-]+")  # joined by dots

_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")  # RFC 1035 section 4.1.1


def query_name(text: str) -> Name:
    """The absolute name. Raises ValueError when it is none: no server could answer."""
    if len(text) < MAX_NAME - 1 and _PLAIN.fullmatch(text):
        return b"".join([b"%c%b" % (len(label), label) for label in text.encode().split(b".")]) + b"\0"
    from salsa_agent.resolver._dnspython import dns

    try:
        return dns.name.from_text(text).to_digestable()
    except (dns.exception.DNSException, ValueError) as error:  # UnicodeError is a ValueError
        raise ValueError("not a domain name") from error


def name_text(name: Name) -> str:
    """The name as text; see `text_of`."""
    labels: list[bytes] = []
    at = 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += length + 1
    return text_of(tuple(labels))


@lru_cache(maxsize=256)
def text_of(labels: tuple[bytes, ...]) -> str:
    """The name as text, with a trailing dot; what is not printable ASCII is escaped (RFC 1035 section 5.1)."""
    joined = b".".join(labels)
    if not labels or (_PLAIN_LABELS.fullmatch(joined) and joined.count(b".") == len(labels) - 1):
        return joined.decode() + "."
    from salsa_agent.resolver._dnspython import dns

    return dns.name.Name((*labels, b"")).to_text()


def rcode_text(rcode: int) -> str:
    """The mnemonic of a response code."""
    if rcode < len(_RCODES):
        return _RCODES[rcode]
    from salsa_agent.resolver._dnspython import dns

    return dns.rcode.to_text(dns.rcode.Rcode(rcode))
