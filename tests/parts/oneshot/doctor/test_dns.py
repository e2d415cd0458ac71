"""What the doctor finds of DNS servers and their answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from salsa_agent.core.model import Answer, Asked, Dropped, Outcome, Question, RRType, Server
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Probe, Scene, View
from tests.parts.oneshot.doctor.scenes import FAILED, FOUND, MX, NAME, NONE, SERVER, codes, listed, said


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
