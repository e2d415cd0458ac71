"""The resolver driver against a scriptable DNS server in this process."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from salsa_agent import link_socket
from salsa_agent.config.values import trusted_server
from salsa_agent.core.cache import null_mx_refuses
from salsa_agent.core.large_sets import bounded
from salsa_agent.core.model import Answer, Mx, Outcome, Question, RRType, Server, Srv
from salsa_agent.core.settings import Dns, Settings
from salsa_agent.resolver import query_budgets, transport
from salsa_agent.resolver.hosts import HOSTS
from salsa_agent.resolver.message import MAX_DECODED, Query, Reply, ServerFailed, is_reply, query_name
from salsa_agent.resolver.message import read as read_message
from salsa_agent.resolver.query_budgets import QueryBudgets
from salsa_agent.resolver.resolution import server_text
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.resolver.wire import MAX_LABELS, NAME_COST
from tests.lab.dnsserver import DnsServer, dns_server
from tests.lab.needs import Need, require
from tests.lab.netns import Netns, veth

NAME = "15.154.165.in-addr.arpa"
SET = ["10 noc.example.", "20 vertex.example."]
BOTH = {Mx(10, "noc.example."), Mx(20, "vertex.example.")}
LONG = 20.0  # seconds: a try that is meant to succeed
SHORT = 0.5  # seconds: a try that is meant to time out
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def one() -> AsyncIterator[DnsServer]:
    async with dns_server({NAME: {"MX": SET}}) as server:
        yield server


@pytest.fixture
async def two() -> AsyncIterator[DnsServer]:
    async with dns_server({NAME: {"MX": SET}}, address="127.0.0.2") as server:
        yield server


def resolver(
    timeout: float = LONG,
    attempts: int = 2,
    *,
    hosts_file: Path = HOSTS,
    trust_ad: Sequence[str] = (),
    budgets: QueryBudgets | None = None,
    **options: Any,
) -> Resolver:
    """`trust_ad`: as it is written in the configuration."""
    trusted = tuple(map(trusted_server, trust_ad))
    return Resolver(
        Dns(timeout=timeout, attempts=attempts, trust_ad=trusted, **options), hosts_file=hosts_file, budgets=budgets
    )


async def ask(
    *servers: DnsServer | Server, name: str = NAME, rtype: RRType = RRType.MX, by: Resolver | None = None
) -> Answer:
    listed = tuple(s.server if isinstance(s, DnsServer) else s for s in servers)
    return await (by or resolver()).ask(Question(name, rtype, listed))


def failed(answer: Answer, reason: str) -> bool:
    return answer.outcome is Outcome.FAILED and reason in answer.reason and answer.reason.isprintable()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def dead_port() -> Server:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return Server("127.0.0.1", sock.getsockname()[1])


def message(query: bytes, *answer: str, authority: tuple[str, ...] = (), flags: int = 0, rcode: int = 0) -> bytes:
    """A reply to `query`, its records as lines of a zone file."""
    reply = dns.message.make_response(dns.message.from_wire(query))
    for section, lines in ((reply.answer, answer), (reply.authority, authority)):
        for line in lines:
            name, ttl, rtype, data = line.split(None, 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    reply.flags |= flags
    reply.set_rcode(dns.rcode.Rcode(rcode))
    return reply.to_wire(max_size=65535)


def query(name: str = NAME, rtype: RRType = RRType.MX) -> Query:
    return Query(query_name(name), rtype)


def read(wire: bytes, asked: Query) -> Reply:
    """What a reply says that does not end at an alias."""
    reply = read_message(wire, asked)
    assert isinstance(reply, Reply)
    return reply


# --- what an answer says


async def test_an_mx_set(one: DnsServer) -> None:
    answer = await ask(one)
    assert answer.outcome is Outcome.FOUND
    assert set(answer.mx) == BOTH
    assert (answer.ttl, answer.rcode, answer.server) == (300, "NOERROR", f"127.0.0.1:{one.port}")
    assert (answer.addresses, answer.authenticated, answer.reason) == ((), False, "")
    assert 0 < answer.elapsed < LONG


async def test_addresses_of_both_families(one: DnsServer) -> None:
    one.zone["noc.example"] = {"A": ["192.0.2.25", "192.0.2.26"], "AAAA": ["2001:db8::25"]}
    v4 = await ask(one, name="noc.example", rtype=RRType.A)
    assert set(v4.addresses) == {ip_address("192.0.2.25"), ip_address("192.0.2.26")}
    v6 = await ask(one, name="noc.example", rtype=RRType.AAAA)
    assert v6.addresses == (ip_address("2001:db8::25"),)


async def test_b4_nxdomain_and_nodata_are_none(one: DnsServer) -> None:
    one.zone["1." + NAME] = {"PTR": ["host.example."]}
    nodata, nxdomain = await ask(one, name="1." + NAME), await ask(one, name="2." + NAME)
    assert (nodata.outcome, nodata.rcode, nodata.reason) == (Outcome.NONE, "NOERROR", "")
    assert (nxdomain.outcome, nxdomain.rcode, nxdomain.reason) == (Outcome.NONE, "NXDOMAIN", "")


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "NOTAUTH", "YXDOMAIN"])
async def test_b4_any_other_rcode_is_failed(one: DnsServer, rcode: str) -> None:
    one.zone[NAME] = {"MX": {"rcode": rcode}}
    answer = await ask(one)
    assert failed(answer, rcode)
    assert (answer.rcode, answer.server) == (rcode, f"127.0.0.1:{one.port}")


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
async def test_an_error_without_its_question_is_one(one: DnsServer, rcode: int) -> None:
    one.zone[NAME] = {"MX": {"raw": lambda wire: wire[:2] + struct.pack("!5H", 0x8180 | rcode, 0, 0, 0, 0)}}
    assert failed(await ask(one), dns.rcode.to_text(dns.rcode.Rcode(rcode)))


@pytest.mark.parametrize(("soa", "ttl"), [([900, 120], 120), ([90, 120], 90), (None, None)])
async def test_e1_negatives_live_as_long_as_the_soa_says(
    one: DnsServer, soa: list[int] | None, ttl: int | None
) -> None:
    one.zone[NAME] = {"MX": {"soa": soa}}
    assert (await ask(one)).ttl == ttl
    one.zone[NAME] = {"MX": {"soa": soa, "rcode": "NXDOMAIN"}}
    assert (await ask(one)).ttl == ttl


def test_e1_only_a_soa_of_a_zone_that_holds_the_name_counts() -> None:
    soa = "900 SOA ns.example. root.example. 1 2 3 4 120"
    asked = query()
    for owner in ("example.", "5.154.165.in-addr.arpa.", f"1.{NAME}."):
        assert read(message(asked.wire, authority=(f"{owner} {soa}",)), asked).ttl is None
    for owner in (".", "in-addr.arpa.", "154.165.IN-ADDR.ARPA.", f"{NAME}."):
        assert read(message(asked.wire, authority=(f"{owner} {soa}",)), asked).ttl == 120


async def test_a_referral_is_no_answer(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"soa": None, "authority": ["154.165.in-addr.arpa. 300 IN NS ns.example."]}}
    assert failed(await ask(one), "referral")


async def test_c3_additional_records_never_count(one: DnsServer) -> None:
    one.zone["noc.example"] = {"A": {"soa": None, "additional": ["noc.example. 300 IN A 192.0.2.66"]}}
    answer = await ask(one, name="noc.example", rtype=RRType.A)
    assert (answer.outcome, answer.addresses) == (Outcome.NONE, ())


def test_c3_only_records_of_the_name_and_type_that_was_asked_count() -> None:
    asked = query("noc.example", RRType.A)
    reply = message(asked.wire, "else.example. 9 A 192.0.2.66", "noc.example. 9 TXT x", "NOC.example. 300 A 192.0.2.1")
    assert read(reply, asked).records == (ip_address("192.0.2.1"),)
    assert read(reply, asked).ttl == 300
    assert read(message(asked.wire, "else.example. 9 A 192.0.2.66"), asked).outcome is Outcome.NONE


def test_the_case_of_names_does_not_matter() -> None:
    asked = query("noc.example", RRType.A)
    head = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, 2, 0, 0) + b"\3NOC\7exAMPLE\0\0\1\0\1"
    alias = b"\3nOc\7Example\0" + struct.pack("!HHIH", 5, 1, 300, 4) + b"\1A\xc0\x10"
    record = b"\1a\xc0\x10" + struct.pack("!HHIH", 1, 1, 300, 4) + bytes((192, 0, 2, 1))
    reply = head + alias + record.replace(b"\xc0\x10", b"\7EXAMPLE\0")
    assert is_reply(reply, reply[:2] + asked.wire[2:])
    assert read(reply, asked).records == (ip_address("192.0.2.1"),)


def test_a_record_of_another_class_does_not_count() -> None:
    asked = query("noc.example", RRType.A)
    reply = bytearray(message(asked.wire, "noc.example. 300 A 192.0.2.1"))
    reply[-11] = 3  # CHAOS
    assert read(bytes(reply), asked).outcome is Outcome.NONE


def test_a_ttl_with_the_top_bit_is_zero() -> None:
    asked = query("noc.example", RRType.A)
    reply = bytearray(message(asked.wire, "noc.example. 300 A 192.0.2.1"))
    reply[-10] = 0x80
    assert read(bytes(reply), asked).ttl == 0  # RFC 2181 section 8


async def test_b7_a_null_mx_is_told(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": ["0 ."]}
    answer = await ask(one)
    assert answer.mx == (Mx(0, "."),)
    assert null_mx_refuses(Question(NAME, RRType.MX, ()), answer).outcome is Outcome.REFUSED


# --- CNAMEs


async def test_b6_a_chain_is_followed_and_its_least_ttl_counts(one: DnsServer) -> None:
    one.zone["1." + NAME] = {"CNAME": {"answer": ["1.0/25." + NAME + "."], "ttl": 70}}
    one.zone["1.0/25." + NAME] = {"CNAME": ["last.example."]}
    one.zone["last.example"] = {"MX": ["5 classless.example."]}
    answer = await ask(one, name="1." + NAME)
    assert (answer.mx, answer.ttl) == ((Mx(5, "classless.example."),), 70)
    assert len(one.queries) == 1


async def test_b6_a_cname_without_its_target_is_asked_for(one: DnsServer) -> None:
    one.zone["1." + NAME] = {"CNAME": {"answer": ["1.0/25." + NAME + "."], "ttl": 70, "chase": False}}
    one.zone["1.0/25." + NAME] = {"CNAME": {"answer": ["last.example."], "ttl": 80, "chase": False}}
    one.zone["last.example"] = {"MX": ["5 classless.example."]}
    answer = await ask(one, name="1." + NAME)
    assert (answer.outcome, answer.mx, answer.ttl) == (Outcome.FOUND, (Mx(5, "classless.example."),), 70)
    assert [q.name for q in one.queries] == ["1." + NAME, "1.0/25." + NAME, "last.example"]


async def test_b6_a_target_without_mx_is_none(one: DnsServer) -> None:
    one.zone["1." + NAME] = {"CNAME": {"answer": ["host.example."], "ttl": 70}}
    one.zone["host.example"] = {"PTR": ["x.example."], "MX": {"soa": [900, 120]}}
    answer = await ask(one, name="1." + NAME)
    assert (answer.outcome, answer.ttl, len(one.queries)) == (Outcome.NONE, 70, 1)
    one.zone["1." + NAME] = {"CNAME": ["nowhere.example."]}
    assert (await ask(one, name="1." + NAME)).rcode == "NXDOMAIN"


async def test_b6_a_target_that_cannot_be_asked_is_failed(one: DnsServer) -> None:
    one.zone["1." + NAME] = {"CNAME": {"answer": ["host.example."], "chase": False}}
    one.zone["host.example"] = {"MX": {"rcode": "REFUSED"}}
    assert failed(await ask(one, name="1." + NAME), "REFUSED")


async def test_b6_loops_end(one: DnsServer) -> None:
    one.zone["a.example"] = {"CNAME": ["b.example."]}
    one.zone["b.example"] = {"CNAME": ["a.example."]}
    assert failed(await ask(one, name="a.example"), "CNAME loop")
    one.zone["a.example"] = {"CNAME": {"answer": ["b.example."], "chase": False}}
    one.zone["b.example"] = {"CNAME": {"answer": ["a.example."], "chase": False}}
    one.queries.clear()
    assert failed(await ask(one, name="a.example"), "CNAME")
    assert len(one.queries) < 12


# --- F2: ids, ports, senders


async def test_f2_each_try_has_a_fresh_id_and_port(one: DnsServer) -> None:
    by = resolver()
    await asyncio.gather(*(ask(one, by=by) for _ in range(60)))
    assert len({q.id for q in one.queries}) > 55
    assert len({q.port for q in one.queries}) > 55
    ids = [q.id for q in one.queries]
    assert max(ids) > 40000  # all 16 bits, and not counted up
    assert len({b - a for a, b in itertools.pairwise(ids)}) > 50


async def test_f2_another_try_is_another_query(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "drop": 1}}
    assert (await ask(one, by=resolver(SHORT))).outcome is Outcome.FOUND
    first, second = one.queries
    assert first.id != second.id
    assert first.port != second.port


async def test_f3_the_query_asks_for_recursion_and_authenticity(one: DnsServer) -> None:
    await ask(one)
    assert one.queries[0].rd
    assert one.queries[0].ad


@pytest.mark.parametrize("fault", ["id", "question", "source", "garbage", "query", "short"])
async def test_f2_what_is_not_the_reply_is_ignored(one: DnsServer, fault: str) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "faults": [fault] * 3, "delay": 0.05}}
    answer = await ask(one)
    assert set(answer.mx) == BOTH
    assert len(one.queries) == 1


@pytest.mark.parametrize("fault", ["id", "question", "source", "garbage", "query", "short"])
async def test_f2_what_is_not_the_reply_does_not_end_the_try(one: DnsServer, two: DnsServer, fault: str) -> None:
    one.zone[NAME] = {"MX": {"silent": True, "faults": [fault]}}
    answer = await ask(one, two, by=resolver(SHORT))
    assert answer.server == f"127.0.0.2:{two.port}"
    assert answer.elapsed >= SHORT


@pytest.mark.parametrize("fault", ["id", "question", "query"])
async def test_f2_nor_over_tcp(one: DnsServer, fault: str) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True, "faults": [fault]}}
    assert set((await ask(one)).mx) == BOTH


async def test_f2_a_flood_of_false_replies_neither_stops_the_loop_nor_the_clock() -> None:
    turns = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        asking = asyncio.create_task(ask(Server("127.0.0.1", sock.getsockname()[1]), by=resolver(0.5, 1)))
        _, client = await asyncio.get_running_loop().sock_recvfrom(sock, 512)
        while not asking.done():
            turns += 1
            for _ in range(50):
                sock.sendto(b"\0" * 64, client)
            await asyncio.sleep(0)
    assert failed(await asking, "no answer in time")
    assert turns > 10


async def test_f2_nor_does_one_over_tcp() -> None:
    false = struct.pack("!H", 12) + bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def flood() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                while True:
                    client.sendall(false * 4000)

        async with dns_server({NAME: {"MX": {"truncated": True}}}, port=listener.getsockname()[1], tcp=False) as one:
            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            assert failed(await ask(one, by=resolver(SHORT, 1)), "no answer in time")
        thread.join(timeout=20)
        assert not thread.is_alive()


# --- F2: servers, passes, time


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_f2_a_dead_port_is_known_at_once(one: DnsServer, address: str) -> None:
    start = asyncio.get_running_loop().time()
    dead = Server(address, dead_port().port)
    answer = await ask(dead, one)
    assert answer.outcome is Outcome.FOUND
    assert failed(await ask(dead), "connection refused")
    assert asyncio.get_running_loop().time() - start < LONG / 2


async def test_f2_as_many_passes_as_attempts(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = two.zone[NAME] = {"MX": {"silent": True}}
    answer = await ask(one, two, by=resolver(SHORT, 3))
    assert failed(answer, f"127.0.0.1:{one.port}: no answer in time; 127.0.0.2:{two.port}: no answer in time")
    assert (len(one.queries), len(two.queries)) == (3, 3)
    assert answer.elapsed >= 6 * SHORT


async def test_f2_at_most_three_servers(one: DnsServer) -> None:
    dead = [Server(f"127.0.1.{n}", dead_port().port) for n in (1, 2, 3)]
    assert (await ask(dead[0], dead[1], one)).outcome is Outcome.FOUND
    assert (await ask(dead[0], dead[0], dead[0], one)).outcome is Outcome.FOUND
    assert failed(await ask(*dead, one), "refused")


async def test_f2_an_error_is_not_asked_again(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"rcode": "SERVFAIL"}}
    two.zone[NAME] = {"MX": {"answer": SET, "drop": 1}}
    assert (await ask(one, two, by=resolver(SHORT, 3))).outcome is Outcome.FOUND
    assert (len(one.queries), len(two.queries)) == (1, 2)
    assert (await ask(one, two)).outcome is Outcome.FOUND
    assert len(one.queries) == 2  # another round


async def test_f2_all_errors_end_at_once(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"rcode": "SERVFAIL"}}
    two.zone[NAME] = {"MX": {"rcode": "REFUSED"}}
    answer = await ask(one, two, by=resolver(attempts=5))
    assert failed(answer, f"127.0.0.1:{one.port}: SERVFAIL; 127.0.0.2:{two.port}: REFUSED")
    assert answer.elapsed < LONG
    assert (len(one.queries), len(two.queries)) == (1, 1)


async def test_f2_the_slow_one_is_asked_last_until_it_answers(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    by = resolver(SHORT)
    assert (await ask(one, two, by=by)).elapsed >= SHORT
    one.queries.clear()
    for _ in range(3):
        assert (await ask(one, two, by=by)).server == f"127.0.0.2:{two.port}"
    assert not one.queries
    two.zone[NAME], one.zone[NAME] = {"MX": {"rcode": "SERVFAIL"}}, {"MX": SET}
    assert (await ask(one, two, by=by)).server == f"127.0.0.1:{one.port}"  # it answers
    two.queries.clear()
    assert (await ask(one, two, by=by)).server == f"127.0.0.1:{one.port}"
    assert not two.queries


async def test_f2_an_error_is_an_answer_of_a_slow_one(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    by = resolver(SHORT)
    await ask(one, two, by=by)
    one.zone[NAME] = two.zone[NAME] = {"MX": {"rcode": "SERVFAIL"}}
    await ask(one, two, by=by)
    one.zone[NAME] = two.zone[NAME] = {"MX": SET}
    assert (await ask(one, two, by=by)).server == f"127.0.0.1:{one.port}"


async def test_f2_the_slow_one_is_asked_last_in_the_same_round(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    two.zone[NAME] = {"MX": {"silent": True}}
    by = resolver(SHORT)
    asking = asyncio.create_task(ask(one, two, by=by))
    while not two.queries:  # `one` has let its try time out
        await asyncio.sleep(0.01)
    one.queries.clear()
    two.zone["other.example"] = one.zone["other.example"] = {"MX": SET}
    assert (await ask(one, two, name="other.example", by=by)).server == f"127.0.0.2:{two.port}"
    assert not one.asked("other.example")
    await asking


async def test_f2_forget_makes_them_equal(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    by = resolver(SHORT)
    await ask(one, two, by=by)
    by.forget()
    one.zone[NAME] = {"MX": SET}
    assert (await ask(one, two, by=by)).server == f"127.0.0.1:{one.port}"


async def test_f2_what_the_old_network_says_after_forget_is_void(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    by = resolver(SHORT)
    asking = asyncio.create_task(ask(one, two, by=by))
    while not one.queries:
        await asyncio.sleep(0.01)
    by.forget()
    assert (await asking).server == f"127.0.0.2:{two.port}"
    one.zone[NAME] = {"MX": SET}
    assert (await ask(one, two, by=by)).server == f"127.0.0.1:{one.port}"


async def test_f2_settings_may_change(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"silent": True}}
    by = resolver()
    by.configure(Settings(dns=Dns(timeout=SHORT, attempts=1)))
    assert failed(await ask(one, by=by), "no answer in time")
    assert len(one.queries) == 1


async def test_no_server_is_failed() -> None:
    assert failed(await ask(), "no server")


@pytest.mark.parametrize("address", ["", "ns.example", "192.0.2.1.5", "fe80::1", "fe80::1%\x1b[31m", "::1%%", "1\n2"])
async def test_a_server_that_is_no_address_costs_nothing_but_itself(one: DnsServer, address: str) -> None:
    assert (await ask(Server(address), one, by=resolver(1.0))).outcome is Outcome.FOUND
    assert failed(await ask(Server(address), by=resolver(SHORT, 1)), "")


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "a." * 200 + "example", "..", "\udcff.example"])
async def test_a_name_that_is_none_is_failed(one: DnsServer, name: str) -> None:
    assert failed(await ask(one, name=name), "not a domain name")
    assert not one.queries


# --- F2: TCP


async def test_f2_tcp_when_truncated(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True}}
    assert len((await ask(one)).mx) == 2
    assert [q.transport for q in one.queries] == ["udp", "tcp"]


async def test_f2_a_set_that_does_not_fit_comes_whole(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": [f"{n} relay{n}.example." for n in range(200)]}
    assert len((await ask(one)).mx) == 200


@pytest.mark.parametrize("tcp", ["close", "truncated"])
async def test_f2_truncated_without_working_tcp_is_failed_after_the_others(
    one: DnsServer, two: DnsServer, tcp: str
) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True, "tcp": tcp}}
    answer = await ask(one)
    assert failed(answer, "truncated" if tcp == "truncated" else "closed")
    assert (await ask(one, two)).server == f"127.0.0.2:{two.port}"


async def test_f2_truncated_with_no_tcp_at_all(two: DnsServer) -> None:
    async with dns_server({NAME: {"MX": {"answer": SET, "truncated": True}}}, tcp=False) as one:
        assert failed(await ask(one), "refused")
        assert (await ask(one, two)).server == f"127.0.0.2:{two.port}"


@pytest.mark.parametrize("tcp", ["silent", "drip"])
async def test_f2_tcp_has_the_time_of_the_same_try(one: DnsServer, two: DnsServer, tcp: str) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True, "tcp": tcp}}
    answer = await ask(one, two, by=resolver(SHORT))
    assert answer.server == f"127.0.0.2:{two.port}"
    assert failed(await ask(one, by=resolver(SHORT, 2)), "no answer in time")


# --- damaged and hostile replies


def test_any_cut_of_a_reply_is_failed_and_never_none() -> None:
    asked = query()
    reply = message(asked.wire, f"{NAME}. 300 MX 10 noc.example.", f"{NAME}. 300 MX 20 vertex.example.")
    for end in range(len(asked.wire), len(reply)):
        with pytest.raises(ServerFailed, match="malformed"):
            read(reply[:end], asked)
    assert read(reply, asked).outcome is Outcome.FOUND


def test_any_flipped_byte_is_read_or_failed() -> None:
    asked = query()
    soa = "154.165.in-addr.arpa. 900 SOA ns.example. root.example. 1 2 3 4 120"
    answers = (f"{NAME}. 300 CNAME a.example.", "a.example. 300 MX 10 noc.example.")
    for reply in (message(asked.wire, *answers), message(asked.wire, answers[0], authority=(soa,))):
        for at, value in itertools.product(range(2, len(reply)), (0, 1, 0x3F, 0x40, 0x80, 0xC0, 0xFF)):
            damaged = reply[:at] + bytes((value,)) + reply[at + 1 :]
            try:
                got = read_message(damaged, asked)
            except ServerFailed as error:
                assert str(error).isprintable()
            else:
                records = got.records if isinstance(got, Reply) else ()
                assert all(isinstance(mx, Mx) and mx.exchange.isprintable() for mx in records)


async def test_a_malformed_reply_is_a_server_error(one: DnsServer, two: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"raw": lambda wire: message(wire, f"{NAME}. 300 MX 10 noc.example.")[:-3]}}
    assert failed(await ask(one), "malformed")
    assert (await ask(one, two)).server == f"127.0.0.2:{two.port}"


def test_names_of_odd_bytes_are_printed_escaped() -> None:
    asked = query()
    owner = b"\xc0\x0c"
    for label in (b"\0", b'"', b"\xff\xfe", b"a.b", b"\n\x1b[31m", b"\\", bytes(range(63))):
        data = struct.pack("!HB", 7, len(label)) + label + b"\x07example\0"
        head = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
        record = owner + struct.pack("!HHIH", 15, 1, 300, len(data)) + data
        (mx,) = read(head + asked.wire[12:] + record, asked).records
        assert isinstance(mx, Mx)
        assert mx.exchange.isascii()
        assert mx.exchange.isprintable()
        assert mx.exchange.endswith(".example.")


def full(asked: Query, head: bytes, record: bytes) -> bytes:
    """A reply of 64 KiB of the same record."""
    room = 65535 - len(asked.wire) - len(head)
    count = room // len(record)
    header = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, count + (1 if head else 0), 0, 0)
    return header + asked.wire[12:] + head + record * count


def records(asked: Query) -> dict[str, bytes]:
    """The dearest replies one can think of."""
    at = len(asked.wire) + 10 + 2  # of the name that the first record's data holds
    deep = b"".join(b"\x01" + bytes((97 + n % 26,)) for n in range(126)) + b"\0"
    head = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 300, len(deep)) + deep
    pointer = struct.pack("!H", 0xC000 | at)
    chain = b"".join(struct.pack("!H", 0xC000 | max(12, at + 2 * n - 2)) for n in range(8000))
    last = struct.pack("!H", 0xC000 | (at + 2 * 7000))
    return {
        "honest": full(asked, b"", b"\xc0\x0c" + struct.pack("!HHIHH", 15, 1, 300, 4, 7) + b"\xc0\x0c"),
        "deep names": full(asked, head, pointer + struct.pack("!HHIHH", 15, 1, 300, 4, 7) + pointer),
        "long chains": full(
            asked, b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 300, len(chain)) + chain, last + b"\0" * 10
        ),
        "unknown types": full(asked, b"", b"\xc0\x0c" + struct.pack("!HHIH", 4711, 1, 300, 0)),
    }


@pytest.mark.parametrize("kind", list(records(query())))
def test_c5_a_reply_of_64_kib_does_not_hold_the_loop(kind: str) -> None:
    asked = query()
    start = time.process_time()
    try:
        got = read(records(asked)[kind], asked)
    except ServerFailed:
        assert kind != "honest"
    else:
        assert got.outcome is (Outcome.FOUND if kind == "honest" else Outcome.NONE)
    assert time.process_time() - start < 0.15


async def test_c5_the_best_of_thousands_of_exchanges_counts_wherever_it_stands(one: DnsServer) -> None:
    lines = tuple(f"{NAME}. 300 MX {n} r{n}.example." for n in range(2500, 0, -1))
    one.zone[NAME] = {"MX": {"raw": lambda wire: message(wire, *lines), "truncated": True}}
    answer = await ask(one)
    assert sorted(answer.mx) == [Mx(n, f"r{n}.example.") for n in range(1, MAX_DECODED + 1)]


def test_b6_what_stands_behind_thousands_of_other_records_counts() -> None:
    asked = query()
    others = tuple(f"x.example. 300 MX {n} r{n}.example." for n in range(1000))
    got = read(message(asked.wire, *others, f"{NAME}. 300 MX 10 noc.example."), asked)
    assert got.records == (Mx(10, "noc.example."),)


# --- F3


@pytest.mark.parametrize(
    ("trusted", "counts"),
    [
        (("127.0.0.1",), True),
        (("127.0.0.1:PORT",), True),
        (("127.0.0.1:1",), False),
        (("127.0.0.2",), False),
        ((), False),
    ],
)
async def test_f3_ad_counts_from_a_trusted_server(one: DnsServer, trusted: tuple[str, ...], counts: bool) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "ad": True}}
    by = resolver(trust_ad=tuple(text.replace("PORT", str(one.port)) for text in trusted))
    assert (await ask(one, by=by)).authenticated is counts


async def test_f3_an_ipv6_server_in_brackets() -> None:
    async with dns_server({NAME: {"MX": {"answer": SET, "ad": True}}}, address="::1") as six:
        assert (await ask(six, by=resolver(trust_ad=(f"[::1]:{six.port}",)))).authenticated
        assert (await ask(six, by=resolver(trust_ad=("::1",)))).authenticated
        assert not (await ask(six, by=resolver(trust_ad=("[::1]:1",)))).authenticated
        assert (await ask(six)).server == f"[::1]:{six.port}"


async def test_f3_options_trust_ad_counts_for_a_loopback_resolver_alone(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "ad": True}}
    assert (await ask(Server("127.0.0.1", one.port, trust_ad=True))).authenticated
    with Netns() as space, space.inside():
        space.ip("addr", "add", "192.0.2.53/24", "dev", "lo")
        async with dns_server(one.zone, address="192.0.2.53") as far:
            assert not (await ask(Server("192.0.2.53", far.port, trust_ad=True))).authenticated


async def test_f3_without_the_bit_nothing_is_authenticated(one: DnsServer) -> None:
    assert not (await ask(one, by=resolver(trust_ad=("127.0.0.1",)))).authenticated


async def test_f3_every_step_of_a_chain_must_have_it(one: DnsServer) -> None:
    by = resolver(trust_ad=("127.0.0.1",))
    for first, second in itertools.product((True, False), repeat=2):
        one.zone["a.example"] = {"CNAME": {"answer": ["b.example."], "chase": False, "ad": first}}
        one.zone["b.example"] = {"MX": {"answer": SET, "ad": second}}
        assert (await ask(one, name="a.example", by=by)).authenticated is (first and second)


# --- C8: the hosts file


async def test_c8_the_hosts_file_comes_first(one: DnsServer, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(
        b"127.0.0.1 localhost\n\xff\xfe broken\nnonsense smtp.clear.net.nz\n"
        b"192.0.2.25\tSMTP.clear.net.nz smtp # 192.0.2.66 other\n2001:db8::25 smtp\n192.0.2.26 smtp\n\n"
        b"#192.0.2.9 smtp\n"
    )
    by = resolver(hosts_file=file)

    async def look(name: str, rtype: RRType = RRType.A, hosts: bool = True) -> Answer:
        return await by.ask(Question(name, rtype, (one.server,), hosts=hosts))

    answer = await look("smtp")
    assert answer.outcome is Outcome.FOUND
    assert answer.addresses == (ip_address("192.0.2.25"), ip_address("192.0.2.26"))
    assert answer.ttl is not None
    assert answer.ttl <= 60
    assert (await look("smtp.clear.net.nz")).addresses == (ip_address("192.0.2.25"),)
    assert (await look("smtp", RRType.AAAA)).addresses == (ip_address("2001:db8::25"),)
    assert (await look("localhost", RRType.AAAA)).outcome is Outcome.NONE  # the file has the name: that is all of it
    assert not one.queries
    assert (await look("other")).outcome is Outcome.NONE
    assert (await look("smtp", hosts=False)).outcome is Outcome.NONE
    assert [q.name for q in one.queries] == ["other", "smtp"]
    file.write_text("192.0.2.99 smtp\n")
    assert (await look("smtp")).addresses == (ip_address("192.0.2.99"),)
    file.unlink()
    assert (await look("smtp")).rcode == "NXDOMAIN"


@pytest.mark.parametrize("where", ["_over_tcp", "_endpoint_of"])
async def test_a_defect_in_a_try_is_a_failed_answer(
    one: DnsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("a defect")

    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True}}
    monkeypatch.setattr(transport, where, stumble)
    async with asyncio.timeout(LONG):
        assert failed(await ask(one), "internal error")
    assert "the resolver failed" in caplog.text


# --- F1, F2: links and routes


@asynccontextmanager
async def two_links() -> AsyncIterator[Netns]:
    """A host with the links `up1` and `up2`. Behind both the server has the same addresses, and gives its number."""
    async with AsyncExitStack() as stack:
        host = stack.enter_context(Netns())
        for number in (1, 2):
            far = stack.enter_context(Netns())
            veth(host, f"up{number}", far, "down0")
            host.ip("addr", "add", f"192.168.1.{50 + number}/24", "dev", f"up{number}")
            host.ip("addr", "add", f"fd00::{50 + number}/64", "dev", f"up{number}", "nodad")
            far.batch(["addr add 192.168.1.1/24 dev down0", "addr add fd00::1/64 dev down0 nodad"])
            far.batch(["addr add fe80::53/64 dev down0 nodad"])
            record = [f"{number} relay.example."]
            server = DnsServer({NAME: {"MX": record}, "tcp.example": {"MX": {"answer": record, "truncated": True}}})
            stack.push_async_callback(server.close)
            with far.inside():
                for address in ("192.168.1.1", "fd00::1", "fe80::53%down0"):
                    await server.listen(address, 53)
        yield host


@contextmanager
def nobody() -> Iterator[None]:
    """Without privileges."""
    require(Need.USERS)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [NAME, "tcp.example"])
@pytest.mark.parametrize("address", ["192.168.1.1", "fd00::1", "fe80::53"])
async def test_f1_two_links_may_have_the_same_server_address(address: str, name: str) -> None:
    async with two_links() as host:
        with host.inside(), nobody():
            for number in (1, 2, 1):
                answer = await ask(Server(address, ifindex=socket.if_nametoindex(f"up{number}")), name=name)
                assert answer.mx == (Mx(number, "relay.example."),)


async def test_f1_a_scope_names_the_link() -> None:
    async with two_links() as host:
        with host.inside(), nobody():
            for number in (1, 2, 1):
                for zone in (f"up{number}", str(socket.if_nametoindex(f"up{number}"))):
                    answer = await ask(Server(f"fe80::53%{zone}"))
                    assert answer.mx == (Mx(number, "relay.example."),)
                    assert answer.server == f"fe80::53%{zone}"


@pytest.mark.parametrize(
    "server",
    [Server("fe80::1%4294967297"), Server(f"fe80::1%{10**30}"), Server(f"fe80::1%{'9' * 5000}"),
     Server("192.0.2.1", ifindex=2**32 + 1), Server("fe80::1", ifindex=-1)],
)  # fmt: skip
async def test_f1_an_index_that_no_link_can_have_is_one_that_is_not_there(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(server, by=resolver(timeout=0.1))
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, f"{server_text(server)}: no such device")
    assert not caplog.records


@pytest.mark.parametrize("address", ["192.168.1.1", "fd00::1"])
async def test_f1_a_kernel_that_lets_nobody_bind_still_asks_through_the_link(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(link_socket, "SO_BINDTOIFINDEX", 33)  # SO_RCVBUFFORCE, which takes CAP_NET_ADMIN
    async with two_links() as host:
        with host.inside(), nobody():
            for number in (1, 2, 1):
                answer = await ask(Server(address, ifindex=socket.if_nametoindex(f"up{number}")))
                assert answer.mx == (Mx(number, "relay.example."),)


async def test_f1_a_loopback_server_of_a_link_is_reached(one: DnsServer) -> None:
    with Netns() as host, Netns() as far, host.inside():
        veth(host, "up0", far, "down0")
        async with dns_server(one.zone) as local:
            link = socket.if_nametoindex("up0")
            assert (await ask(Server("127.0.0.1", local.port, ifindex=link))).outcome is Outcome.FOUND


@pytest.mark.parametrize("kind", ["route", "link", "index"])
async def test_f2_a_route_is_waited_for_within_the_try(kind: str) -> None:
    with Netns() as host, Netns() as far:
        veth(far, "down0", host, "early")
        far.batch(["addr add 192.0.2.53/24 dev down0", "addr add fe80::53/64 dev down0 nodad"])
        host.ip("link", "set", "early", "down")
        server = DnsServer({NAME: {"MX": SET}})
        with far.inside():
            for address in ("192.0.2.53", "fe80::53%down0"):
                await server.listen(address, 53)
        try:
            with host.inside():
                index = host.index("early")
                where = {
                    "route": Server("192.0.2.53"),
                    "link": Server("fe80::53%up0"),
                    "index": Server("192.0.2.53", ifindex=index),
                }
                asking = asyncio.create_task(ask(where[kind], by=resolver(attempts=1)))
                await asyncio.sleep(0.2)
                assert not asking.done()
                host.batch(["link set early name up0", "link set up0 up", "addr add 192.0.2.5/24 dev up0"])
                answer = await asking
            assert answer.outcome is Outcome.FOUND
            assert 0.2 <= answer.elapsed < LONG
        finally:
            await server.close()


async def test_f2_a_route_that_never_comes_costs_the_try(one: DnsServer) -> None:
    with Netns() as host, host.inside():
        answer = await ask(Server("192.0.2.53"), by=resolver(SHORT, 2))
        assert failed(answer, "network is unreachable")
        assert answer.elapsed >= 2 * SHORT
        answer = await ask(Server("2001:db8::53"), by=resolver(SHORT, 1))
        assert failed(answer, "unreachable")


# --- F2: routes and families


@pytest.fixture
async def roaming() -> AsyncIterator[Netns]:
    """A host with an IPv4 address and no IPv6 beyond the loopback; 192.0.2.53 answers."""
    with Netns() as host, Netns() as far:
        veth(host, "up0", far, "down0")
        host.batch(["addr add 192.0.2.5/24 dev up0", "addr flush dev up0 scope link"])
        far.batch(["addr add 192.0.2.53/24 dev down0"])
        server = DnsServer({NAME: {"MX": SET}})
        with far.inside():
            await server.listen("192.0.2.53", 53)
        try:
            yield host
        finally:
            await server.close()


V6 = (Server("2001:db8::53"), Server("2001:db8::54"))
V4 = Server("192.0.2.53")


async def test_f2_without_a_route_the_next_server_is_asked_meanwhile(roaming: Netns) -> None:
    with roaming.inside():
        answer = await ask(*V6, V4)
    assert (answer.outcome, answer.server) == (Outcome.FOUND, "192.0.2.53")
    assert answer.elapsed < LONG / 4


async def test_f2_a_family_that_the_host_lacks_is_not_waited_for(roaming: Netns) -> None:
    by = resolver()
    by.families = frozenset((4,))
    with roaming.inside():
        answer = await ask(*V6, by=by)
        assert failed(answer, "2001:db8::53: network is unreachable; 2001:db8::54: network is unreachable")
        assert answer.elapsed < LONG / 4
        assert by.clone().families == by.families


async def test_f2_an_unreachable_route_is_not_waited_for(roaming: Netns) -> None:
    roaming.ip("route", "add", "unreachable", "198.51.100.0/24")
    with roaming.inside():
        answer = await ask(Server("198.51.100.53"))
        assert failed(answer, "no route to host")
        assert answer.elapsed < LONG / 4


async def test_f2_a_server_whose_route_comes_is_asked_beside_one_that_is_silent(roaming: Netns) -> None:
    """And its answer ends the question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, roaming.inside():
        roaming.ip("link", "set", "up0", "down")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            asking = asyncio.create_task(ask(V4, Server(*silent.getsockname())))
            while not select.select([silent], [], [], 0)[0]:
                await asyncio.sleep(0.01)
            roaming.ip("link", "set", "up0", "up")
            answer = await asking
    assert (answer.outcome, answer.server) == (Outcome.FOUND, "192.0.2.53")
    assert answer.elapsed < LONG


