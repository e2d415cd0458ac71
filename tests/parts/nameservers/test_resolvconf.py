"""resolv.conf(5) as the parser reads it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.nameservers.resolvconf import Nameserver, parse


def servers(text: str) -> list[str]:
    return [f"{one.ip}%{one.scope}" if one.scope else str(one.ip) for one in parse(text).nameservers]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver 192.0.2.1", ["192.0.2.1"]),
        ("nameserver\t 192.0.2.1\t\n", ["192.0.2.1"]),
        ("nameserver 192.0.2.1 # the router\n", ["192.0.2.1"]),
        ("nameserver 2001:DB8::1\n", ["2001:db8::1"]),
        ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
        ("nameserver fe80::1%3\n", ["fe80::1%3"]),
        ("nameserver 2001:db8::1%eth0\n", ["2001:db8::1"]),
        ("nameserver 127.1\n", ["127.0.0.1"]),
        ("nameserver 0.0.0.0\nnameserver ::\n", ["127.0.0.1", "::1"]),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver 192.0.2.1\r\nnameserver 2001:db8::1\r\n", ["192.0.2.1", "2001:db8::1"]),
        (" nameserver 192.0.2.1\n", []),
        ("nameservers 192.0.2.1\n", []),
        ("nameserver192.0.2.1\n", []),
        ("#nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", []),
        ("search example\ndomain example\nsortlist 192.0.2.0\n", []),
        ("", []),
    ],
)
def test_f1_nameserver_lines(text: str, expected: list[str]) -> None:
    assert servers(text) == expected


@pytest.mark.parametrize(
    "bad",
    [
        "nameserver",
        "nameserver ",
        "nameserver example.net",
        "nameserver 192.0.2.300",
        "nameserver 192.0.2.1:53",
        "nameserver [2001:db8::1]",
        "nameserver 2001:db8::1::2",
        "nameserver %eth0",
        "nameserver 192.0.2.9%eth0",
        "nameserver \x00",
        "nameserver 192.0.2.9\x00",
        "nameserver \N{ARABIC-INDIC DIGIT ONE}.2.3.4",
        "nameserver \ufffd\ufffd",
        "nameserver " + "1" * 5000,
        "options",
        "\x1b[2J",
    ],
)
def test_f2_one_bad_line_does_not_cost_the_good_ones(bad: str) -> None:
    assert servers(f"nameserver 192.0.2.1\n{bad}\nnameserver 2001:db8::1\n") == ["192.0.2.1", "2001:db8::1"]


def test_f2_all_servers_are_kept_in_order() -> None:
    addresses = [f"192.0.2.{number}" for number in (5, 4, 3, 2, 1)]
    assert servers("".join(f"nameserver {one}\n" for one in addresses)) == addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("options trust-ad\n", True),
        ("options edns0\ttrust-ad\n", True),
        ("options trust-ad\noptions edns0\n", True),
        ("options edns0\n", False),
        ("options no-trust-ad\n", False),
        ("#options trust-ad\n", False),
        ("search trust-ad\n", False),
    ],
)
def test_f3_option_trust_ad(text: str, expected: bool) -> None:
    assert parse(f"nameserver 127.0.0.1\n{text}").trust_ad is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search example.net lan\n", ("example.net", "lan")),
        ("search\texample.net\n", ("example.net",)),
        ("domain example.net ignored\n", ("example.net",)),
        ("search a.example\ndomain b.example\n", ("b.example",)),
        ("domain b.example\nsearch a.example c.example\n", ("a.example", "c.example")),
        ("search a.example\nsearch\n", ("a.example",)),
        ("search .\n", (".",)),
        ("#search a.example\n search b.example\n", ()),
    ],
)
def test_f4_the_last_search_or_domain_line_counts(text: str, expected: tuple[str, ...]) -> None:
    assert parse(text).search == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("options use-vc\n", True), ("options no-use-vc\n", False), ("", False)]
)
def test_f2_option_use_vc(text: str, expected: bool) -> None:
    assert parse(text).use_vc is expected


@given(st.text())
def test_f2_any_text_is_read(text: str) -> None:
    good = parse(f"nameserver 192.0.2.77\n{text}\n").nameservers
    assert good[0] == Nameserver(ip_address("192.0.2.77"))
