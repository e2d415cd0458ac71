"""What an operator's log says of the best relay, and of the host's addresses."""

from __future__ import annotations

import pytest

from salsa_agent.core.addresses import counting, left_out
from salsa_agent.core.model import Best, Link, ListedRelay, NetworkFacts, Publication, Relay, RelayKey, Source, State
from salsa_agent.core.settings import DEFAULT_IGNORE
from salsa_agent.wiring import log_messages
from tests.core.sim import ETH0, facts, host

KEY = RelayKey("mail.example.net", 465)
SRV = "_submissions._tcp.example.net"


@pytest.mark.parametrize(
    ("relay", "why"),
    [
        (
            Relay(KEY, Source.DNS, name="2.0.192.in-addr.arpa", level=24, address="192.0.2.7", interface="eth0"),
            "dns: 192.0.2.7 on eth0, /24, 2.0.192.in-addr.arpa; unverified",
        ),
        (
            Relay(KEY, Source.SITE, name=SRV, address="192.0.2.7", interface="eth0", site="home"),
            f"site: 192.0.2.7 on eth0, {SRV}; unverified",
        ),
        (Relay(KEY, Source.STATIC, name=SRV), f"static: {SRV}; unverified"),
        (Relay(KEY, Source.STATIC), "static; unverified"),
    ],
)
def test_c12_the_line_of_the_best_relay_says_no_address_or_level_that_it_has_not(relay: Relay, why: str) -> None:
    said = Publication(State.READY, Best(*KEY, relay.source), (ListedRelay(relay),))
    assert log_messages.best_line(said) == f"relay is now mail.example.net:465 ({why})"


def addresses_line(state: NetworkFacts) -> str:
    return log_messages.addresses_line(counting(state, DEFAULT_IGNORE), left_out(state, DEFAULT_IGNORE))


def test_a1_the_line_of_the_addresses_leaves_loopback_unsaid() -> None:
    lo = Link(1, "lo", usable=True, loopback=True)
    ours = [host("127.0.0.1", index=1), host("::1", index=1)]
    assert addresses_line(facts(*ours, links=[lo])) == "addresses that count: none"
    deprecated = host("2001:db8::1", flags=0x20)
    assert addresses_line(facts(*ours, deprecated, host("203.0.113.1", index=1), links=[lo, ETH0])) == (
        "addresses that count: none; left out: 203.0.113.1 on lo: A1 (the loopback link), "
        "2001:db8::1 on eth0: A1 (deprecated)"
    )


def test_a3_the_line_of_the_addresses_is_bounded() -> None:
    name = "interface-name1"  # as long as the kernel takes one
    many = facts(*(f"2001:db8:{i:x}:ffff:ffff:ffff:ffff:1" for i in range(0x8000, 0x8000 + 10_000)),
                 links=[Link(2, name, usable=True)])  # fmt: skip
    said = addresses_line(many)
    assert f":1 on {name} and 44 more; left out: " in said
    assert said.endswith(f":1 on {name}: A3 (beyond the first 64) and 9,916 more")
    assert said.count(f" on {name}") == 40
    assert len(said) < 3500  # a line of the log is cut at 4,000 octets
