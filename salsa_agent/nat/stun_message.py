"""STUN messages (RFC 8489 sections 5, 6.3 and 14): the Binding request and what may come back. No IO."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from zlib import crc32

from salsa_agent.core.model import IPAddress
from salsa_agent.nat.answer import MappedAddress

COOKIE = 0x2112A442
HEADER = 20  # bytes
_REQUEST, _SUCCESS, _ERROR = 0x0001, 0x0101, 0x0111  # class and method Binding in one (section 5)

_MESSAGE_INTEGRITY, _MESSAGE_INTEGRITY_SHA256 = 0x0008, 0x001C
_ERROR_CODE, _XOR_MAPPED_ADDRESS, _FINGERPRINT = 0x0009, 0x0020, 0x8028
_CLOSING = {
    _MESSAGE_INTEGRITY: frozenset((_MESSAGE_INTEGRITY_SHA256, _FINGERPRINT)),
    _MESSAGE_INTEGRITY_SHA256: frozenset((_FINGERPRINT,)),
}
_OPTIONAL = 0x8000  # from here on an attribute need not be understood
# 18.3.1: what need be and is, though most of it is not looked at. 1-11 hold those of RFC 3489, which servers still send
_UNDERSTOOD = frozenset((*range(0x0001, 0x000C), 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020))


def binding_request(transaction: bytes) -> bytes:
    """A Binding request without attributes; `transaction` has 12 bytes."""
    return struct.pack("!HHI12s", _REQUEST, 0, COOKIE, transaction)


def parse(data: bytes, transaction: bytes) -> MappedAddress | None:
    """What a Binding response to this transaction says; None: `data` is none and is to be discarded. Never raises.

    MAPPED-ADDRESS is no substitute for XOR-MAPPED-ADDRESS: NATs are known to rewrite it (RFC 8489 14.2). No other
    server is asked because this one says so (ALTERNATE-SERVER is an extension of its own, section 10).
    """
    if len(data) < HEADER:
        return None
    kind, length, cookie, of = struct.unpack_from("!HHI12s", data)
    if kind not in (_SUCCESS, _ERROR) or cookie != COOKIE or of != transaction or HEADER + length != len(data):
        return None
    attributes = _attributes(data)
    if attributes is None:
        return None
    for number in attributes:
        if number < _OPTIONAL and number not in _UNDERSTOOD:
            return MappedAddress(None, f"attribute 0x{number:04x} is not understood")
    if kind == _ERROR:
        return MappedAddress(None, _error(attributes.get(_ERROR_CODE, b"")))
    ip = _address(attributes.get(_XOR_MAPPED_ADDRESS, b""), data[4:HEADER])
    return MappedAddress(ip, "" if ip else "no XOR-MAPPED-ADDRESS in the answer")


def _attributes(data: bytes) -> dict[int, bytes] | None:
    """The attributes that count, the first of each (section 14); None: it is no well-formed message."""
    found: dict[int, bytes] = {}
    closed: frozenset[int] = frozenset()  # what still counts after MESSAGE-INTEGRITY (14.5, 14.6); empty: everything
    at = HEADER
    while at < len(data):
        if at + 4 > len(data):
            return None
        number, length = struct.unpack_from("!HH", data, at)
        end = at + 4 + length
        after = end + -length % 4
        if after > len(data):
            return None
        value = data[at + 4 : end]
        if number == _FINGERPRINT and not (after == len(data) and _fingerprint(data[:at]) == value):
            return None
        if not closed or number in closed:
            found.setdefault(number, value)
            closed = _CLOSING.get(number, closed)
        at = after
    return found


def _fingerprint(before: bytes) -> bytes:
    """14.7: over the message up to the attribute."""
    return struct.pack("!I", crc32(before) ^ 0x5354554E)


def _error(value: bytes) -> str:
    """14.8. The phrase is left out: it is text from outside."""
    return f"error {(value[2] & 7) * 100 + value[3]}" if len(value) >= 4 else "an error without a code"


def _address(value: bytes, key: bytes) -> IPAddress | None:
    """14.2; `key`: magic cookie and transaction id. None: of an unknown family, or malformed."""
    family, plain = value[1:2], bytes(a ^ b for a, b in zip(value[4:], key, strict=False))
    if family == b"\x01" and len(value) == 8:
        return IPv4Address(plain)
    if family == b"\x02" and len(value) == 20:
        return IPv6Address(plain)
    return None