# --- options use-vc, B4, SRV, 0x20


async def test_f2_use_vc_asks_over_tcp_at_once(one: DnsServer) -> None:
    assert (await ask(one.server._replace(tcp=True))).outcome is Outcome.FOUND
    assert [q.transport for q in one.queries] == ["tcp"]


@pytest.mark.parametrize(
    "beside", [{"authority": ["154.165.in-addr.arpa. 300 IN NS ns.example."]}, {"authority": []}, {"soa": [900, 120]}]
)
async def test_b4_nxdomain_is_none_whatever_stands_beside_it(one: DnsServer, beside: dict[str, Any]) -> None:
    one.zone[NAME] = {"MX": {"rcode": "NXDOMAIN", "soa": None, **beside}}
    answer = await ask(one)
    assert (answer.outcome, answer.rcode, answer.ttl) == (Outcome.NONE, "NXDOMAIN", 120 if "soa" in beside else None)


def test_b4_nxdomain_is_none_with_records_and_behind_an_alias() -> None:
    asked = query()
    with_records = message(asked.wire, f"{NAME}. 300 MX 10 noc.example.", rcode=3)
    assert read(with_records, asked).outcome is Outcome.NONE
    ns = "example. 300 NS ns.example."
    behind_an_alias = message(asked.wire, f"{NAME}. 300 CNAME 15.0/25.example.", authority=(ns,), rcode=3)
    assert read(behind_an_alias, asked).outcome is Outcome.NONE


