"""Values from bytes (D-Bus Specification, "Marshalling (Wire Format)"), which may be anybody's.

Not by the libraries: dbus-next keeps every signature it ever saw and takes its time, and the compiled dbus-fast 5.2
goes backwards, for ever, at a string in an array that says it has nearly 2^32 octets. A test holds the values to be
the library's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from salsa_agent.bus.codec.marshal import Value
from salsa_agent.bus.codec.signature import ALIGNMENT, NUMBERS, split

# octets, where the value begins among them, and in how many containers; the value, and where it ends
Reader = Callable[[bytes, int, int], tuple[Any, int]]

_MAX_DEPTH = 64  # of containers within each other, those in variants included


class Malformed(Exception):
    """One message is not as it must be; the next one begins where its header says."""


def decode(signature: str, body: bytes, *, little: bool) -> list[Any]:
    """The values of a body, or the first ones of it; a variant is a Value. Raises Malformed.

    Whether an object path or a signature is one is not looked at.
    """
    found = []
    at = 0
    try:
        for kind in split(signature):
            value, at = _reader(kind, little)(body, at, 0)
            found.append(value)
    except (ValueError, IndexError, struct.error) as error:
        raise Malformed("a value that is not of its type") from error
    return found


def skip(kind: str, message: bytes, at: int, *, little: bool) -> int:
    """Where the value of this complete type ends that begins at `at`. Raises Malformed."""
    try:
        return _reader(kind, little)(message, at, 0)[1]
    except (ValueError, IndexError, struct.error) as error:
        raise Malformed("a value that is not of its type") from error


@lru_cache(maxsize=512)
def _reader(kind: str, little: bool) -> Reader:
    """For one complete type. Raises ValueError where it is none."""
    if split(kind) != (kind,):
        raise ValueError("not one complete type")
    if kind in NUMBERS:
        return _number(kind, little)
    match kind[0]:
        case "b":
            return _boolean(little)
        case "s" | "o":
            return _string(little)
        case "g":
            return _read_signature
        case "v":
            return _variant(little)
        case "a":
            return _array(kind[1:], little)
        case _:
            return _struct(kind[1:-1], little)


def _of(kind: str, little: bool) -> struct.Struct:
    return struct.Struct(f"{'<' if little else '>'}{NUMBERS[kind]}")


def _number(kind: str, little: bool) -> Reader:
    unpack, size = _of(kind, little).unpack_from, _of(kind, little).size

    def read(data: bytes, at: int, _depth: int) -> tuple[Any, int]:
        at = (at + size - 1) & -size
        return unpack(data, at)[0], at + size

    return read


def _boolean(little: bool) -> Reader:
    number = _number("u", little)

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        value, at = number(data, at, depth)
        return bool(value), at

    return read


def _string(little: bool) -> Reader:
    unpack = _of("u", little).unpack_from

    def read(data: bytes, at: int, _depth: int) -> tuple[Any, int]:
        at = (at + 3) & -4
        end = at + 4 + unpack(data, at)[0]
        if data[end]:
            raise ValueError("a string without its end")
        return data[at + 4 : end].decode(), end + 1

    return read


def _read_signature(data: bytes, at: int, _depth: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if data[end]:
        raise ValueError("a signature without its end")
    return data[at + 1 : end].decode("ascii"), end + 1


def _variant(little: bool) -> Reader:
    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        if depth >= _MAX_DEPTH:
            raise ValueError("values that are too deep")
        kind, at = _read_signature(data, at, depth)
        value, at = _reader(kind, little)(data, at, depth + 1)
        return Value(kind, value), at

    return read


def _array(kind: str, little: bool) -> Reader:
    """For an array of this type, which may be the entry of a dictionary."""
    unpack, alignment = _of("u", little).unpack_from, ALIGNMENT.get(kind[0], 8)

    def extent(data: bytes, at: int) -> tuple[int, int]:
        """Where the elements begin and end."""
        at = (at + 3) & -4
        start = (at + 4 + alignment - 1) & -alignment
        end = start + unpack(data, at)[0]
        if end > len(data):
            raise ValueError("an array without its end")
        return start, end

    def octets(data: bytes, at: int, _depth: int) -> tuple[Any, int]:
        at, end = extent(data, at)
        return bytes(data[at:end]), end

    def values(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        at, end = extent(data, at)
        found = []
        while at < end:
            value, at = element(data, at, depth + 1)
            found.append(value)
        if at > end:
            raise ValueError("an array that ends in mid-value")
        return found, at

    def entries(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        at, end = extent(data, at)
        found = {}
        while at < end:
            name, at = key(data, (at + 7) & -8, depth + 1)
            found[name], at = element(data, at, depth + 1)
        if at > end:
            raise ValueError("a dictionary that ends in mid-value")
        return found, at

    if kind == "y":
        return octets
    if kind[0] != "{":
        element = _reader(kind, little)
        return values
    key, element = _reader(kind[1], little), _reader(kind[2:-1], little)
    return entries


def _struct(kinds: str, little: bool) -> Reader:
    readers = [_reader(kind, little) for kind in split(kinds)]

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        at = (at + 7) & -8
        found = []
        for reader in readers:
            value, at = reader(data, at, depth + 1)
            found.append(value)
        return found, at

    return read
