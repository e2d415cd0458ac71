"""What the doctor finds of the addresses of the host."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.model import Asked, NetworkFacts, Outcome, RelayKey, Source
from salsa_agent.core.settings import Network, Settings
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Outside, Scene
from tests.core.sim import facts as facts_of
from tests.parts.oneshot.doctor.scenes import MX, NONE, codes, listed, said


def test_a1_no_address(sound: Scene) -> None:
    assert codes(replace(sound, facts=NetworkFacts(), probes=(), asked=())) == [("fault", "no-address")]


def test_private_addresses_of_which_nobody_says_anything(sound: Scene) -> None:
    static = said(listed(source=Source.STATIC), outcome=Outcome.NONE)
    private = replace(sound, facts=facts_of("10.0.0.1"), said=static, asked=(Asked(MX, NONE, 32),))
    assert codes(private) == [("note", "private-addresses")]
    assert codes(replace(private, said=said(listed()))) == []  # the site serves its zone
    assert codes(replace(private, facts=facts_of("192.0.2.1"))) == []


@pytest.mark.parametrize(
    ("outside", "found", "words"),
    [
        ((), ("note", "private-addresses"), "does not say which address the outside sees"),
        ((Outside("nat-pmp", "10.0.0.254"),), ("note", "private-addresses"), "does not say which"),
        ((Outside("nat-pmp", "10.0.0.254", ip_address("100.64.0.9")),), ("note", "private-addresses"), "100.64.0.9"),
        ((Outside("nat-pmp", "10.0.0.254", ip_address("11.22.33.1")),), ("note", "private-addresses"), "names none"),
        (
            (Outside("nat-pmp", "10.0.0.254", ip_address("11.22.33.1"), "noc.isp.example:25"),),
            ("warning", "nat-relay"),
            "The outside sees 11.22.33.1, as 10.0.0.254 says (NAT-PMP), and for that the reverse tree publishes noc",
        ),
        (
            (
                Outside("nat-pmp", "10.0.0.254"),
                Outside("stun", "192.0.2.9:3478", ip_address("11.22.33.1"), "noc.isp.example:25"),
            ),
            ("warning", "nat-relay"),
            "as 192.0.2.9:3478 says (STUN)",
        ),
    ],
)
def test_g1_what_network_nat_would_find(
    sound: Scene, outside: tuple[Outside, ...], found: tuple[str, str], words: str
) -> None:
    static = said(listed(source=Source.STATIC), outcome=Outcome.NONE)
    private = replace(sound, facts=facts_of("10.0.0.1"), said=static, asked=(Asked(MX, NONE, 32),), outside=outside)
    (one,) = findings(private)
    assert (one.severity, one.code) == found
    assert words in one.problem
    if one.code == "nat-relay":
        assert f'network.nat = "{outside[-1].method}"' in one.cure
    assert codes(replace(private, said=said(listed()))) == []


@pytest.mark.parametrize(
    ("method", "outside", "found"),
    [
        ("nat-pmp", Outside("nat-pmp", "10.0.0.254"), True),
        ("nat-pmp", Outside("nat-pmp", "10.0.0.254", ip_address("192.168.7.7")), True),
        ("nat-pmp", Outside("nat-pmp", "10.0.0.254", ip_address("11.22.33.1")), False),
        ("stun", Outside("nat-pmp", "10.0.0.254"), False),
        ("stun", Outside("stun", "192.0.2.9:3478"), True),
    ],
)
def test_g1_a_nat_that_is_asked_and_brings_nothing(sound: Scene, method: str, outside: Outside, found: bool) -> None:
    settings = Settings(network=Network(nat=method, stun_server=RelayKey("192.0.2.9", 3478)))
    private = replace(sound, settings=settings, facts=facts_of("10.0.0.1"), outside=(outside,))
    assert codes(private) == ([("warning", "nat-silent")] if found else [])