async def test_c12_srv_records_are_told(one: DnsServer) -> None:
    one.zone["_submissions._tcp.example.net"] = {"SRV": ["0 5 465 mail.example.net.", "10 0 465 b.example.net."]}
    answer = await ask(one, name="_submissions._tcp.example.net", rtype=RRType.SRV)
    assert (answer.outcome, answer.ttl) == (Outcome.FOUND, 300)
    assert set(answer.srv) == {Srv(0, 5, 465, "mail.example.net."), Srv(10, 0, 465, "b.example.net.")}
    one.zone["_submission._tcp.example.net"] = {"SRV": ["0 0 0 ."]}
    assert (await ask(one, name="_submission._tcp.example.net", rtype=RRType.SRV)).srv == (Srv(0, 0, 0, "."),)
    assert (await ask(one, name="_none._tcp.example.net", rtype=RRType.SRV)).outcome is Outcome.NONE


async def test_txt_records_are_told_as_printable_text(one: DnsServer) -> None:
    one.zone["_dmarc.example.net"] = {"TXT": ['"v=DMARC1; " "p=reject"', '"\\027[31m"']}
    assert set((await ask(one, name="_dmarc.example.net", rtype=RRType.TXT)).txt) == {"v=DMARC1; p=reject", "?[31m"}


