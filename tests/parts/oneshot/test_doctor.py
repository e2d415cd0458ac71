"""Each finding of the doctor: a broken world has its sentence and its cure, a sound one has none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    Best,
    CheckResult,
    Dropped,
    Evidence,
    HostAddress,
    ListedRelay,
    Mx,
    NetworkFacts,
    Outcome,
    Publication,
    Question,
    Relay,
    RelayKey,
    RRType,
    Server,
    Source,
    State,
    Verdict,
)
from salsa_agent.core.settings import InetEndpoint, Network, Settings, Site, UnixEndpoint
from salsa_agent.oneshot.doctor.examine import as_plain, findings
from salsa_agent.oneshot.doctor.mail_probes import mail_ports
from salsa_agent.oneshot.doctor.scene import Agents, Check, Outside, Port, Probe, Scene, Spf, View
from salsa_agent.oneshot.doctor.sender import dmarc_policy, domain_of, sends_itself
from salsa_agent.oneshot.doctor.spf import evaluate
from tests.core.sim import facts as facts_of

NOW = 1_800_000_000.0
SERVER = Server("192.0.2.53")
NAME = "1.2.0.192.in-addr.arpa"
MX = Question(NAME, RRType.MX, (SERVER,))
FOUND = Answer(Outcome.FOUND, server="192.0.2.53")
NONE = Answer(Outcome.NONE, server="192.0.2.53")
FAILED = Answer(Outcome.FAILED, reason="192.0.2.53: timed out")
A, B = RelayKey("mx.a.example", 25), RelayKey("mx.b.test", 25)


def listed(key: RelayKey = A, verdict: Verdict = Verdict.OK, reason: str = "", *, source: Source = Source.DNS,
           wants_auth: bool = False) -> ListedRelay:  # fmt: skip
    return ListedRelay(Relay(key, source), verdict, reason, wants_auth=wants_auth)


def said(*relays: ListedRelay, outcome: Outcome = Outcome.FOUND, dropped: tuple[Dropped, ...] = ()) -> Publication:
    best = Best(*relays[0].relay.key, relays[0].relay.source) if relays else Best()
    evidence = (Evidence(Address(ip_address("192.0.2.1"), 2, "eth0"), outcome),)
    return Publication(State.READY, best, relays, evidence, dropped=dropped)


@pytest.fixture
def sound(tmp_path: Path) -> Scene:
    """A world in which nothing is wrong. Root: an empty directory."""
    return Scene(
        Settings(),
        facts_of("192.0.2.1"),
        said(listed()),
        (Asked(MX, FOUND, 32),),
        (Check(A, CheckResult(Verdict.OK), 0.2),),
        (Probe(SERVER, NONE),),
        (Port(A, greeting="220 mx.a.example ESMTP"), Port(B, greeting="220 mx.b.test ESMTP")),
        Agents("auto", ("system",), ("system",), "ready"),
        root=tmp_path,
        now=NOW,
        installed=NOW - 1e6,
    )


def codes(scene: Scene) -> list[tuple[str, str]]:
    return [(one["severity"], one["code"]) for one in as_plain(findings(scene))]


def test_nothing_is_named_in_a_sound_world(sound: Scene) -> None:
    assert codes(sound) == []


def test_the_worst_comes_first_and_each_has_problem_and_cure(sound: Scene) -> None:
    (sound.root / "etc").mkdir()
    (sound.root / "etc/msmtprc").write_text("account default\nhost mail.example\n")
    broken = replace(sound, agents=Agents(), said=said(listed(verdict=Verdict.FAILED, reason="greeting: 554 no")))
    found = as_plain(findings(broken))
    order = [one["severity"] for one in found]
    assert order == sorted(order, key=["fault", "warning", "note"].index)
    assert {"fault", "note"} <= set(order)
    for one in found:
        assert set(one) == {"severity", "code", "problem", "cure"}
        assert all(text.isprintable() for text in one.values())
        assert one["problem"].endswith(".")
        assert one["cure"].endswith((".", "(timedatectl set-ntp true)."))


# --- the agent


@pytest.mark.parametrize(
    ("agents", "wanted"),
    [
        (Agents(), [("fault", "no-agent")]),
        (Agents("session"), [("fault", "no-agent")]),
        (Agents("auto", (), ("system",)), [("fault", "no-agent"), ("warning", "no-policy")]),
        (
            Agents("auto", ("session",), ("system", "session")),
            [("warning", "agent-on-session-bus"), ("warning", "no-policy")],
        ),
        (Agents("auto", ("session",), ("session",)), []),
        (Agents("auto", elsewhere=("unix:path=/x/bus",)), [("fault", "agent-on-another-bus")]),
        (Agents("system", elsewhere=("session",)), [("fault", "agent-on-another-bus")]),
        (Agents("unix:path=/x", ("unix:path=/x",), ("unix:path=/x",)), []),
    ],
)
def test_agents(sound: Scene, agents: Agents, wanted: list[tuple[str, str]]) -> None:
    assert codes(replace(sound, agents=agents)) == wanted


def test_policy_and_unit(sound: Scene) -> None:
    absent = replace(sound, agents=Agents("auto", (), ("system",)))
    (sound.root / "run/systemd/system").mkdir(parents=True)
    assert codes(absent) == [("fault", "no-agent"), ("warning", "no-policy"), ("warning", "no-unit")]
    for file in ("etc/dbus-1/system.d/org.salsa.Agent1.conf", "usr/lib/systemd/system/salsa-agent.service"):
        (sound.root / file).parent.mkdir(parents=True)
        (sound.root / file).touch()
    assert codes(absent) == [("fault", "no-agent")]


def test_h3_the_bus_refuses_the_name(sound: Scene) -> None:
    words = 'Connection ":1.4" is not allowed to own the service "org.salsa.Agent1" due to security policies'
    refused = replace(sound, agents=Agents("auto", (), ("system",), refused=words))
    _, found = findings(refused)
    assert (found.severity, found.code) == ("fault", "name-refused")
    assert words in found.problem
    assert found.cure.startswith("Install its policy")
    policy = sound.root / "usr/share/dbus-1/system.d/org.salsa.Agent1.conf"
    policy.parent.mkdir(parents=True)
    policy.touch()
    assert "have the bus read it" in findings(refused)[1].cure


def test_h3_a_policy_for_a_user_that_is_not_there_is_left_out_by_the_bus(sound: Scene) -> None:
    absent = replace(sound, agents=Agents("auto", (), ("system",)))
    for file in ("etc/dbus-1/system.d/org.salsa.Agent1.conf", "etc/passwd"):
        (sound.root / file).parent.mkdir(parents=True, exist_ok=True)
        (sound.root / file).write_text("root:x:0:0::/root:/bin/sh\n")
    assert codes(absent) == [("fault", "no-agent"), ("fault", "name-refused")]
    with (sound.root / "etc/passwd").open("a") as users:
        users.write("salsa-agent:x:999:999::/:/usr/sbin/nologin\n")
    assert codes(absent) == [("fault", "no-agent")]


# --- addresses


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


# --- DNS


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (FAILED, "resolver-silent"),
        (Answer(Outcome.FAILED, rcode="REFUSED", reason="REFUSED"), "resolver-refuses"),
        (FOUND, "resolver-lies"),
    ],
)
def test_servers(sound: Scene, answer: Answer, code: str) -> None:
    assert codes(replace(sound, probes=(Probe(SERVER, answer),), asked=())) == [("fault", code)]
    two = replace(sound, probes=(Probe(Server("192.0.2.54"), NONE), Probe(SERVER, answer)), asked=())
    assert codes(two) == [("fault" if code == "resolver-lies" else "warning", code)]


def test_a_server_that_knows_the_zones_of_the_site_alone_is_no_fault(sound: Scene) -> None:
    refuses = Answer(Outcome.FAILED, rcode="REFUSED", reason="REFUSED")
    assert codes(replace(sound, probes=(Probe(SERVER, refuses),))) == []


LOCAL = Server("127.0.0.53")


@pytest.mark.parametrize(
    ("server", "own", "random", "itself"),
    [
        (LOCAL, None, 300, True),
        (LOCAL, 300, 300, False),  # it asked the network
        (LOCAL, None, None, False),  # nobody sends a SOA record here
        (SERVER, None, 300, False),  # the site's own server may well
    ],
)
def test_f1_a_stub_that_answers_itself(
    sound: Scene, server: Server, own: int | None, random: int | None, itself: bool
) -> None:
    answer = Answer(Outcome.NONE, server=server.address, rcode="NOERROR", ttl=own)
    asked = (Asked(MX._replace(servers=(server,)), answer, 32), *sound.asked)
    probe = Probe(server, Answer(Outcome.NONE, server=server.address, ttl=random))
    found = codes(replace(sound, asked=asked, probes=(probe,)))
    assert found == ([("warning", "stub-answers-itself")] if itself else [])


def seen_by(server: Server, outcome: Outcome, *, in_use: bool = True) -> View:
    return View(server, ((NAME, Answer(outcome, server=server.address)),), in_use)


OTHER = Server("198.51.100.53")


@pytest.mark.parametrize(
    ("views", "split"),
    [
        ((seen_by(SERVER, Outcome.NONE), seen_by(OTHER, Outcome.FOUND, in_use=False)), True),
        ((seen_by(SERVER, Outcome.NONE), seen_by(OTHER, Outcome.FOUND)), True),
        ((seen_by(SERVER, Outcome.FOUND), seen_by(OTHER, Outcome.NONE, in_use=False)), False),
        ((seen_by(SERVER, Outcome.FOUND), seen_by(OTHER, Outcome.FOUND)), False),
        ((seen_by(SERVER, Outcome.FOUND), seen_by(OTHER, Outcome.FAILED)), False),  # others say that
        (
            (seen_by(SERVER._replace(ifindex=2), Outcome.NONE), seen_by(OTHER._replace(ifindex=3), Outcome.FOUND)),
            False,  # each link has a view of its own
        ),
    ],
)
def test_split_horizon(sound: Scene, views: tuple[View, ...], split: bool) -> None:
    found = findings(replace(sound, views=views))
    assert [one.code for one in found] == (["split-horizon"] if split else [])
    assert not split or f"The DNS server {OTHER.address}" in found[0].problem


@pytest.mark.parametrize("rtype", [RRType.A, RRType.AAAA, RRType.SRV])
def test_a_name_that_cannot_be_looked_up(sound: Scene, rtype: RRType) -> None:
    failed = Asked(Question("smtp.example.net", rtype, (SERVER,)), FAILED)
    (found,) = findings(replace(sound, asked=(*sound.asked, failed)))
    assert (found.severity, found.code) == ("warning", "name-failed")
    assert found.problem == f"smtp.example.net ({rtype}) cannot be looked up: 192.0.2.53: timed out."
    assert codes(replace(sound, asked=(*sound.asked, failed._replace(answer=NONE)))) == []


def test_no_server(sound: Scene) -> None:
    assert codes(replace(sound, probes=(), asked=())) == [("fault", "no-resolver")]


def test_b5_levels_that_fail(sound: Scene) -> None:
    failed = (*sound.asked, Asked(MX._replace(name="0.192.in-addr.arpa"), FAILED, 16))
    (found,) = findings(replace(sound, asked=failed))
    assert (found.severity, found.code) == ("warning", "level-failed")
    assert "0.192.in-addr.arpa: 192.0.2.53: timed out" in found.problem


def test_a_relay_that_was_dropped_is_named_with_its_rule(sound: Scene) -> None:
    dropped = (Dropped("localhost", "C2", "not a host name", NAME),)
    (found,) = findings(replace(sound, said=said(listed(), dropped=dropped)))
    assert (found.severity, found.code) == ("warning", "relay-dropped")
    assert found.problem == "localhost was left out by rule C2: not a host name."
    assert NAME in found.cure


# --- relays


def test_no_relay(sound: Scene) -> None:
    assert codes(replace(sound, said=said(outcome=Outcome.NONE))) == [("fault", "no-relay")]
    assert codes(replace(sound, said=None)) == [("fault", "not-decided")]


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


# --- the sender


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


# --- ports


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


# --- DHCP


LEASED = [HostAddress(ip_address("192.0.2.1"), 2, 0, 0)]


@pytest.mark.parametrize(
    ("manager", "files", "asks"),
    [
        (True, {}, False),
        (True, {"etc/NetworkManager/NetworkManager.conf": "[main]\ndhcp=internal\n"}, False),
        (True, {"etc/NetworkManager/conf.d/dhcp.conf": "[main]\ndhcp=dhclient\n", "etc/dhcp/dhclient.conf": ""}, False),
        (
            True,
            {
                "etc/NetworkManager/conf.d/dhcp.conf": "[main]\ndhcp=dhclient\n",
                "etc/dhcp/dhclient.conf": "also request smtp-server;\n",
            },
            True,
        ),
        (False, {"etc/dhcp/dhclient.conf": "request subnet-mask,\n  routers;\n# request smtp-server;\n"}, False),
        (False, {"etc/dhcp/dhclient.conf": "request subnet-mask,\n  smtp-server;\n"}, True),
        (False, {"etc/dhcpcd.conf": "option domain_name\n"}, False),
        (False, {"etc/dhcpcd.conf": "option domain_name, smtp_server\n"}, True),
        (False, {}, True),  # no client that is known
    ],
)
def test_c9_a_dhcp_client_that_does_not_ask(sound: Scene, manager: bool, files: dict[str, str], asks: bool) -> None:
    for name, text in files.items():
        (sound.root / name).parent.mkdir(parents=True, exist_ok=True)
        (sound.root / name).write_text(text)
    leased = replace(sound, facts=facts_of(*LEASED), networkmanager=manager)
    assert codes(leased) == ([] if asks else [("note", "dhcp-option-not-asked")])
    assert codes(replace(leased, facts=facts_of("192.0.2.1"))) == []  # an address that is none of DHCP's
    assert codes(replace(leased, agents=leased.agents._replace(of_links=True))) == []


# --- sites


@pytest.mark.parametrize(
    ("sites", "never"),
    [
        ((Site("a", prefix=(ip_network("127.0.0.0/8"),)),), True),
        ((Site("a", prefix=(ip_network("fe80::/10"),)),), True),
        ((Site("a", prefix=(ip_network("10.0.0.0/8"),)),), False),
        ((Site("a", interface=("docker0",)),), True),
        ((Site("a", interface=("docker0", "eth0")),), False),
        ((Site("a", interface=("wl*",)),), False),
        ((Site("a", interface=("eth*",)), Site("b", interface=("eth*",), domain=("x.example",))), True),
        ((Site("a", interface=("eth*",), domain=("x.example",)), Site("b", interface=("eth*",))), False),
        ((Site("a", prefix=(ip_network("10.0.0.0/8"),)), Site("b", prefix=(ip_network("10.1.0.0/16"),))), True),
        ((Site("a", prefix=(ip_network("10.1.0.0/16"),)), Site("b", prefix=(ip_network("10.0.0.0/8"),))), False),
    ],
)
def test_c10_a_site_that_can_never_hold(sound: Scene, sites: tuple[Site, ...], never: bool) -> None:
    wanted = [("warning", "site-never-holds")] if never else []
    assert codes(replace(sound, settings=Settings(sites=sites))) == wanted


def test_c10_a_connection_without_networkmanager(sound: Scene) -> None:
    site = replace(sound, settings=Settings(sites=(Site("a", connection=("Office",)),)))
    assert codes(site) == []
    assert codes(replace(site, networkmanager=False)) == [("warning", "site-never-holds")]


# --- programs


@pytest.mark.parametrize(
    ("file", "asks"),
    [
        ("etc/postfix/main.cf", "sender_dependent_relayhost_maps = socketmap:inet:127.0.0.1:8462:relay"),
        ("etc/msmtprc", "eval . /run/salsa-agent/relay.env"),
        ("etc/exim4/exim4.conf.template", "route_data = ${readfile{/run/salsa-agent/relay}}"),
        ("etc/nullmailer/remotes", "# kept by salsa-agent"),
    ],
)
def test_programs_that_do_not_ask(sound: Scene, file: str, asks: str) -> None:
    sound = replace(sound, settings=Settings(postfix_listen=(InetEndpoint("127.0.0.1", 8462),)))
    path = sound.root / file
    path.parent.mkdir(parents=True)
    path.write_text("relayhost = [mail.example]\n")
    assert codes(sound) == [("note", "program-not-asking")]
    path.write_text(f"{asks}\n")
    for name in ("relay", "relay.env"):
        (sound.root / "run/salsa-agent").mkdir(parents=True, exist_ok=True)
        (sound.root / "run/salsa-agent" / name).touch()
    assert codes(sound) == []


@pytest.mark.parametrize(
    ("file", "reads"),
    [
        ("etc/msmtprc", "eval . /run/salsa/relay.env"),
        ("etc/exim4/exim4.conf.template", "route_data = ${readfile{/run/salsa-agent/relays}}"),
    ],
)
def test_programs_that_read_what_nobody_writes(sound: Scene, file: str, reads: str) -> None:
    path = sound.root / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{reads}\n")
    (found,) = findings(sound)
    assert (found.severity, found.code) == ("fault", "program-asks-elsewhere")
    assert "/run/salsa" in found.problem
    assert codes(replace(sound, agents=Agents("session", ("session",), ("session",)))) == []


@pytest.mark.parametrize(
    ("asked", "listens"),
    [
        ("inet:127.0.0.1:8463", False),
        ("inet:localhost:8462", True),
        ("unix:/salsa/relay", True),
        ("unix:/run/other", False),
    ],
)
def test_postfix_asks_where_nobody_listens(sound: Scene, asked: str, listens: bool) -> None:
    listening = (InetEndpoint("127.0.0.1", 8462), UnixEndpoint("/var/spool/postfix/salsa/relay"))
    (sound.root / "etc/postfix").mkdir(parents=True)
    (sound.root / "etc/postfix/main.cf").write_text(f"transport_maps = socketmap:{asked}:transport\n")
    wanted = [] if listens else [("fault", "postfix-asks-elsewhere")]
    assert codes(replace(sound, settings=Settings(postfix_listen=listening))) == wanted


# --- the clock


@pytest.mark.parametrize(("now", "wrong"), [(0.0, True), (NOW - 3e6, True), (NOW + 1e9, True), (NOW + 1e8, False)])
def test_the_clock(sound: Scene, now: float, wrong: bool) -> None:
    assert codes(replace(sound, now=now)) == ([("fault", "clock-wrong")] if wrong else [])


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
