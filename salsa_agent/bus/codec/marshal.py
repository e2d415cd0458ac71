"""Values as bytes (D-Bus Specification, "Marshalling (Wire Format)"), in little-endian order.

The library's marshaller checks and pads value by value: telling followers of a new relay took it as long as all DNS
questions. A signature is taken apart once here, and what stands before the values of an `a{sv}` is made once for each
key. A test holds the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from salsa_agent.bus.codec.signature import ALIGNMENT, NUMBERS, split

Writer = Callable[[bytearray, Any], None]

_NUMBERS = {kind: struct.Struct(f"<{code}") for kind, code in NUMBERS.items()}
_U32 = _NUMBERS["u"]
_MAX_ARRAY = 1 << 26


class Value(NamedTuple):
    """What a variant holds."""

    signature: str
    value: Any


def encode(signature: str, values: Iterable[Any]) -> bytes:
    """A body. A variant is a Value, or what has its two attributes.

    Raises ValueError for values that are not of their types, which only a defect of ours can bring about. Whether an
    object path or a signature is one is not looked at.
    """
    out = bytearray()
    try:
        for write, value in zip(_writers(signature), values, strict=True):
            write(out, value)
    except (struct.error, TypeError, AttributeError, IndexError) as error:
        raise ValueError(str(error)) from error
    return bytes(out)


@lru_cache(maxsize=128)
def _writers(signature: str) -> tuple[Writer, ...]:
    """One for each complete type."""
    return tuple(map(_writer, split(signature)))


@lru_cache(maxsize=128)
def _writer(kind: str) -> Writer:
    """For one complete type. Raises ValueError where it is none."""
    if split(kind) != (kind,):
        raise ValueError("not one complete type")
    if kind in _NUMBERS:
        return _number(kind)
    if kind == "a{sv}":
        return _put_dict
    match kind[0]:
        case "b":
            return _put_boolean
        case "s" | "o":
            return _put_string
        case "g":
            return _put_signature
        case "v":
            return _put_variant
        case "a":
            return _array(kind[1:])
        case _:
            return _struct(kind[1:-1])


def _pad(out: bytearray, to: int) -> None:
    missing = -len(out) % to
    if missing:
        out += bytes(missing)


def _number(kind: str) -> Writer:
    size, pack = _NUMBERS[kind].size, _NUMBERS[kind].pack

    def put(out: bytearray, value: Any) -> None:
        _pad(out, size)
        out += pack(value)

    return put


def _put_boolean(out: bytearray, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    _pad(out, 4)
    out += _U32.pack(value)


def _put_string(out: bytearray, value: Any) -> None:
    octets = value.encode()
    if b"\0" in octets:
        raise ValueError("NUL in a string")
    _pad(out, 4)
    out += _U32.pack(len(octets))
    out += octets
    out += b"\0"


def _put_signature(out: bytearray, value: Any) -> None:
    octets = value.encode("ascii")
    out += bytes((len(octets),)) + octets + b"\0"


def _put_variant(out: bytearray, value: Any) -> None:
    _put_signature(out, value.signature)
    _writer(value.signature)(out, value.value)


def _array(kind: str) -> Writer:
    alignment = ALIGNMENT.get(kind[0], 8)
    write = _struct(kind[1:-1]) if kind[0] == "{" else _writer(kind)

    def put(out: bytearray, values: Any) -> None:
        if isinstance(values, str):
            raise TypeError("a string is no array")
        start = _open(out, alignment)
        for value in values.items() if isinstance(values, Mapping) else values:
            write(out, value)
        _close(out, start, alignment)

    return put


def _struct(kinds: str) -> Writer:
    """For a structure, and for the entry of a dictionary."""
    writers = _writers(kinds)

    def put(out: bytearray, values: Any) -> None:
        _pad(out, 8)
        for write, value in zip(writers, values, strict=True):
            write(out, value)

    return put


def _put_dict(out: bytearray, values: Any) -> None:
    """For `a{sv}`."""
    start = _open(out, 8)
    for key, value in values.items():
        _pad(out, 8)
        out += _lead(key, value.signature)
        _writer(value.signature)(out, value.value)
    _close(out, start, 8)


@lru_cache(maxsize=128)
def _lead(key: str, signature: str) -> bytes:
    """What stands before a value of `a{sv}`, from a multiple of eight on."""
    out = bytearray()
    _put_string(out, key)
    _put_signature(out, signature)
    _pad(out, ALIGNMENT.get(signature[0], 8))
    return bytes(out)


def _open(out: bytearray, alignment: int) -> int:
    """The length of an array, which is still to come; where it stands."""
    _pad(out, 4)
    start = len(out)
    out += b"\0\0\0\0"
    _pad(out, alignment)
    return start


def _close(out: bytearray, start: int, alignment: int) -> None:
    length = len(out) - (start + 4 + -(start + 4) % alignment)
    if length > _MAX_ARRAY:
        raise ValueError("an array larger than the specification allows")
    _U32.pack_into(out, start, length)