def test_c12_a_compressed_target_is_read() -> None:
    """As RFC 3597 section 4 asks for."""
    asked = query("_submissions._tcp.example.net", RRType.SRV)
    head = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + asked.wire[12:]
    at = asked.wire.index(b"\x07example")
    data = struct.pack("!3H", 1, 2, 465) + b"\x01A" + struct.pack("!H", 0xC000 | at)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 33, 1, 300, len(data)) + data
    assert read(head + record, asked).records == (Srv(1, 2, 465, "a.example.net."),)


async def test_0x20_a_server_that_does_not_keep_the_case_is_believed(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "lower": True}}
    by = resolver()
    answer = await ask(one, by=by)
    assert set(answer.mx) == BOTH
    assert answer.elapsed < LONG / 4
    assert len({(q.id, q.port) for q in one.queries}) == 2
    one.queries.clear()
    await ask(one, by=by)
    assert len(one.queries) == 1  # known by now
    by.forget()
    await ask(one, by=by)
    assert len(one.queries) == 3


async def test_0x20_an_exchange_is_in_lower_case_whatever_case_was_asked(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": ["10 noc.IN-ADDR.arpa."]}
    answers = {(await ask(one)).mx for _ in range(5)}
    assert answers == {(Mx(10, "noc.in-addr.arpa."),)}


def large(asked: Query, kind: str) -> bytes:
    """64 KiB of exchanges that differ, the best of which are read."""
    at = len(asked.wire) + 10 + 2
    labels = MAX_LABELS // MAX_DECODED - NAME_COST - 4 if kind == "deep" else 0
    deep = b"".join(b"\x01" + bytes((97 + n % 26,)) for n in range(labels)) + b"\0"
    head = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 300, len(deep)) + deep
    suffix = struct.pack("!H", 0xC000 | at) if kind == "deep" else b"\xc0\x0c"
    label = b"\xff%04x" if kind == "escaped" else b"r%04x"
    records = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIHH", 15, 1, 300, 10, 7) + b"\x05" + label % n + suffix for n in range(2800)
    )
    header = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, 2801, 0, 0)
    return header + asked.wire[12:] + head + records


