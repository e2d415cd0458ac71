"""Message bodies as octets and back (D-Bus Specification, "Marshalling (Wire Format)"), by dbus-next's own codec.

Bounded where the library is not: it keeps every signature that it ever saw, reads on from a stream where a body ends
too soon, and writes a NUL into a string, for which a bus disconnects the sender. How large a body may be is up to the
caller: reading takes about a microsecond an octet at worst.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from salsa_agent.bus._dbus_next import (
    BIG_ENDIAN,
    LITTLE_ENDIAN,
    Marshaller,
    MarshallerStreamEndError,
    SignatureTree,
    Unmarshaller,
    Variant,
)

_MAX_DEPTH = 64  # of containers within each other (D-Bus Specification, "Valid Signatures", "Marshalling")

_ALIGNED_TO_8 = frozenset("xtd({")

Value = Variant  # a typed value: `signature`, `value`


class Malformed(Exception):
    """A message is not as the specification has it; the next one begins where its header says."""


def encode(signature: str, values: Iterable[Any]) -> bytes:
    """The body with these values, in little-endian order.

    Raises ValueError for values that are not of their types, which only a bug in the agent can bring about.
    """
    try:
        return bytes(_Writer(signature, list(values)).marshall())
    except Exception as error:  # the library's errors have no common base
        raise ValueError(str(error)) from error


def decode(signature: str, body: bytes, *, little: bool) -> list[Any]:
    """The values of a body, or its first ones, as many as the signature has. `little`: its byte order.

    Raises Malformed.
    """
    return _read(signature, body, 0, little)[0] if signature else []


def skip(kind: str, message: bytes, at: int, *, little: bool) -> int:
    """Where in `message` the value of type `kind` ends that begins at `at`. Raises Malformed."""
    return _read(kind, message, at, little)[1]


def _read(signature: str, octets: bytes, at: int, little: bool) -> tuple[list[Any], int]:
    reader = _Reader(io.BytesIO())  # nothing follows these octets
    reader.buf, reader.offset, reader.endian = bytearray(octets), at, LITTLE_ENDIAN if little else BIG_ENDIAN
    try:
        return [reader.read_argument(kind) for kind in signature_tree(signature).types], reader.offset
    except (Exception, MarshallerStreamEndError) as error:  # no common base here either; RecursionError is one
        raise Malformed("a value that is not of its type") from error


signature_tree = lru_cache(maxsize=128)(SignatureTree)


class _Reader(Unmarshaller):  # type: ignore[misc]  # the library has no types
    """The library's, with the checks that it leaves out. Nothing is read from beyond the octets given."""

    depth = 0  # of variants within variants

    def read_string(self, _: object = None) -> Any:
        text = super().read_string()
        self._expect_nul()
        return text

    def read_signature(self, _: object = None) -> Any:
        text = super().read_signature()
        self._expect_nul()
        return text

    def _expect_nul(self) -> None:
        if self.buf[self.offset - 1]:
            raise ValueError("a text without its end")

    def read_variant(self, _: object = None) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError("values that are too deep")
        tree = signature_tree(self.read_signature())
        (kind,) = tree.types
        value = Variant(tree, self.read_argument(kind))
        self.depth -= 1
        return value

    def read_array(self, kind: Any) -> Any:
        self.align(4)
        start = self.offset
        values = super().read_array(kind)
        (length,) = struct.unpack_from("<I" if self.endian == LITTLE_ENDIAN else ">I", self.buf, start)
        alignment = 8 if kind.children[0].token in _ALIGNED_TO_8 else 1  # 4 otherwise, which the length is already
        first = (start + 4 + alignment - 1) & -alignment
        if self.offset != first + length:
            raise ValueError("an array that ends in mid-value")
        return values


class _Writer(Marshaller):  # type: ignore[misc]  # the library has no types
    def write_string(self, value: str, kind: object = None) -> Any:
        if "\0" in value:
            raise ValueError("NUL in a string")
        return super().write_string(value, kind)
