"""Hostile answers to SRV questions (rule C12): dropped, or bounded."""

from __future__ import annotations

import struct

import pytest

from salsa_agent.core.admission import canonical, hostname_error
from salsa_agent.core.model import Outcome, RRType, Srv
from salsa_agent.resolver.message import Query, Reply, ServerFailed, query_name, read


def reply_with(data: bytes, owner: bytes = b"\xc0\x0c", count: int = 1) -> Reply:
    """What is read from a reply with SRV records of this data."""
    asked = Query(query_name("_submissions._tcp.example.net"), RRType.SRV)
    head = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, count, 0, 0) + asked.wire[12:]
    said = read(head + count * (owner + struct.pack("!HHIH", 33, 1, 300, len(data)) + data), asked)
    assert isinstance(said, Reply)
    return said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\1\0\2\1",
        struct.pack("!3H", 0, 1, 465),
        struct.pack("!3H", 0, 1, 465) + b"\x04mail",
        struct.pack("!3H", 0, 1, 465) + b"\x04mail\0rest",
        struct.pack("!3H", 0, 1, 465) + b"\xff\xff",
        struct.pack("!3H", 0, 1, 465) + b"\x40" + 64 * b"a" + b"\0",
        struct.pack("!3H", 0, 1, 465) + 5 * (b"\x3f" + 63 * b"a") + b"\0",
    ],
)
def test_c12_a_damaged_srv_record_is_a_server_error(data: bytes) -> None:
    with pytest.raises(ServerFailed, match="malformed"):
        reply_with(data)


def test_c12_an_srv_record_of_another_name_counts_for_nothing() -> None:
    reply = reply_with(struct.pack("!3H", 0, 1, 465) + b"\x04evil\0", owner=b"\x05_evil\0")
    assert (reply.outcome, reply.records) == (Outcome.NONE, ())


def test_c12_a_target_of_odd_octets_is_told_in_printable_ones() -> None:
    reply = reply_with(struct.pack("!3H", 0, 1, 465) + b"\x05a\nb\0\x1b\x02c \0")
    (record,) = reply.records
    assert isinstance(record, Srv)
    assert record.target.isprintable()
    assert hostname_error(canonical(record.target))


def test_c12_equal_records_are_one() -> None:
    assert len(reply_with(struct.pack("!3H", 0, 1, 465) + b"\x04mail\0", count=2000).records) == 1