@pytest.mark.parametrize("kind", ["honest", "deep", "escaped"])
def test_c5_the_dearest_reply_that_is_still_read_does_not_hold_the_loop(kind: str) -> None:
    """Nor does the choice of its best, which is made where it comes in."""
    asked = query()
    reply = large(asked, kind)
    start = time.process_time()
    got = read(reply, asked)
    bounded(Answer(Outcome.FOUND, mx=tuple(one for one in got.records if isinstance(one, Mx))), b"machine")
    assert time.process_time() - start < 0.15
    assert len(got.records) == MAX_DECODED


def test_c5_owners_that_differ_do_not_hold_the_loop() -> None:
    """Each has to be read to know whose record it is."""
    asked = query()
    rest = b"\xc0\x0c" + struct.pack("!HHIHH", 15, 1, 300, 5, 7) + b"\1b\0"
    records = b"".join(b"\x01" + bytes((97 + n % 26,)) + rest for n in range(3000))
    header = asked.wire[:2] + struct.pack("!5H", 0x8180, 1, 3000, 0, 0)
    start = time.process_time()
    with pytest.raises(ServerFailed, match="too many names"):
        read(header + asked.wire[12:] + records, asked)
    assert time.process_time() - start < 0.15


def test_c5_equal_addresses_leave_room_for_others() -> None:
    asked = query(rtype=RRType.A)
    same = tuple(f"{NAME}. 300 A 192.0.2.1" for _ in range(1))
    octets = message(asked.wire, *same)
    record = octets[len(asked.wire) :]
    other = record[:-1] + b"\x02"
    header = octets[:6] + struct.pack("!3H", 3001, 0, 0)
    got = read(header + octets[12 : len(asked.wire)] + record * 3000 + other, asked)
    assert got.records == (ip_address("192.0.2.1"), ip_address("192.0.2.2"))


