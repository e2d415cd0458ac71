"""What the agent sends is what the library would: its own marshaller and the library's give the same octets."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_next import Variant
from dbus_next._private.marshaller import Marshaller
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.bus.encoding import Value, encode
from salsa_agent.bus.wire import decode

RANGES = {"y": (0, 2**8), "n": (-(2**15), 2**15), "q": (0, 2**16), "i": (-(2**31), 2**31), "u": (0, 2**32),
          "x": (-(2**63), 2**63), "t": (0, 2**64)}  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
BASIC = "ybnqiuxtdsog"


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


def librarys(kind: str, value: Any) -> Any:
    """The value with the library's variants."""
    if isinstance(value, Value):
        return Variant(value.signature, librarys(value.signature, value.value))
    if isinstance(value, dict):
        return {key: librarys(kind, one) for key, one in value.items()}
    if isinstance(value, list):
        return [librarys(kind, one) for one in value]
    return value


@given(st.lists(kinds(), min_size=1, max_size=4).flatmap(
    lambda some: st.tuples(st.just(some), st.tuples(*map(of, some)))))  # fmt: skip
@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_body_is_encoded_as_the_library_does(given: tuple[list[str], tuple[Any, ...]]) -> None:
    some, values = given
    signature = "".join(some)
    theirs = bytes(Marshaller(signature, [librarys(signature, value) for value in values]).marshall())
    assert encode(signature, values) == theirs
    assert decode(signature, theirs, little=True) == [librarys(signature, value) for value in values]


def test_a_variant_of_the_library_is_one_here_too() -> None:
    body = [{"category": Variant("s", "network"), "level": Variant("y", 24)}]
    assert encode("a{sv}", body) == bytes(Marshaller("a{sv}", body).marshall())


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("s", ["a\0b"]), ("s", ["\ud800"]), ("s", [1]), ("y", [256]), ("q", [-1]), ("u", ["1"]), ("b", [1]), ("s", []),
        ("s", ["a", "b"]), ("as", [1]), ("a{sv}", [{"a": 1}]), ("v", ["a"]), ("(ss)", [["a"]]), ("a", [[]]), ("z", [1]),
        ("(s", [["a"]]), ("v", [Value("", 1)]), ("a{sv}", [{"a": Value("", 1)}]), ("as", ["abc"]),
        ("v", [Value("ss", "a")]), ("as", [["x" * (1 << 26)]]),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_is_a_value_error(signature: str, values: list[Any]) -> None:
    with pytest.raises(ValueError):
        encode(signature, values)
