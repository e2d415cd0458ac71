"""Values as octets and back by the library's marshaller: both ways agree, and hostile octets are Malformed."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.bus._dbus_next import SignatureTree
from salsa_agent.bus.codec import Malformed, Value, decode, encode, skip

NUMBERS = dict(zip("ynqiuxtdh", "BhHiIqQdI", strict=True))  # as `struct` has them; a descriptor is the number of one
RANGES = {"y": (0, 2**8), "n": (-(2**15), 2**15), "q": (0, 2**16), "i": (-(2**31), 2**31), "u": (0, 2**32),
          "x": (-(2**63), 2**63), "t": (0, 2**64), "h": (0, 2**32)}  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
BASIC = "ybnqiuxtdsogh"


def of(kind: str) -> st.SearchStrategy[Any]:
    """Values of one complete type; a variant is a Value."""
    if kind in RANGES:
        least, end = RANGES[kind]
        return st.integers(least, end - 1)
    match kind[0]:
        case "b":
            return st.booleans()
        case "d":
            return st.floats(allow_nan=False)
        case "s":
            return TEXT
        case "o":
            return st.sampled_from(["/", "/org/salsa/Agent1"])
        case "g":
            return st.sampled_from(["", "s", "a{sv}"])
        case "v":
            return kinds(1).flatmap(lambda inner: of(inner).map(lambda value: Value(inner, value)))
        case "(":
            return st.tuples(*map(of, split(kind[1:-1]))).map(list)
        case _ if kind == "ay":
            return st.binary(max_size=4)
        case _ if kind.startswith("a{"):
            key, value = split(kind[2:-1])
            return st.dictionaries(of(key), of(value), max_size=4)
        case _:
            return st.lists(of(kind[1:]), max_size=4)


def split(signature: str) -> list[str]:
    """The complete types of a signature of basic types and variants, or of one container."""
    return list(signature) if not set(signature) & set("a({") else [signature]


def kinds(depth: int = 2) -> st.SearchStrategy[str]:
    """A complete type."""
    basic = st.sampled_from(BASIC)
    if not depth:
        return basic
    array = kinds(depth - 1).map(lambda kind: f"a{kind}")
    entries = basic.map(lambda key: f"a{{{key}v}}")
    structure = st.lists(basic, min_size=1, max_size=3).map(lambda some: f"({''.join(some)})")
    return st.one_of(basic, st.sampled_from(["v", "a{sv}"]), array, entries, structure)


BODIES = st.lists(kinds(), min_size=1, max_size=4).flatmap(
    lambda some: st.tuples(st.just("".join(some)), st.tuples(*map(of, some)))
)


@given(BODIES)
@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_body_is_decoded_to_what_was_encoded(given: tuple[str, tuple[Any, ...]]) -> None:
    signature, values = given
    assert decode(signature, encode(signature, values), little=True) == list(values)


@given(BODIES, st.data())
@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_is_malformed_or_other_values_and_no_more(
    given: tuple[str, tuple[Any, ...]], data: st.DataObject
) -> None:
    body = bytearray(encode(*given))
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)) if body else []:
        body[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, *b"av({"]))
    del body[data.draw(st.integers(0, len(body))) :]
    for little in (True, False):
        with suppress(Malformed):
            assert len(decode(given[0], bytes(body), little=little)) == len(SignatureTree(given[0]).types)


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_read_in_either_byte_order(kind: str) -> None:
    for order, little in (("<", True), (">", False)):
        packed = struct.pack(f"{order}{NUMBERS[kind]}", 77)
        assert decode(kind, packed, little=little) == [77]
        assert skip(kind, bytes(len(packed)) + packed, 1, little=little) == 2 * len(packed)


@pytest.mark.parametrize(
    "signature",
    ["a", "(", "()", "a()", "(y", "y)", "a{sv", "a{s}", "a{}", "a{(s)s}", "a{ass}", "a{sss}", "a{", "z", "\0", "é",
     "a" * 255, "(" * 255, "y" * 256],
)  # fmt: skip
def test_what_is_no_signature_is_malformed(signature: str) -> None:
    """D-Bus Specification, "Valid Signatures"; an array of empty structures would never end."""
    with pytest.raises(Malformed):
        decode(signature, bytes(1024), little=True)


def nested(depth: int) -> bytes:
    """An octet in so many variants."""
    return b"\1v\0" * (depth - 1) + b"\1y\0\7"


def test_values_may_be_64_deep() -> None:
    value = decode("v", nested(64), little=True)[0]
    for _ in range(64):
        value = value.value
    assert value == 7
    with pytest.raises(Malformed):
        decode("v", nested(65), little=True)


# An array of strings of which the second says that it has nearly 2^32 octets: 32 bits make that a way back to the first
BACKWARDS = struct.pack("<II4sI", 64, 3, b"abc", 2**32 - 13) + bytes(52)


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("as", BACKWARDS), ("s", b"\xff\xff\xff\xff"), ("s", b"\2\0\0\0ab"), ("s", b"\2\0\0\0abc"), ("g", b"\1sx"),
        ("g", b"\1\xff\0"), ("ay", b"\5\0\0\0abcd"), ("ay", b"\xff\xff\xff\xff"), ("au", b"\3\0\0\0\0\0\0\0"),
        ("a{yy}", b"\1\0\0\0\0\0\0\0\1\2"), ("v", b""), ("v", b"\0\0\7"), ("v", b"\2yy\0\7\7"), ("v", b"\1Z\0\7"),
        ("v", b"\x03a()\0" + bytes(16)), ("u", b"\0\0\0"), ("y", b""),
    ],
)  # fmt: skip
def test_what_is_no_value_is_malformed(signature: str, body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(signature, body, little=True)


def test_the_first_values_of_a_body_are_read_without_the_others() -> None:
    assert decode("su", encode("sus", ["a", 1, "b"])[:12] + b"\xff", little=True) == ["a", 1]


def test_a_body_as_dbus_daemon_has_it() -> None:
    """Octets from the specification, not from this codec: what follows a string or a key is aligned by its type."""
    assert encode("sq", ["ab", 0x1234]) == b"\2\0\0\0ab\0\0\x34\x12"
    assert encode("a{sv}", [{"k": Value("t", 7)}]) == (
        b"\x18\0\0\0\0\0\0\0\1\0\0\0k\0\1t\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0"
    )


def test_signatures_of_strangers_are_not_kept() -> None:
    """The library keeps every one for ever."""
    before = len(SignatureTree._cache)
    for number in range(1500):
        kind = "(" + "".join("ybnqiuxt"[int(digit)] for digit in f"{number:o}") + ")"
        decode("v", bytes((len(kind),)) + kind.encode() + bytes(80), little=True)
        skip(kind, bytes(80), 0, little=True)
    assert len(SignatureTree._cache) == before


def test_a_large_hostile_body_costs_its_size() -> None:
    """The most that a call may bring (64 KiB), as small values: some tens of milliseconds, and nothing is kept."""
    strings = struct.pack("<I", 1) + b"x\0\0\0"
    many = (strings * 8000)[:-2]
    started = time.perf_counter()
    assert len(decode("as", struct.pack("<I", len(many)) + many, little=True)[0]) == 8000
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("s", ["a\0b"]), ("s", ["\ud800"]), ("s", [1]), ("y", [256]), ("q", [-1]), ("u", ["1"]), ("b", [1]), ("s", []),
        ("s", ["a", "b"]), ("as", [1]), ("a{sv}", [{"a": 1}]), ("v", ["a"]), ("(ss)", [["a"]]), ("a", [[]]), ("z", [1]),
        ("(s", [["a"]]), ("as", ["abc"]),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_is_a_value_error(signature: str, values: list[Any]) -> None:
    with pytest.raises(ValueError):
        encode(signature, values)
