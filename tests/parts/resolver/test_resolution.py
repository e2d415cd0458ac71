"""Which server is asked next, and what is made of a reply: the policy alone, without a socket (rules F1, F2)."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
import pytest

from salsa_agent.core.model import Outcome, RRType, Server
from salsa_agent.core.settings import Dns
from salsa_agent.resolver.message import Alias, Reply, ServerFailed, query_name
from salsa_agent.resolver.resolution import Attempt, Resolution
from salsa_agent.resolver.server_memory import ServerMemory

NAME = "15.154.165.in-addr.arpa"
ONE, TWO, THREE, FOUR = (Server(f"192.0.2.{n}") for n in (1, 2, 3, 4))
BEHIND = Server("198.51.100.1", fallback=True)
NO_WAY = ServerFailed("connection refused", replied=False)


def resolution(
    *servers: Server, memory: ServerMemory | None = None, attempts: int = 2, mixed: bool = True
) -> Resolution:
    settings = Dns(attempts=attempts, case_randomization=mixed)
    return Resolution(query_name(NAME), RRType.MX, servers, settings, memory or ServerMemory())


def begun(it: Resolution) -> Attempt:
    attempt = it.next_attempt()
    assert attempt is not None
    return attempt


def reply_to(attempt: Attempt, *, rcode: int = 0, lower: bool = False) -> bytes:
    """A reply with one MX record, or an error; `lower`: from a server that does not keep the case."""
    query = attempt.query.wire
    message = dns.message.make_response(dns.message.from_wire(query))
    message.set_rcode(dns.rcode.Rcode(rcode))
    if not rcode:
        message.answer.append(dns.rrset.from_text(f"{NAME}.", 300, "IN", "MX", "10 noc.example."))
    wire = message.to_wire()
    return wire[:12] + wire[12 : len(query)].lower() + wire[len(query) :] if lower else wire


def asked(it: Resolution, count: int = 20) -> list[Server]:
    """The servers that are asked when none replies in time."""
    order: list[Server] = []
    while len(order) < count and (attempt := it.next_attempt()):
        order.append(attempt.server)
        it.timed_out(attempt, "no answer in time")
    return order


def test_f2_passes_over_at_most_three_servers() -> None:
    assert asked(resolution(ONE, TWO, THREE, FOUR)) == [ONE, TWO, THREE] * 2


def test_f2_no_attempt_is_begun_in_the_next_pass_before_this_one_is_over() -> None:
    it = resolution(ONE)
    attempt = begun(it)
    assert it.next_attempt() is None
    it.timed_out(attempt, "network is unreachable", sent=False)
    assert begun(it).server == ONE


def test_f2_a_server_that_waits_for_a_route_is_not_slow() -> None:
    memory = ServerMemory()
    it = resolution(ONE, TWO, memory=memory)
    it.timed_out(begun(it), "network is unreachable", sent=False)
    assert memory.slowness(ONE) == 0
    assert str(it.failure()) == "192.0.2.1: network is unreachable"


def test_f2_an_error_is_not_asked_again() -> None:
    it = resolution(ONE, TWO)
    first = begun(it)
    assert it.replied(first, reply_to(first, rcode=2)) is None
    assert asked(it) == [TWO, TWO]
    failure = it.failure()
    assert (failure.rcode, failure.server) == ("SERVFAIL", "192.0.2.1")


def test_f1_a_fallback_server_is_asked_where_the_others_gave_no_answer_at_all() -> None:
    assert asked(resolution(ONE, BEHIND)) == [ONE, BEHIND] * 2
    it = resolution(ONE, BEHIND)
    it.failed(begun(it), NO_WAY)
    assert begun(it).server == BEHIND


def test_f1_a_packet_that_a_link_lost_does_not_put_the_global_servers_first() -> None:
    memory = ServerMemory()
    memory.timed_out(ONE)
    assert asked(resolution(ONE, TWO, BEHIND, memory=memory), 3) == [TWO, ONE, BEHIND]


@pytest.mark.parametrize("rcode", [2, 5])
def test_f1_an_error_is_an_answer_and_no_fallback_is_asked(rcode: int) -> None:
    it = resolution(ONE, TWO, BEHIND)
    it.timed_out(begun(it), "no answer in time")
    second = begun(it)
    assert second.server == TWO
    it.replied(second, reply_to(second, rcode=rcode))
    assert asked(it) == [ONE]


def test_f1_no_fallback_is_asked_while_a_server_of_the_link_waits_for_its_route() -> None:
    it = resolution(ONE, BEHIND)
    attempt = begun(it)
    assert it.next_attempt() is None
    it.timed_out(attempt, "network is unreachable", sent=False)
    assert begun(it).server == BEHIND


def test_f1_a_link_with_three_servers_has_fallback_servers_too() -> None:
    assert asked(resolution(ONE, TWO, THREE, FOUR, BEHIND), 4) == [ONE, TWO, THREE, BEHIND]


# --- 0x20


def test_0x20_the_name_is_sent_in_mixed_case_and_the_case_differs() -> None:
    sent = {begun(resolution(ONE)).query.wire[12:-4] for _ in range(40)}
    assert len(sent) > 20
    assert {name.lower() for name in sent} == {query_name(NAME).to_digestable()}
    assert query_name(NAME).to_digestable() not in sent


def test_0x20_can_be_switched_off() -> None:
    attempt = begun(resolution(ONE, mixed=False))
    assert attempt.query.wire[12:-4] == query_name(NAME).to_digestable()
    assert not attempt.query.mixed_case


def test_0x20_a_reply_in_another_case_is_not_believed_but_asked_again_at_once_in_lower_case() -> None:
    it, memory = resolution(ONE, TWO, memory=(memory := ServerMemory())), memory
    first = begun(it)
    assert it.replied(first, reply_to(first, lower=True)) is None
    second = begun(it)
    assert second.server == ONE
    assert not second.query.mixed_case
    assert memory.keeps_case(ONE) is None  # the reply that says so may be forged
    reply = it.replied(second, reply_to(second))
    assert isinstance(reply, Reply)
    assert reply.outcome is Outcome.FOUND
    assert memory.keeps_case(ONE) is False
    assert not begun(resolution(ONE, memory=memory)).query.mixed_case


def test_0x20_a_server_that_has_kept_the_case_is_never_taken_for_one_that_does_not() -> None:
    memory = ServerMemory()
    it = resolution(ONE, memory=memory)
    kept = begun(it)
    assert it.replied(kept, reply_to(kept))
    it = resolution(ONE, memory=memory)
    forged = begun(it)
    it.replied(forged, reply_to(forged, lower=True))
    plain = begun(it)
    assert it.replied(plain, reply_to(plain))
    assert begun(resolution(ONE, memory=memory)).query.mixed_case


def test_0x20_a_server_that_drops_mixed_case_gets_its_next_try_in_lower_case() -> None:
    it = resolution(ONE)
    it.timed_out(begun(it), "no answer in time")
    assert not begun(it).query.mixed_case


def test_0x20_is_not_used_over_tcp_alone() -> None:
    assert not begun(resolution(ONE._replace(tcp=True))).query.mixed_case


def test_0x20_an_error_without_the_question_has_no_case() -> None:
    it = resolution(ONE)
    attempt = begun(it)
    bare = attempt.query.wire[:2] + bytes((0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0))
    assert it.replied(attempt, bare) is None
    assert it.failure().rcode == "REFUSED"


def test_b6_an_alias_is_told_with_its_target() -> None:
    it = resolution(ONE)
    attempt = begun(it)
    message = dns.message.make_response(dns.message.from_wire(attempt.query.wire))
    message.answer.append(dns.rrset.from_text(f"{NAME}.", 70, "IN", "CNAME", "15.0/25.example."))
    reply = it.replied(attempt, message.to_wire())
    assert isinstance(reply, Alias)
    assert (reply.target, reply.ttl) == ("15.0/25.example.", 70)
