"""The resolver driver against real DNS servers, which differ in how they say the same."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from salsa_agent.core.cache import null_mx_refuses
from salsa_agent.core.model import Answer, Mx, Outcome, Question, RRType, Server
from salsa_agent.core.settings import Dns
from salsa_agent.resolver.resolver import Resolver
from tests.lab.realdns import KINDS, real_dns

NET = "15.154.165.in-addr.arpa"


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with real_dns(request.param, tmp_path_factory.mktemp(request.param)) as real:
        yield real


async def ask(server: Server, name: str, rtype: RRType = RRType.MX) -> Answer:
    question = Question(name, rtype, (server,))
    return null_mx_refuses(question, await Resolver(Dns(timeout=10)).ask(question))


async def test_an_mx_set(server: Server) -> None:
    answer = await ask(server, NET)
    assert answer.outcome is Outcome.FOUND
    assert set(answer.mx) == {Mx(10, "noc.tor.hookup.net."), Mx(20, "vertex.tor.hookup.net.")}
    assert answer.rcode == "NOERROR"
    assert answer.ttl is not None
    assert 0 < answer.ttl <= 300
    assert not answer.authenticated
    assert answer.server == f"127.0.0.1:{server.port}"


async def test_at_the_apex(server: Server) -> None:
    assert (await ask(server, "154.165.in-addr.arpa")).mx == (Mx(30, "apex.hookup.net."),)


async def test_b4_nodata(server: Server) -> None:
    answer = await ask(server, f"1.{NET}")
    assert (answer.outcome, answer.rcode, answer.reason) == (Outcome.NONE, "NOERROR", "")


async def test_b4_nxdomain(server: Server) -> None:
    answer = await ask(server, f"9.{NET}")
    assert (answer.outcome, answer.rcode, answer.reason) == (Outcome.NONE, "NXDOMAIN", "")


async def test_b4_negatives_live_as_long_as_the_soa_says(server: Server, request: pytest.FixtureRequest) -> None:
    ttl = (await ask(server, f"9.{NET}")).ttl
    if "dnsmasq" in request.node.name:  # it has no SOA for what it answers itself
        assert ttl is None
    else:
        assert ttl is not None
        assert 0 < ttl <= 120


async def test_b6_a_classless_delegation(server: Server) -> None:
    assert (await ask(server, f"2.{NET}")).mx == (Mx(10, "classless.hookup.net."),)
    assert (await ask(server, f"2.0/25.{NET}")).mx == (Mx(10, "classless.hookup.net."),)


async def test_b6_a_cname_into_another_zone(server: Server) -> None:
    assert (await ask(server, f"4.{NET}")).mx == (Mx(10, "own.hookup.net."),)


async def test_b7_a_null_mx(server: Server) -> None:
    assert (await ask(server, f"3.{NET}")).outcome is Outcome.REFUSED


async def test_addresses(server: Server) -> None:
    assert (await ask(server, "noc.tor.hookup.net", RRType.A)).addresses == (ip_address("192.0.2.25"),)
    assert (await ask(server, "noc.tor.hookup.net", RRType.AAAA)).addresses == (ip_address("2001:db8::25"),)
    assert (await ask(server, "vertex.tor.hookup.net", RRType.AAAA)).outcome is Outcome.NONE


async def test_what_it_does_not_serve_is_refused_and_so_failed(server: Server) -> None:
    answer = await ask(server, "1.2.0.192.example")
    assert (answer.outcome, answer.rcode) == (Outcome.FAILED, "REFUSED")