# --- nothing is left behind


async def test_cancellation_at_any_moment_leaves_nothing(one: DnsServer) -> None:
    one.zone[NAME] = {"MX": {"answer": SET, "truncated": True, "delay": 0.005}}
    one.zone["silent.example"] = {"MX": {"silent": True}}
    by = resolver()
    await ask(one, by=by)
    before = await settled()
    tasks = len(asyncio.all_tasks())
    for turns in range(60):
        asking = [asyncio.create_task(ask(one, name=name, by=by)) for name in (NAME, "silent.example")]
        for _ in range(turns):
            await asyncio.sleep(0 if turns < 30 else 0.0005)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert asking[1].cancelled()
    assert await settled(at_most=before) <= before
    assert len(asyncio.all_tasks()) <= tasks + 1  # the server may be closing a connection


async def test_no_descriptor_is_left_however_a_try_ends(one: DnsServer) -> None:
    one.zone["silent.example"] = {"MX": {"silent": True}}
    one.zone["closes.example"] = {"MX": {"answer": SET, "truncated": True, "tcp": "close"}}
    one.zone["drips.example"] = {"MX": {"answer": SET, "truncated": True, "tcp": "drip"}}
    by = resolver(0.1, 2)
    names = [NAME, "silent.example", "closes.example", "drips.example"]
    await ask(one, by=by)  # the loop's one descriptor for all of them is there
    before = await settled()
    await asyncio.gather(*(ask(one, dead_port(), Server("fe80::1%no"), name=name, by=by) for name in names * 5))
    assert await settled(at_most=before) <= before


