"""Signatures (D-Bus Specification, "Type System"), for what is sent as for what is received."""

from __future__ import annotations

from functools import lru_cache

NUMBERS = dict(zip("ynqiuxtdh", "BhHiIqQdI", strict=True))  # as `struct` has them; a descriptor is the number of one
ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "s": 4, "o": 4, "a": 4, "h": 4}  # else 8

_BASIC = frozenset(NUMBERS) | frozenset("bsog")
_MAX_SIGNATURE = 255
_MAX_DEPTH = 32  # of arrays, and of structures


@lru_cache(maxsize=512)
def split(signature: str) -> tuple[str, ...]:
    """Its complete types. Raises ValueError if it is no signature."""
    if len(signature) > _MAX_SIGNATURE:
        raise ValueError("a signature that is too long")
    found = []
    at = 0
    while at < len(signature):
        end = _end(signature, at, 0, 0)
        found.append(signature[at:end])
        at = end
    return tuple(found)


def _end(signature: str, at: int, arrays: int, structures: int) -> int:
    """Where the complete type ends that begins here, within so many arrays and structures."""
    kind = signature[at : at + 1]
    if arrays > _MAX_DEPTH or structures > _MAX_DEPTH:
        raise ValueError("a signature that is too deep")
    if kind == "a" and signature[at + 1 : at + 2] == "{":
        value = at + 3
        end = _end(signature, value, arrays + 1, structures + 1)
        if signature[value - 1] not in _BASIC or signature[end : end + 1] != "}":
            raise ValueError("no entry of a dictionary")
        return end + 1
    if kind == "a":
        return _end(signature, at + 1, arrays + 1, structures)
    if kind == "(":
        at = _end(signature, at + 1, arrays, structures + 1)
        while signature[at : at + 1] != ")":
            at = _end(signature, at, arrays, structures + 1)
        return at + 1
    if kind not in _BASIC and kind != "v":
        raise ValueError("not a signature")
    return at + 1
