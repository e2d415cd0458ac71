"""What the doctor finds of a domain and its mail, by DMARC and SPF."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from salsa_agent.core.model import Answer, ListedRelay, Mx, Outcome, Relay, RelayKey, RRType, Source
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Scene, Spf
from salsa_agent.oneshot.doctor.sender import dmarc_policy, domain_of, sends_itself
from salsa_agent.oneshot.doctor.spf import evaluate
from tests.parts.oneshot.doctor.scenes import FAILED, FOUND, NONE, codes, listed, said


@pytest.mark.parametrize("policy", ["reject", "quarantine"])
def test_a_domain_that_has_mail_of_network_relays_rejected(sound: Scene, policy: str) -> None:
    strict = replace(sound, sender="me@example.net", dmarc=policy)
    (found,) = findings(strict)
    assert (found.severity, found.code) == ("warning", f"dmarc-{policy}")
    assert "leaves by mx.a.example:25, which this network names" in found.problem
    assert 'relays = ["srv:example.net"]' in found.cure
    assert codes(replace(strict, said=said(listed(source=Source.SENDER)))) == []
    assert codes(replace(strict, dmarc="none")) == []


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ({"a.b.example": ["v=DMARC1; p=reject; sp=none"]}, "reject"),
        ({"a.b.example": ["v=DMARC1 ; P = Quarantine"]}, "quarantine"),
        ({"b.example": ["v=DMARC1; p=reject; sp=none"]}, "none"),
        ({"b.example": ["v=DMARC1; p=reject"]}, "reject"),
        ({"example": ["v=DMARC1; p=reject"]}, ""),
        ({"a.b.example": ["v=spf1 -all", "v=DMARC1; p=reject"]}, "reject"),
        ({"a.b.example": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]}, ""),
        ({"a.b.example": ["p=reject; v=DMARC1"]}, ""),
        ({}, ""),
    ],
)
async def test_the_policy_of_a_domain(records: dict[str, list[str]], wanted: str) -> None:
    async def ask(name: str) -> Answer:
        return NONE._replace(txt=tuple(records.get(name.removeprefix("_dmarc."), ())))

    assert await dmarc_policy("a.b.example", ask) == wanted


@pytest.mark.parametrize(
    ("sender", "domain"),
    [("me@Example.NET.", "example.net"), ("<me@example.net>", "example.net"), ("<>", ""), ("", ""), ("a@b@", ""),
     ("me@exa mple.net", "")],
)  # fmt: skip
def test_the_domain_of_a_sender(sender: str, domain: str) -> None:
    assert domain_of(sender) == domain


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ("fail", ("warning", "spf-fail")),
        ("softfail", ("warning", "spf-softfail")),
        ("neutral", ("note", "spf-neutral")),
        ("permerror", ("warning", "spf-permerror")),
        ("temperror", ("warning", "spf-temperror")),
        ("pass", None),
        ("none", None),
        ("", None),
    ],
)
def test_an_spf_record_that_does_not_name_the_relay(sound: Scene, result: str, found: tuple[str, str] | None) -> None:
    judged = replace(sound, sender="me@example.net", spf=Spf(result, "203.0.113.1", "too many"))
    seen = findings(judged)
    assert [(one.severity, one.code) for one in seen] == ([found] if found else [])
    if result in ("fail", "softfail", "neutral"):
        assert "The SPF record of example.net does not name mx.a.example:25 (203.0.113.1)" in seen[0].problem
    strict = {code for _, code in codes(replace(judged, dmarc="reject"))}
    assert ("dmarc-reject" in strict) is (result != "pass")  # what SPF passes, DMARC does


def test_spf_says_nothing_of_a_submission_service(sound: Scene) -> None:
    provider = Relay(RelayKey("smtp.example.net", 587), Source.SENDER, administrator=True)
    assert not sends_itself(ListedRelay(provider))
    assert sends_itself(ListedRelay(provider._replace(key=RelayKey("smtp.example.net", 25))))
    assert sends_itself(listed())


Zone = dict[tuple[str, str], Answer]
POLICY = "v=spf1 ip4:192.0.2.0/24 include:_spf.example.net redirect=_end.example.net"
SPF: Zone = {
    ("example.net", "TXT"): NONE._replace(txt=("unrelated", POLICY), outcome=Outcome.FOUND),
    ("_spf.example.net", "TXT"): FOUND._replace(txt=("v=spf1 a:out.example.net mx -all",)),
    ("out.example.net", "A"): FOUND._replace(addresses=(ip_address("203.0.113.1"),)),
    ("_spf.example.net", "MX"): FOUND._replace(mx=(Mx(10, "in.example.net."), Mx(20, "."))),
    ("in.example.net", "AAAA"): FOUND._replace(addresses=(ip_address("2001:db8::25"),)),
    ("_end.example.net", "TXT"): FOUND._replace(txt=("v=spf1 ip6:2001:db8:1::/48 ~all",)),
    ("ptr.example", "TXT"): FOUND._replace(txt=("v=spf1 ptr -all",)),
    ("slow.example", "TXT"): FAILED,
    ("deep.example", "TXT"): FOUND._replace(txt=("v=spf1 include:deep.example -all",)),
}


@pytest.mark.parametrize(
    ("domain", "addresses", "result"),
    [
        ("example.net", ["192.0.2.7"], "pass"),
        ("example.net", ["203.0.113.1"], "pass"),
        ("example.net", ["2001:db8::25"], "pass"),
        ("example.net", ["2001:db8:1::1"], "pass"),
        ("example.net", ["203.0.113.2"], "softfail"),
        ("example.net", ["203.0.113.2", "203.0.113.1"], "pass"),  # which of them it sends from is not known
        ("none.example", ["203.0.113.2"], "none"),
        ("ptr.example", ["203.0.113.2"], ""),
        ("slow.example", ["203.0.113.2"], "temperror"),
        ("deep.example", ["203.0.113.2"], "permerror"),
        ("example.net", [], ""),
    ],
)
async def test_spf_is_evaluated_over_the_servers_of_f1(domain: str, addresses: list[str], result: str) -> None:
    asked: list[tuple[str, str]] = []

    async def ask(name: str, rtype: RRType) -> Answer:
        asked.append((name, rtype))
        return SPF.get((name, rtype), NONE._replace(rcode="NXDOMAIN"))

    said = await evaluate(f"me@{domain}", map(ip_address, addresses), ask)
    assert said.result == result
    assert len(asked) <= 2 * 12
    assert said.why if result.endswith("error") else True


async def test_spf_look_ups_are_bounded() -> None:
    asked: list[str] = []

    async def ask(name: str, rtype: RRType) -> Answer:
        asked.append(name)
        if name.startswith("x"):  # an endless chain
            return FOUND._replace(txt=(f"v=spf1 a:h{len(asked)}.example include:x{len(asked)}.example -all",))
        return FOUND._replace(addresses=(ip_address("192.0.2.9"),))

    assert (await evaluate("me@x.example", [ip_address("203.0.113.2")], ask)).result == "permerror"
    assert len(asked) <= 12  # the ten of section 4.6.4, and the record itself
    asked.clear()

    async def wide(name: str, rtype: RRType) -> Answer:
        """Nine mechanisms of ten exchanges each: within the limits of the RFC, and 100 questions."""
        asked.append(name)
        match rtype:
            case RRType.TXT:
                return FOUND._replace(txt=("v=spf1 " + " ".join(f"mx:w{n}.example" for n in range(9)) + " -all",))
            case RRType.MX:
                return FOUND._replace(mx=tuple(Mx(10, f"x{n}.{name}.") for n in range(10)))
        return FOUND._replace(addresses=(ip_address("192.0.2.9"),))

    assert (await evaluate("me@wide.example", [ip_address("203.0.113.2")], wide)).result == "permerror"
    assert len(asked) == 40