async def settled(at_most: int | None = None) -> int:
    """How many descriptors are open, once the server has seen the end of its connections."""
    end = time.monotonic() + 20
    gc.collect()
    last = -1
    while time.monotonic() < end and (descriptors() != last if at_most is None else descriptors() > at_most):
        last = descriptors()
        await asyncio.sleep(0.05)
    return descriptors()


async def test_64_at_once(one: DnsServer) -> None:
    one.zone[""] = {"MX": {"answer": SET, "delay": 0.2}}
    by = resolver()
    start = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(ask(one, name=f"{n}.example", by=by) for n in range(64)))
    assert all(answer.outcome is Outcome.FOUND for answer in answers)
    assert asyncio.get_running_loop().time() - start < 64 * 0.2 / 2


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (Server("192.0.2.1"), "192.0.2.1"),
        (Server("192.0.2.1", 5353), "192.0.2.1:5353"),
        (Server("2001:db8::1", 5353), "[2001:db8::1]:5353"),
        (Server("fe80::1%eth0", ifindex=2), "fe80::1%eth0"),
        (Server("fe80::1%\x1b"), "fe80::1%\\x1b"),
    ],
)
def test_server_text(server: Server, text: str) -> None:
    assert server_text(server) == text


# --- the scriptable server as a process of its own, as the tests of the whole program use it


