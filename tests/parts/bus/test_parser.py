"""Octets are cut into messages, in whatever portions they come; what is too large or damaged is left out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.bus import message as wire
from salsa_agent.bus.message import FramingError
from salsa_agent.bus.parser import MAX_HEADER, Parser, Received
from tests.lab.messages import frame


def call(member: str, size: int = 0, **fields: str) -> bytes:
    return frame(wire.CALL, 1, path="/o", member=member, signature="ay", body=bytes(size), **fields)  # type: ignore[arg-type]


def every(parser: Parser) -> list[Received]:
    """What can be taken now."""
    found = []
    while (received := parser.next()) is not None:
        found.append(received)
    return found


def shape(received: Received) -> tuple[str, int | None]:
    header, body = received
    return (header.member if header else "", None if body is None else len(body))


SMALL, LARGE, LONG = call("Small", 8), call("Large", 200), call("Long", destination="a" * (MAX_HEADER + 1))
DAMAGED = b"l\4\0\1\0\0\0\0\5\0\0\0\6\0\0\0\1\1o\0\x99\0\0\0"
EXPECTED = {SMALL: ("Small", 8), LARGE: ("Large", None), LONG: ("", None), DAMAGED: ("", None)}


@given(st.lists(st.sampled_from(list(EXPECTED)), max_size=6), st.data())
def test_any_portions_give_the_same_messages(messages: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    parser = Parser(lambda _: 100)
    found: list[Received] = []
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        parser.feed(octets[start:end])
        found += every(parser)
    assert [shape(one) for one in found] == [EXPECTED[message] for message in messages]
    assert len(parser) == 0


def test_what_is_left_out_is_not_kept() -> None:
    parser = Parser(lambda _: 100)
    large = call("Large", 1 << 20)
    parser.feed(large[:200])
    assert [shape(one) for one in every(parser)] == [("Large", None)]
    for at in range(200, len(large), 50_000):
        parser.feed(large[at : at + 50_000])
        assert parser.next() is None
        assert len(parser) == 0
    parser.feed(SMALL)
    assert [shape(one) for one in every(parser)] == [("Small", 8)]


@pytest.mark.parametrize(
    "octets", [b"HTTP/1.1 400 Bad", b"l\1\0\7" + bytes(12), b"l\1\0\1" + struct.pack("<III", 1 << 27, 1, 8)]
)
def test_what_is_no_message_is_a_framing_error(octets: bytes) -> None:
    parser = Parser(lambda _: 100)
    parser.feed(octets)
    with pytest.raises(FramingError):
        parser.next()
