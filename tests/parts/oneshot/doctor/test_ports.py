"""What the doctor finds of the ports of mail, and which it tries."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.model import ListedRelay, Relay, RelayKey, Source
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.mail_probes import mail_ports
from salsa_agent.oneshot.doctor.scene import Port, Scene
from tests.parts.oneshot.doctor.scenes import A, B, codes, listed, said


def test_port_25_is_blocked(sound: Scene) -> None:
    ports = (Port(A, "timed out"), Port(B, "timed out"), Port(A._replace(port=587)), Port(A._replace(port=465), "x"))
    assert codes(replace(sound, ports=ports)) == [("warning", "port-25-blocked")]
    assert codes(replace(sound, ports=ports[:2])) == []  # then the relays' own findings say it
    assert codes(replace(sound, ports=(Port(A), *ports[1:]))) == []


def test_port_25_is_intercepted(sound: Scene) -> None:
    same = "220 gateway.hotel.example ESMTP"
    assert codes(replace(sound, ports=(Port(A, greeting=same), Port(B, greeting=same)))) == [
        ("warning", "port-25-intercepted")
    ]
    farm = Port(RelayKey("mx2.a.example", 25), greeting=same)
    assert codes(replace(sound, ports=(Port(A, greeting=same), farm))) == []


SUBMISSION = B._replace(port=587)


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ([Port(B, greeting="220 mx.b.test ESMTP"), Port(SUBMISSION, greeting="220 other.b.test ESMTP")], ""),
        (
            [Port(B, greeting="220 gw.hotel.example ESMTP"), Port(SUBMISSION, greeting="220 mx.b.test ESMTP")],
            "mx.b.test greets as gw.hotel.example on port 25, and as mx.b.test on port 587",
        ),
        ([Port(B, greeting="220 ready"), Port(SUBMISSION, greeting="220 mx.b.test ESMTP")], ""),
        (
            [
                Port(B, greeting="220 mx.b.test", starttls=False),
                Port(SUBMISSION, greeting="220 mx.b.test", starttls=True),
            ],
            "mx.b.test offers STARTTLS on port 587, and not on port 25",
        ),
        (
            [
                Port(B, greeting="220 mx.b.test", starttls=True),
                Port(SUBMISSION, greeting="220 mx.b.test", starttls=True),
            ],
            "",
        ),
        ([Port(B, greeting="220 **********************")], "masked with asterisks"),
    ],
)
def test_something_else_answers_on_port_25(sound: Scene, ports: list[Port], words: str) -> None:
    found = findings(replace(sound, ports=tuple(ports)))
    assert [(one.severity, one.code) for one in found] == ([("warning", "port-25-intercepted")] if words else [])
    assert not words or words in found[0].problem


def test_starttls_that_was_there_is_gone(sound: Scene) -> None:
    seen = replace(sound, ports=(Port(A, greeting="220 mx.a.example", starttls=False),))
    assert codes(seen) == []
    (found,) = findings(replace(seen, agents=sound.agents._replace(starttls=frozenset({A}))))
    assert found.code == "port-25-intercepted"
    assert "mx.a.example offered STARTTLS to the agent on port 25, and does not any more" in found.problem


@pytest.mark.parametrize("number", [465, 587])
def test_a_port_of_submission_is_blocked(sound: Scene, number: int) -> None:
    key = RelayKey("smtp.example.net", number)
    ports = (Port(key._replace(port=25)), Port(key, "timed out"))
    assert codes(replace(sound, ports=ports)) == []  # nobody asked for it there
    assert codes(replace(sound, said=said(listed(key)), ports=ports)) == [("warning", f"port-{number}-blocked")]
    refused = (ports[0], Port(key, "connection refused"))
    assert codes(replace(sound, said=said(listed(key)), ports=refused)) == []


def at(host: str, ip: str, *, source: Source = Source.DNS) -> ListedRelay:
    own = source is Source.STATIC
    return ListedRelay(
        Relay(RelayKey(host, 25), source, addresses=(ip_address(ip),), interface="eth0", administrator=own)
    )


def test_d11_the_ports_of_an_address_are_tried_once_whatever_names_lead_to_it(sound: Scene) -> None:
    relays = [at(f"x{n}.example.org", "203.0.113.9") for n in range(4)]
    tried = mail_ports(replace(sound, said=said(*relays)))
    assert [(host, to.port) for host, to in tried] == [("x0.example.org", port) for port in (25, 465, 587)]


def test_d11_the_ports_at_a_private_address_are_tried_through_the_link_that_named_it(sound: Scene) -> None:
    relays = [at("a.example.org", "10.2.0.25"), at("b.example.org", "203.0.113.9"), at("c.test", "10.2.0.26",
              source=Source.STATIC)]  # fmt: skip
    tried = mail_ports(replace(sound, said=said(*relays)))
    assert {host: to.ifindex for host, to in tried} == {"a.example.org": 2, "b.example.org": 0, "c.test": 0}
