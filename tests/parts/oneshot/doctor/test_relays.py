"""What the doctor finds of relays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from salsa_agent.core.model import CheckResult, ListedRelay, Outcome, Relay, Source, SrvEntry, Verdict
from salsa_agent.core.settings import Sender, Settings
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Check, Port, Scene
from tests.parts.oneshot.doctor.scenes import A, B, codes, listed, said


def test_no_relay(sound: Scene) -> None:
    assert codes(replace(sound, said=said(outcome=Outcome.NONE))) == [("fault", "no-relay")]
    assert codes(replace(sound, said=None)) == [("fault", "not-decided")]


def test_c12_no_relay_where_a_configured_domain_names_none(sound: Scene) -> None:
    nothing = replace(sound, said=said(outcome=Outcome.NONE))
    static = Settings(static_relays=(SrvEntry("home.example"),))
    (found,) = findings(replace(nothing, settings=static))
    assert (found.severity, found.code) == ("fault", "no-relay")
    assert "srv:home.example stands for none" in found.problem
    assert "none is configured" not in found.problem
    assert "_submissions._tcp.home.example" in found.cure
    own = replace(static, senders=(Sender(("*@w.example",), (SrvEntry("w.example"),)),))
    (found,) = findings(replace(nothing, settings=own, sender="me@w.example"))
    assert "srv:w.example stands for none" in found.problem


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("192.0.2.9: greeting: 554 go away", "relay-refuses"),
        ("192.0.2.9: STARTTLS is not offered", "relay-without-tls"),
        ("192.0.2.9: MAIL: 530 5.7.0 Must issue a STARTTLS command first", "relay-wants-tls"),
        ("192.0.2.9: certificate not valid: certificate has expired", "relay-certificate"),
        ("192.0.2.9: connect: timed out", "relay-silent"),
        ("192.0.2.9: connect: connection refused", "relay-unreachable"),
    ],
)
def test_relays_that_fail(sound: Scene, reason: str, code: str) -> None:
    bad = listed(B, Verdict.FAILED, reason)
    (found,) = findings(replace(sound, said=said(listed(), bad)))
    assert (found.severity, found.code) == ("warning", code)
    assert reason in found.problem
    assert found.problem.startswith("mx.b.test:25 failed: ")
    assert codes(replace(sound, said=said(bad))) == [("fault", "no-relay-works"), ("fault", code)]


@pytest.mark.parametrize(
    ("openssl", "sentence", "cure"),
    [
        ("certificate has expired", "its certificate has expired", "renews it"),
        ("certificate is not yet valid", "this host's clock is behind", "Set the clock"),
        ("Hostname mismatch, certificate is not valid for 'mx.b.test'.", "is for another name", "for this name"),
        ("IP address mismatch, certificate is not valid for '192.0.2.9'.", "is for another name", "for this name"),
        ("unable to get local issuer certificate", "an authority that this host does not know", "update-ca"),
        ("self-signed certificate in certificate chain", "an authority that this host does not know", "update-ca"),
        ("self-signed certificate", "signed by itself", "update-ca"),
        ("unsuitable certificate purpose", "its certificate is not valid (", "another one"),
    ],
)
def test_each_bad_certificate_has_its_sentence(sound: Scene, openssl: str, sentence: str, cure: str) -> None:
    reason = f"STARTTLS: certificate not valid: {openssl}"
    (found,) = findings(replace(sound, said=said(listed(), listed(B, Verdict.FAILED, reason))))
    assert (found.code, sentence in found.problem, cure in found.cure) == ("relay-certificate", True, True)
    own = replace(sound, certificates=(Check(A, CheckResult(Verdict.FAILED, reason), 0.1),))
    (found,) = findings(own)
    assert (found.severity, found.code) == ("warning", "relay-certificate")
    assert sentence in found.problem
    assert codes(replace(sound, certificates=(Check(A, CheckResult(Verdict.OK), 0.1),))) == []


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", ("note", "relay-wants-tls")),
        ("530 5.7.1 Authentication required", ("warning", "relay-wants-password")),
        ("550 5.7.1 192.0.2.1 is on a block list", ("warning", "relay-refuses")),
    ],
)
def test_a_relay_that_answers_and_takes_no_mail_in_the_clear(
    sound: Scene, refusal: str, found: tuple[str, str]
) -> None:
    seen = replace(sound, ports=(Port(A, greeting="220 mx.a.example ESMTP", refusal=refusal),))
    assert codes(seen) == [found]
    key = A._replace(port=587)
    own = ListedRelay(Relay(key, Source.STATIC, administrator=True), Verdict.OK)
    submission = (Port(key, greeting="220 mx.a.example ESMTP", refusal=refusal),)
    assert (
        codes(replace(sound, said=said(own), ports=submission)) == []
    )  # who configured it knows that it asks for both


def test_d10_a_relay_that_wants_a_password(sound: Scene) -> None:
    bad = listed(B, Verdict.FAILED, "RCPT: 530 5.7.0 log in", wants_auth=True)
    assert codes(replace(sound, said=said(listed(), bad))) == [("warning", "relay-wants-password")]
    assert codes(replace(sound, said=said(listed(source=Source.STATIC, wants_auth=True)))) == [
        ("note", "relay-wants-password")
    ]


def test_a_slow_relay(sound: Scene) -> None:
    slow = (Check(A, CheckResult(Verdict.OK), 6.2),)
    assert codes(replace(sound, checks=slow)) == [("warning", "relay-slow")]
