"""D-Bus messages as bytes (D-Bus Specification, "Message Format").

A header is read without its body, so that a message nobody wants costs next to nothing whatever its size, and a header
field or message type that is new to us is ignored, as the specification has it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from salsa_agent.bus.codec import Malformed as Malformed
from salsa_agent.bus.codec import decode as decode
from salsa_agent.bus.codec import encode as encode
from salsa_agent.bus.codec import skip

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_REPLY_EXPECTED = 1
FIXED = 16  # octets of a header before its fields
MAX_MESSAGE = 1 << 27
_MAX_NAME = 255  # D-Bus Specification, "Valid Names"

_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_TYPES = {
    _PATH: b"o", _INTERFACE: b"s", _MEMBER: b"s", _ERROR_NAME: b"s", _REPLY_SERIAL: b"u", _DESTINATION: b"s",
    _SENDER: b"s", _SIGNATURE: b"g",
}  # fmt: skip

_LEADS = {code: bytes((code, 1)) + kind + b"\0" for code, kind in _TYPES.items()}  # code, and signature of its variant


class FramingError(Exception):
    """What comes from the bus is no D-Bus message: there is no way to find the next one."""


@dataclass(slots=True)
class Header:
    """The header of a message. Fields that it lacks are empty. `little`: its byte order, and its body's."""

    kind: int
    flags: int
    serial: int
    little: bool = True
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_serial: int = 0
    destination: str = ""
    sender: str = ""
    signature: str = ""


def sizes(start: bytes | bytearray) -> tuple[int, int]:
    """Octets of the header with its padding, and of the body, from the first 16. Raises FramingError."""
    if start[0] not in b"lB" or start[3] != 1:
        raise FramingError("the bus sent what is no D-Bus message")
    order = "<" if start[0] == 0x6C else ">"
    body, _, fields = struct.unpack_from(f"{order}III", start, 4)
    header = FIXED + _aligned(fields, 8)
    if header + body > MAX_MESSAGE:
        raise FramingError("the bus sent a message larger than the specification allows")
    return header, body


def parse(data: bytes) -> Header:
    """The header in `data`, which it fills but for padding. Raises Malformed."""
    try:
        return _parse(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed("a damaged header") from error


def _parse(data: bytes) -> Header:
    little = data[0] == 0x6C
    u32 = struct.Struct("<I" if little else ">I").unpack_from
    header = Header(data[1], data[2], u32(data, 8)[0], little)
    at, end = FIXED, FIXED + u32(data, 12)[0]
    while at < end:
        at = _aligned(at, 8)
        code, length = data[at], data[at + 1]
        kind = data[at + 2 : at + 2 + length]
        at += length + 3
        if code not in _TYPES:
            at = skip(kind.decode(), data, at, little=little)
            continue
        if kind != _TYPES[code]:
            raise Malformed("a header field of the wrong type")
        if kind == b"u":
            at = _aligned(at, 4)
            header.reply_serial = u32(data, at)[0]
            at += 4
            continue
        if kind == b"g":
            length = data[at]
            at += 1
        else:
            at = _aligned(at, 4)
            length = u32(data, at)[0]
            at += 4
        text = data[at : at + length].decode()
        at += length + 1
        if length > _MAX_NAME and code != _PATH:
            raise Malformed("a header with an endless name")
        if code == _PATH:
            header.path = text
        elif code == _INTERFACE:
            header.interface = text
        elif code == _MEMBER:
            header.member = text
        elif code == _ERROR_NAME:
            header.error_name = text
        elif code == _DESTINATION:
            header.destination = text
        elif code == _SENDER:
            header.sender = text
        else:
            header.signature = text
    if at > end:
        raise Malformed("a header that ends in mid-field")
    return header


def frame(header: Header, body: bytes = b"") -> bytes:
    """A whole message in little-endian order. The sender is the bus's to fill in.

    By hand: the library takes 30 us more of each, and in a flood there is little else to do but to refuse.
    """
    fields = bytearray()  # 16 octets stand before them, so that they are aligned as the message is
    for code, value in (
        (_PATH, header.path), (_INTERFACE, header.interface), (_MEMBER, header.member),
        (_ERROR_NAME, header.error_name), (_REPLY_SERIAL, header.reply_serial), (_DESTINATION, header.destination),
        (_SIGNATURE, header.signature),
    ):  # fmt: skip
        if value:
            fields += bytes(-len(fields) % 8)
            fields += _LEADS[code]
            fields += _field(code, value)
    start = struct.pack("<BBBBIII", 0x6C, header.kind, header.flags, 1, len(body), header.serial, len(fields))
    return b"".join((start, fields, bytes(-len(fields) % 8), body))


def _field(code: int, value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<I", value)
    octets = value.encode()
    if 0 in octets:
        raise ValueError("NUL in a header")
    length = struct.pack("<B" if code == _SIGNATURE else "<I", len(octets))
    return length + octets + b"\0"


def reply(call: Header, serial: int, signature: str, body: bytes) -> bytes:
    """The reply to a call."""
    return frame(_answer(RETURN, call, serial, signature), body)


def error(call: Header, serial: int, name: str, text: str) -> bytes:
    """The reply to a call that failed. `text`: one sentence."""
    header = _answer(ERROR, call, serial, "s")
    header.error_name = name
    return frame(header, _sentence(text))


@lru_cache(maxsize=32)
def _sentence(text: str) -> bytes:
    """The body of an error. In a flood it is one of a few sentences, which are marshalled once."""
    return encode("s", [text])


def _answer(kind: int, call: Header, serial: int, signature: str) -> Header:
    return Header(
        kind, NO_REPLY_EXPECTED, serial, reply_serial=call.serial, destination=call.sender, signature=signature
    )


def _aligned(at: int, to: int) -> int:
    return (at + to - 1) & -to
