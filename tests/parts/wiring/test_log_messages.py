"""What an operator's log says of the best relay."""

from __future__ import annotations

import pytest

from salsa_agent.core.model import Best, ListedRelay, Publication, Relay, RelayKey, Source, State
from salsa_agent.wiring import log_messages

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