async def test_the_lab_server_as_a_process(tmp_path: Path) -> None:
    zone, log = tmp_path / "zone.json", tmp_path / "log"
    zone.write_text(json.dumps({NAME: {"MX": SET}}))
    with Netns() as space:
        argv = [sys.executable, "-m", "tests.lab.dnsserver", "--listen", "127.0.0.1", "--listen", "::1"]
        process = space.exec([*argv, "--log", str(log), str(zone)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with space.inside():
            assert len((await ask(Server("127.0.0.1"))).mx) == 2
            zone.write_text(json.dumps({NAME: {"MX": ["7 new.example."]}}))
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == "reloaded\n"
            assert (await ask(Server("::1"))).mx == (Mx(7, "new.example."),)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(line["name"], line["type"], line["address"]) for line in lines] == [
            (NAME, "MX", "127.0.0.1"),
            (NAME, "MX", "::1"),
        ]
        assert all(line["id"] >= 0 and line["port"] > 0 and line["transport"] == "udp" for line in lines)
        process.terminate()
        assert process.wait(timeout=20) == 0


# --- how often a server is sent something (E2)


async def test_e2_what_a_question_becomes_is_counted_where_it_goes_out(
    one: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aliases whose targets have to be asked for, each over UDP and then over TCP."""
    monkeypatch.setattr(query_budgets, "OF_SERVER", 3)
    monkeypatch.setattr(query_budgets, "OF_SERVER_PER_SECOND", 0.001)  # none comes while the test runs, however slowly
    for n in range(8):
        one.zone[f"a{n}.example"] = {"CNAME": {"answer": [f"a{n + 1}.example."], "truncated": True, "chase": False}}
    by = resolver(budgets=QueryBudgets())
    for _ in range(3):
        assert failed(await ask(one, name="a0.example", by=by), "asked too often")
    assert {query.transport for query in one.queries} == {"udp", "tcp"}
    assert len(one.queries) == 3 * query_budgets.QUERIES
    assert failed(await ask(one, by=by.clone()), "asked too often")
