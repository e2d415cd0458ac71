"""The messages of NAT-PMP and STUN, without a network."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.core.model import IPAddress
from salsa_agent.nat import natpmp, stun
from salsa_agent.nat.answer import MappedAddress
from salsa_agent.nat.stun_message import binding_request, parse

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
# RFC 5769 2.2 and 2.3
SAMPLE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
SAMPLE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa"
    "a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
SUCCESS, ERROR = 0x0101, 0x0111
UNKNOWN_REQUIRED, UNKNOWN_OPTIONAL = 0x7FFF, 0xFFFE
OUTSIDE = ip_address("198.51.100.7")


def attribute(number: int, value: bytes) -> bytes:
    return struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = SUCCESS, cookie: int = 0x2112A442, of: bytes = TRANSACTION) -> bytes:
    body = b"".join(attributes)
    return struct.pack("!HHI12s", kind, len(body), cookie, of) + body


def xor_mapped(ip: IPAddress, of: bytes = TRANSACTION) -> bytes:
    key = struct.pack("!I12s", 0x2112A442, of)
    family = 1 if ip.version == 4 else 2
    return attribute(0x0020, bytes((0, family, 1, 2)) + bytes(a ^ b for a, b in zip(ip.packed, key, strict=False)))


def error(code: int) -> bytes:
    return message(attribute(0x0009, bytes((0, 0, code // 100, code % 100)) + b"\x1b[31m"), kind=ERROR)


def with_fingerprint(*attributes: bytes, wrong: int = 0) -> bytes:
    whole = message(*attributes, attribute(0x8028, bytes(4)))
    return whole[:-4] + struct.pack("!I", crc32(whole[:-8]) ^ 0x5354554E ^ wrong)


# --- STUN


def test_g1_stun_request_is_a_binding_request_with_the_magic_cookie() -> None:
    assert binding_request(TRANSACTION) == bytes.fromhex("000100002112a442") + TRANSACTION


@pytest.mark.parametrize(
    ("sample", "ip"), [(SAMPLE_V4, "192.0.2.1"), (SAMPLE_V6, "2001:db8:1234:5678:11:2233:4455:6677")]
)
def test_g1_stun_rfc_5769_samples(sample: bytes, ip: str) -> None:
    assert parse(sample, TRANSACTION) == MappedAddress(ip_address(ip))


@pytest.mark.parametrize("sample", [SAMPLE_V4, SAMPLE_V6], ids=["IPv4", "IPv6"])
def test_g1_stun_a_damaged_sample_is_discarded(sample: bytes) -> None:
    for place in set(range(len(sample))) - {len(sample) - 8, len(sample) - 7}:  # those make another attribute of it
        damaged = sample[:place] + bytes((sample[place] ^ 0x10,)) + sample[place + 1 :]
        assert parse(damaged, TRANSACTION) is None, place
        assert parse(sample[:place], TRANSACTION) is None, place
    assert parse(sample + bytes(4), TRANSACTION) is None


def test_g1_stun_other_transactions_cookies_and_classes_are_discarded() -> None:
    good = xor_mapped(OUTSIDE)
    assert parse(message(good), TRANSACTION) == MappedAddress(OUTSIDE)
    assert parse(message(good, of=bytes(12)), TRANSACTION) is None
    assert parse(message(good, cookie=0x2112A443), TRANSACTION) is None
    for kind in (0x0001, 0x0011, 0x0102, 0x0103, 0x4101, 0x8101):  # request, indication, other methods, no STUN
        assert parse(message(good, kind=kind), TRANSACTION) is None


def test_g1_stun_fingerprint_is_checked_where_present() -> None:
    good = xor_mapped(OUTSIDE)
    assert parse(with_fingerprint(good), TRANSACTION) == MappedAddress(OUTSIDE)
    assert parse(with_fingerprint(good, wrong=1), TRANSACTION) is None
    not_last = message(with_fingerprint()[20:], good)
    assert parse(not_last, TRANSACTION) is None


def test_g1_stun_unknown_comprehension_required_attribute_fails_the_transaction() -> None:
    good = xor_mapped(OUTSIDE)
    said = parse(message(attribute(UNKNOWN_REQUIRED, b"x"), good), TRANSACTION)
    assert said == MappedAddress(None, "attribute 0x7fff is not understood")
    assert parse(message(attribute(UNKNOWN_OPTIONAL, b"x"), good), TRANSACTION) == MappedAddress(OUTSIDE)


def test_g1_stun_attributes_of_rfc_3489_do_no_harm() -> None:
    source, changed = attribute(0x0004, bytes(8)), attribute(0x0005, bytes(8))
    assert parse(message(source, changed, xor_mapped(OUTSIDE)), TRANSACTION) == MappedAddress(OUTSIDE)


def test_g1_stun_mapped_address_is_no_substitute() -> None:
    said = parse(message(attribute(0x0001, bytes((0, 1, 0, 1)) + OUTSIDE.packed)), TRANSACTION)
    assert said is not None
    assert said.ip is None


def test_g1_stun_the_first_of_equal_attributes_counts() -> None:
    assert parse(message(xor_mapped(OUTSIDE), xor_mapped(ip_address("9.9.9.9"))), TRANSACTION) == MappedAddress(OUTSIDE)


@pytest.mark.parametrize(
    "integrity", [attribute(0x0008, bytes(20)), attribute(0x001C, bytes(32))], ids=["SHA-1", "SHA-256"]
)
def test_g1_stun_what_follows_message_integrity_does_not_count(integrity: bytes) -> None:
    said = parse(message(integrity, xor_mapped(OUTSIDE), attribute(UNKNOWN_REQUIRED, b"")), TRANSACTION)
    assert said == MappedAddress(None, "no XOR-MAPPED-ADDRESS in the answer")
    assert parse(with_fingerprint(xor_mapped(OUTSIDE), integrity), TRANSACTION) == MappedAddress(OUTSIDE)
    assert parse(with_fingerprint(xor_mapped(OUTSIDE), integrity, wrong=1), TRANSACTION) is None


@pytest.mark.parametrize("value", [b"", bytes(7), bytes((0, 3, 0, 0)) + bytes(4), bytes((0, 1, 0, 0)) + bytes(16)])
def test_g1_stun_a_malformed_or_foreign_address_is_none(value: bytes) -> None:
    said = parse(message(attribute(0x0020, value)), TRANSACTION)
    assert said is not None
    assert said.ip is None
    assert said.reason


@pytest.mark.parametrize("code", [300, 400, 420, 500, 599])
def test_g1_stun_errors_are_said_by_number_alone(code: int) -> None:
    assert parse(error(code), TRANSACTION) == MappedAddress(None, f"error {code}")


def test_g1_stun_an_error_without_a_code_is_one() -> None:
    assert parse(message(kind=ERROR), TRANSACTION) == MappedAddress(None, "an error without a code")


@given(st.binary(max_size=200))
def test_g1_stun_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    assert parse(data, TRANSACTION) is None or data[8:20] == TRANSACTION


@given(st.sampled_from((SUCCESS, ERROR)), st.binary(max_size=120))
def test_g1_stun_any_attributes_are_read_without_an_exception(kind: int, body: bytes) -> None:
    said = parse(message(body, kind=kind), TRANSACTION)
    assert said is None or said.ip is not None or said.reason.isprintable()


@given(
    st.lists(
        st.tuples(
            st.sampled_from((0x0001, 0x0008, 0x0009, 0x001C, 0x0020, 0x8022, 0x8028, UNKNOWN_REQUIRED)),
            st.binary(max_size=24),
        ),
        max_size=6,
    ),
    st.sampled_from((SUCCESS, ERROR)),
)
def test_g1_stun_any_well_formed_attributes_are_read_without_an_exception(
    attributes: list[tuple[int, bytes]], kind: int
) -> None:
    said = parse(message(*(attribute(*one) for one in attributes), kind=kind), TRANSACTION)
    assert said is None or said.ip is not None or (said.reason and said.reason.isprintable())


@given(st.ip_addresses(), st.binary(min_size=12, max_size=12))
def test_g1_stun_every_address_comes_out_as_it_is(ip: IPAddress, of: bytes) -> None:
    assert parse(message(xor_mapped(ip, of), of=of), of) == MappedAddress(ip)


def test_g1_stun_times_are_those_of_rfc_8489() -> None:
    sent = [sum(stun.WAITS[:number]) for number in range(len(stun.WAITS))]
    assert sent == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert sum(stun.WAITS) == 39.5


# --- NAT-PMP


def response(result: int = 0, version: int = 0, opcode: int = 128) -> bytes:
    return struct.pack("!BBHI", version, opcode, result, 4711) + OUTSIDE.packed


def test_g1_nat_pmp_request_is_version_0_opcode_0() -> None:
    assert natpmp.REQUEST == b"\0\0"


def test_g1_nat_pmp_response_gives_the_address() -> None:
    assert natpmp.parse(response()) == MappedAddress(OUTSIDE)


@pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 6, 0xFFFF])
def test_g1_nat_pmp_result_codes_are_handled(result: int) -> None:
    """The address field is to be ignored then; a PCP server refuses version 0 with the first eight bytes alone."""
    for data in (response(result), response(result)[:8]):
        said = natpmp.parse(data)
        assert said is not None
        assert said.ip is None
        assert said.reason


def test_g1_nat_pmp_anything_else_is_none() -> None:
    assert natpmp.parse(response(version=2)) is None  # PCP announces itself to the same group
    assert natpmp.parse(response(opcode=0)) is None
    assert natpmp.parse(response(opcode=129)) is None
    for length in range(12):
        assert natpmp.parse(response()[:length]) is None


@given(st.binary(max_size=40))
def test_g1_nat_pmp_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    said = natpmp.parse(data)
    assert said is None or isinstance(said.ip, IPv4Address) or said.reason.isprintable()


def test_g1_nat_pmp_times_are_those_of_rfc_6886() -> None:
    assert natpmp.WAITS == (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
