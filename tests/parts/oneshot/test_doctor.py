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
    ListedRelay,
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
from salsa_agent.core.settings import InetEndpoint, Settings, Site, UnixEndpoint
from salsa_agent.oneshot.doctor.examine import as_plain, findings, mail_ports
from salsa_agent.oneshot.doctor.scene import Agents, Check, Port, Probe, Scene
from salsa_agent.oneshot.doctor.sender import dmarc_policy, domain_of
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


# --- addresses


def test_a1_no_address(sound: Scene) -> None:
    assert codes(replace(sound, facts=NetworkFacts(), probes=(), asked=())) == [("fault", "no-address")]


def test_private_addresses_of_which_nobody_says_anything(sound: Scene) -> None:
    static = said(listed(source=Source.STATIC), outcome=Outcome.NONE)
    private = replace(sound, facts=facts_of("10.0.0.1"), said=static, asked=(Asked(MX, NONE, 32),))
    assert codes(private) == [("note", "private-addresses")]
    assert codes(replace(private, said=said(listed()))) == []  # the site serves its zone
    assert codes(replace(private, facts=facts_of("192.0.2.1"))) == []


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
        ("192.0.2.9: certificate not valid: certificate has expired", "relay-certificate"),
        ("192.0.2.9: connect: timed out", "relay-silent"),
        ("192.0.2.9: connect: connection refused", "relay-unreachable"),
    ],
)
def test_relays_that_fail(sound: Scene, reason: str, code: str) -> None:
    bad = listed(B, Verdict.FAILED, reason)
    (found,) = findings(replace(sound, said=said(listed(), bad)))
    assert (found.severity, found.code) == ("warning", code)
    assert found.problem.startswith(f"mx.b.test:25 failed: {reason}.")
    assert codes(replace(sound, said=said(bad))) == [("fault", "no-relay-works"), ("fault", code)]


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
    assert codes(sound) == []


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
