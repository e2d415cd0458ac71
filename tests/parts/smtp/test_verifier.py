"""Rules D1 and D7: the verdict on a relay, against servers that behave well and badly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.core.events import Check, Checked, ConversationsEnded, Event
from salsa_agent.core.model import CheckResult, RelayKey, Verdict
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.resolver.resolver import Resolver
from salsa_agent.smtp import conversation, happy_eyeballs, tls
from salsa_agent.smtp.connect import Connector, NoRouteError
from salsa_agent.smtp.stream import READ
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.wiring.tasks import Work
from tests.lab.ca import Ca, Certificate
from tests.lab.netns import Netns, veth
from tests.lab.smtpserver import STARTTLS, Answer, SmtpServer, Talk, close, many, silence, slowly

PATIENCE = 25.0
HOST = "relay.example"
OK = CheckResult(Verdict.OK, starttls=False, tls="none")
OFFERED = CheckResult(Verdict.OK, starttls=True, tls="starttls")
IMPLICIT = CheckResult(Verdict.OK, tls="implicit", auth=False)


async def check(
    port: int, *addresses: str, host: str = HOST, timeout: float = PATIENCE, **settings: Any
) -> CheckResult:
    """The verdict on the relay at these addresses, else 127.0.0.1; what each of them said is left out."""
    verifier = Verifier(Verify(timeout=timeout, **settings))
    result = await verifier.check(RelayKey(host, port), tuple(map(ip_address, addresses or ("127.0.0.1",))))
    return result._replace(servers=())


def failed(result: CheckResult, reason: str) -> bool:
    """It is `failed` with this reason, and the reason is fit to be shown."""
    assert re.fullmatch(r"[ -~]{1,200}", result.reason)
    assert (result.verdict, result.reason) == (Verdict.FAILED, reason)
    return True


@pytest.fixture
def space() -> Iterator[Netns]:
    """The test is in a namespace of its own."""
    with Netns() as made, made.inside():
        yield made


@pytest.fixture
def dead(space: Netns) -> Iterator[str]:
    """An address from which nothing ever comes."""
    with Netns() as far:
        veth(space, "up0", far, "down0")
        space.ip("addr", "add", "192.0.2.1/24", "dev", "up0")
        space.ip("neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "up0")  # where nobody is
        yield "192.0.2.9"


# --- the conversation (D1)


async def test_d1_what_is_said() -> None:
    async with SmtpServer() as server:
        assert await check(server.port) == OK
        await server.ended(1)
        assert server.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]
        assert server.conversations[0].end == "quit"


async def test_d1_the_literal_of_an_ipv6_address(space: Netns) -> None:
    space.own("2001:db8::1/128", "lo")
    async with SmtpServer("2001:db8::1", 25) as server:
        assert await check(25, "2001:db8::1") == OK
        assert server.conversations[0].lines[0] == "EHLO [IPv6:2001:db8::1]"


async def test_d1_the_literal_of_a_scoped_address(space: Netns) -> None:
    with Netns() as far:
        space.sysctl("net/ipv6/conf/default/accept_dad", 0)
        veth(space, "up0", far, "down0")
        space.own("fe80::1/64", "up0")
        async with SmtpServer("fe80::1%up0", 25) as server:
            assert await check(25, "fe80::1%up0") == OK
            assert server.conversations[0].lines[0] == "EHLO [IPv6:fe80::1]"


async def test_d1_starttls_is_noted() -> None:
    async with SmtpServer(answers="starttls") as server:
        assert await check(server.port) == OFFERED


@pytest.mark.parametrize("line", ["starttls", "StartTLS now"])
async def test_d1_starttls_in_any_case(line: str) -> None:
    async with SmtpServer(answers={"EHLO": f"250-relay.example\r\n250 {line}\r\n".encode()}) as server:
        assert (await check(server.port)).starttls


@pytest.mark.parametrize("reply", [b"250 STARTTLS\r\n", b"250-relay\r\n250-XSTARTTLS\r\n250 XAUTH STARTTLS\r\n"])
async def test_d1_starttls_is_a_keyword_after_the_first_line(reply: bytes) -> None:
    async with SmtpServer(answers={"EHLO": reply}) as server:
        assert await check(server.port) == OK


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("greeting", b"221 bye\r\n"),
        ("greeting", b"250 ok\r\n"),
        ("EHLO", b"220 relay.example ESMTP\r\n"),
        ("EHLO", b"251 another good one\r\n"),
        ("EHLO", b"354 go on\r\n"),
        ("HELO", b"220 relay.example\r\n"),
        ("STARTTLS", b"250 2.0.0 ok\r\n"),
        ("MAIL", b"220 2.0.0 ok\r\n"),
        ("MAIL", b"251 2.1.0 ok\r\n"),
        ("RCPT", b"252 cannot verify\r\n"),
        ("RSET", b"221 bye\r\n"),
    ],
)
async def test_d1_a_reply_means_success_by_its_code_alone(verb: str, reply: bytes) -> None:
    ehlo = {"HELO": b"502 no\r\n", "STARTTLS": STARTTLS}.get(verb)
    answers = {verb: reply} | ({"EHLO": ehlo} if ehlo else {})
    async with SmtpServer(answers=answers) as server:
        result = await check(server.port, recipient="me@example.org")
        assert failed(result, f"127.0.0.1: {verb}: {reply.decode().strip()}")


async def test_d1_251_is_an_answer_to_rcpt() -> None:
    async with SmtpServer(answers={"RCPT": b"251 will forward\r\n"}) as server:
        assert await check(server.port, recipient="me@example.org") == OK


async def test_d1_helo_where_ehlo_gets_a_5xx() -> None:
    async with SmtpServer(answers="helo") as server:
        assert await check(server.port) == OK
        assert server.conversations[0].lines == ["EHLO [127.0.0.1]", "HELO [127.0.0.1]", "QUIT"]


async def test_d1_no_helo_where_ehlo_gets_a_4xx() -> None:
    async with SmtpServer(answers="421-ehlo") as server:
        assert failed(await check(server.port), "127.0.0.1: EHLO: 421 4.3.2 shutting down")
        await server.ended(1)
        assert "HELO" not in server.conversations[0].verbs


@pytest.mark.parametrize(
    "answers",
    [
        {"greeting": b"220-relay.example\r\n220-is pleased\r\n220 to see you\r\n"},
        {"greeting": b"220\r\n", "EHLO": b"250\r\n"},
        {"greeting": b"220 \r\n", "EHLO": b"250-\r\n250 \r\n"},
        {"greeting": b"220 bare LF\n", "EHLO": b"250-bare\n250 LF\n"},
        {"greeting": b"220 gr\xc3\xbc\xff\x00\x1b\r\n"},
    ],
    ids=["many lines", "no text", "empty text", "bare LF", "odd octets"],
)
async def test_d1_replies_that_are_fine(answers: dict[str, bytes]) -> None:
    async with SmtpServer(answers=answers) as server:
        assert await check(server.port) == OK


async def test_d1_replies_in_pieces() -> None:
    async def pieces(talk: Talk) -> None:
        for octet in b"250-relay.example\r\n250 STARTTLS\r\n":
            await talk.send(bytes([octet]))
            await asyncio.sleep(0.001)

    async with SmtpServer(answers={"EHLO": pieces}) as server:
        assert await check(server.port) == OFFERED


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("554", "greeting: 554 5.3.2 no service for you"),
        ("421", "greeting: 421 4.3.2 too busy"),
        ("354", "greeting: 354 go on"),
        ("no-hello", "HELO: 550 5.7.1 not that, either"),
        ("garbage", "greeting: no SMTP reply: HTTP/1.1 400 Bad Request"),
        ("two-codes", "EHLO: one reply with two codes"),
        ("out-of-turn", "EHLO: spoke out of turn"),
        ("flood", "greeting: more than 100 lines"),
        ("flood-ehlo", "EHLO: more than 100 lines"),
        ("flood-one-line", "greeting: more than 32 KiB"),
        ("close", "greeting: connection closed"),
        ("close-ehlo", "EHLO: connection closed"),
        ("rst", "greeting: Connection reset by peer"),
        ("rst-ehlo", "EHLO: Connection reset by peer"),
    ],
)
async def test_d1_a_failure_is_named(behaviour: str, reason: str) -> None:
    async with SmtpServer(answers=behaviour) as server:
        assert failed(await check(server.port), f"127.0.0.1: {reason}")


EHLO = b"250-relay.example\r\n250 SIZE\r\n"
MORE = b"250 and so on\r\n"
FAREWELL = b"421 4.3.2 going down\r\n"
FILLED = many(2, 2048) + b"2"  # what one read takes, and the beginning of more
assert len(FILLED) == READ + 1


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("EHLO", EHLO + MORE),
        ("EHLO", EHLO + b"x"),
        ("EHLO", FILLED),
        ("HELO", b"250 relay.example\r\n" + MORE),
        ("RSET", b"250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n"),
    ],
)
async def test_d1_more_than_the_last_reply_is_a_violation(verb: str, reply: bytes) -> None:
    answers = {"EHLO": b"502 no\r\n"} if verb == "HELO" else {}
    recipient = "me@example.org" if verb == "RSET" else ""
    async with SmtpServer(answers=answers | {verb: reply}) as server:
        assert failed(await check(server.port, recipient=recipient), f"127.0.0.1: {verb}: spoke out of turn")


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("reply", [EHLO + MORE, FILLED])
async def test_d1_more_than_the_last_reply_is_a_violation_inside_tls(certificate: Certificate, reply: bytes) -> None:
    async def inside(talk: Talk) -> None:
        await talk.send(STARTTLS if talk.said.tls_from is None else reply)

    async with SmtpServer(answers={"EHLO": inside}, certificate=certificate) as server:
        assert failed(await check(server.port, tls="valid"), "127.0.0.1: EHLO: spoke out of turn")


@pytest.mark.parametrize("answers", [{"EHLO": EHLO + FAREWELL}, {"greeting": b"220 hello\r\n" + FAREWELL}])
async def test_d1_a_farewell_out_of_turn_is_a_reply_that_may_pass(answers: dict[str, Answer]) -> None:
    """A server that shuts down says 421 unasked, too (RFC 5321 section 3.8)."""
    async with SmtpServer(answers=answers) as server:
        result = await check(server.port)
        assert failed(result, "127.0.0.1: EHLO: 421 4.3.2 going down")
        assert (result.transient_reply, result.permanent) == (True, False)


async def test_d1_the_end_of_a_farewell_is_waited_for() -> None:
    async def farewell(talk: Talk) -> None:
        await talk.send(EHLO + b"421 4.3.2 going")
        await asyncio.sleep(0.05)
        await talk.send(b" down\r\n")

    async with SmtpServer(answers={"EHLO": farewell}) as server:
        assert failed(await check(server.port), "127.0.0.1: EHLO: 421 4.3.2 going down")


@pytest.mark.parametrize("line", [b"22 short", b"2200 long", b"220_odd", b"120 low", b"620 high", b" 220 late", b""])
async def test_d1_what_is_no_reply(line: bytes) -> None:
    async with SmtpServer(answers={"greeting": line + b"\r\n"}) as server:
        assert failed(await check(server.port), f"127.0.0.1: greeting: no SMTP reply: {line.decode()}")


async def test_d1_an_unfinished_line_is_no_reply() -> None:
    async def cut(talk: Talk) -> None:
        await talk.send(b"220 relay.exam")
        await close(talk)

    async with SmtpServer(answers={"greeting": cut}) as server:
        assert failed(await check(server.port), "127.0.0.1: greeting: connection closed")


async def test_d1_nobody_listens(space: Netns) -> None:
    assert failed(await check(25, "127.0.0.1"), "127.0.0.1: connect: Connection refused")


async def test_d1_no_address() -> None:
    assert await Verifier(Verify()).check(RelayKey(HOST, 25), ()) == CheckResult(Verdict.FAILED, "no address known")


@pytest.mark.parametrize(("behaviour", "step"), [("silent", "greeting"), ("silent-ehlo", "EHLO"), ("drip", "greeting")])
async def test_d1_the_time_is_over(behaviour: str, step: str) -> None:
    async with SmtpServer(answers=behaviour) as server:
        started = time.monotonic()
        assert failed(await check(server.port, timeout=0.5), f"127.0.0.1: {step}: timed out")
        assert time.monotonic() - started < 10
        if behaviour != "drip":  # which does not look
            await server.ended(1)
            assert server.conversations[0].end == "client"


async def test_d1_100_lines_are_allowed_and_no_more() -> None:
    async with SmtpServer(answers={"EHLO": many(99)}) as server:
        assert await check(server.port) == OK
    async with SmtpServer(answers={"EHLO": many(100)}) as server:
        assert failed(await check(server.port), "127.0.0.1: EHLO: more than 100 lines")


async def test_d1_32_kib_are_allowed_and_no_more() -> None:
    answers = {"greeting": b"220 %b\r\n" % (b"x" * 1018), "EHLO": many(31, 1024)}
    async with SmtpServer(answers=answers) as server:
        assert await check(server.port) == OK
    answers["greeting"] = b"220 %b\r\n" % (b"x" * 1019)
    async with SmtpServer(answers=answers) as server:
        assert failed(await check(server.port), "127.0.0.1: EHLO: more than 32 KiB")


async def test_d1_the_limits_are_of_the_whole_conversation() -> None:
    refusal = many(60).replace(b"250", b"550")
    async with SmtpServer(answers={"EHLO": refusal, "HELO": many(60)}) as server:
        assert failed(await check(server.port), "127.0.0.1: HELO: more than 100 lines")


@pytest.mark.parametrize("answer", [b"500 no\r\n", b"garbage\r\n", many(500), close, silence])
async def test_d1_the_answer_to_quit_is_not_judged(answer: Any) -> None:
    async with SmtpServer(answers={"QUIT": answer}) as server:
        started = time.monotonic()
        assert await check(server.port) == OK
        assert time.monotonic() - started < 10


async def test_d1_the_answer_to_quit_is_given_a_moment() -> None:
    async with SmtpServer(answers={"QUIT": slowly(b"221 bye\r\n", 0.2)}) as server:
        started = time.monotonic()
        assert await check(server.port) == OK
        assert time.monotonic() - started > 0.19


async def test_d1_the_verdict_does_not_wait_for_the_answer_to_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "QUIT_TIMEOUT", 60)
    verifier = Verifier(Verify(timeout=30))
    async with SmtpServer(answers="silent-quit") as server:
        address = ip_address("127.0.0.1")
        with suppress(NotInTime):
            async with (
                asyncio.timeout(20),
                verifier.conversations(Check(1, RelayKey(HOST, server.port), (address,))) as speaking,
            ):
                assert speaking.result._replace(servers=()) == OK
                assert speaking.lingering == (address,)
                raise NotInTime


class NotInTime(Exception):
    """Nobody waits for the end of the conversation."""


async def test_d2_the_verdict_comes_before_the_end_of_the_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core keeps the place of a relay until its conversations are over."""
    monkeypatch.setattr(conversation, "QUIT_TIMEOUT", 0.5)
    events: list[Event] = []
    work = Work(Resolver(), Verifier(Verify(timeout=30)), events.append)
    async with SmtpServer(answers="silent-quit") as server:
        address = ip_address("127.0.0.1")
        check = Check(1, RelayKey(HOST, server.port), (address,))
        try:
            work.check(check)
            async with asyncio.timeout(20):
                while len(events) < 2:
                    await asyncio.sleep(0.005)
        finally:
            await work.close()
    checked, ended = events
    assert isinstance(checked, Checked)
    assert (checked.result._replace(servers=()), checked.lingering) == (OK, (address,))
    assert ended == ConversationsEnded(check)


async def test_d1_no_answer_to_quit_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "QUIT_TIMEOUT", 60)
    async with SmtpServer(answers="silent-quit") as server:
        assert await check(server.port, timeout=2) == OK


@pytest.mark.parametrize("behaviour", ["554", "no-hello"])
async def test_d1_quit_is_said_after_a_refusal(behaviour: str) -> None:
    async with SmtpServer(answers=behaviour) as server:
        assert (await check(server.port)).verdict is Verdict.FAILED
        await server.ended(1)
        assert server.conversations[0].lines[-1] == "QUIT"


async def test_d1_a_relay_that_hangs_up_on_quit_keeps_its_reason() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.send(b"554 go away\r\n")
        await close(talk)

    async with SmtpServer(answers={"greeting": refuse}) as server:
        assert failed(await check(server.port), "127.0.0.1: greeting: 554 go away")


async def test_d1_hostile_text_is_made_printable_and_cut() -> None:
    async with SmtpServer(answers="hostile") as server:
        result = await check(server.port)
        assert len(result.reason) == 200
        assert failed(result, f"127.0.0.1: greeting: 554 ?[31mred? gr??e ?{'x' * 155}...")


# --- several addresses


async def servers(stack: AsyncExitStack, *behaviours: Any) -> list[SmtpServer]:
    """127.0.0.1 behaves as the first says, and so on; all at port 25, so in a namespace."""
    made = [SmtpServer(f"127.0.0.{n}", 25, behaviour) for n, behaviour in enumerate(behaviours, 1)]
    return [await stack.enter_async_context(server) for server in made]


@pytest.mark.parametrize("first", ["554", "close", "rst", "garbage", "flood", "reject"])
async def test_d1_where_it_fails_the_next_address_is_tried(
    space: Netns, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 60)  # the failure starts it, not the time
    async with AsyncExitStack() as stack:
        await servers(stack, first, "ok")
        started = time.monotonic()
        assert await check(25, "127.0.0.1", "127.0.0.2", recipient="me@example.org") == OK
        assert time.monotonic() - started < 10


async def test_d1_refused_connections_are_passed_over(space: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 60)
    async with SmtpServer("127.0.0.4", 25):
        started = time.monotonic()
        assert await check(25, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4") == OK
        assert time.monotonic() - started < 10


async def test_d1_a_dead_first_address_costs_the_attempt_delay(dead: str) -> None:
    async with SmtpServer("127.0.0.1", 25):
        started = time.monotonic()
        assert await check(25, dead, "127.0.0.1") == OK
        assert 0.24 < time.monotonic() - started < 10


async def test_d1_dead_addresses_only(dead: str) -> None:
    assert failed(await check(25, dead, timeout=0.5), f"{dead}: connect: timed out")


async def verdict(*addresses: str, timeout: float = PATIENCE, **settings: Any) -> tuple[CheckResult, float]:
    """The verdict on the relay at port 25 of these addresses and how long it took; then all conversations end."""
    verifier = Verifier(Verify(timeout=timeout, **settings))
    started = time.monotonic()
    async with verifier.conversations(Check(1, RelayKey(HOST, 25), tuple(map(ip_address, addresses)))) as speaking:
        return speaking.result._replace(servers=()), time.monotonic() - started


async def test_d1_a_silent_first_address_has_half_of_the_time(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        first, second = await servers(stack, "silent", "ok")
        result, seconds = await verdict("127.0.0.1", "127.0.0.2", timeout=3)
        assert result == OK
        assert 1.4 < seconds < 2.9
        await first.ended(1)
        assert first.conversations[0].lines == []  # nothing is said before the greeting, not even QUIT
        assert first.conversations[0].end == "client"
        assert second.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]


async def test_d1_who_greets_late_goes_on_beside_the_next_and_both_leave_by_quit(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        late = {"greeting": slowly(b"220 at last\r\n", 1.5)}
        first, second = await servers(stack, late, {"greeting": slowly(b"220 very late\r\n", 1.5)})
        result, seconds = await verdict("127.0.0.1", "127.0.0.2", timeout=2)  # one second for each greeting
        assert result == OK
        assert seconds < 1.9
        assert first.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]
        await second.ended(1)
        assert second.conversations[0].lines in ([], ["QUIT"])  # its greeting came, or the time was over


async def test_d1_an_attempt_that_is_no_longer_needed_waits_for_its_greeting_and_quits(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        late = {"greeting": slowly(b"220 at last\r\n", 2.5)}
        first, second = await servers(stack, late, "ok")
        result, seconds = await verdict("127.0.0.1", "127.0.0.2", timeout=4)
        assert result == OK
        assert seconds < 2.45  # the verdict does not wait for it
        await first.ended(1)
        assert first.conversations[0].lines == ["QUIT"]
        assert first.conversations[0].end == "quit"
        assert second.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]


async def test_d1_a_slow_greeting_within_half_of_the_time_keeps_the_next_address_waiting(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        first, second = await servers(stack, {"greeting": slowly(b"220 at last\r\n", 2)}, "ok")
        result, _ = await verdict("127.0.0.1", "127.0.0.2", timeout=10)
        assert result == OK
        assert (first.connections, second.connections) == (1, 0)


async def test_d1_a_greeting_that_has_begun_keeps_the_next_address_waiting(space: Netns) -> None:
    """Postfix's postscreen sends the first line at once, and the last when a new client has kept quiet for 6 s."""

    async def teaser(talk: Talk) -> None:
        await talk.send(b"220-relay.example ESMTP\r\n")
        await asyncio.sleep(2)
        await talk.send(b"220 relay.example ESMTP\r\n")

    async with AsyncExitStack() as stack:
        first, second = await servers(stack, {"greeting": teaser}, "ok")
        result, _ = await verdict("127.0.0.1", "127.0.0.2", timeout=3)
        assert result == OK
        assert (first.connections, second.connections) == (1, 0)


async def test_d1_a_greeting_that_comes_after_nine_seconds_is_in_time(space: Netns) -> None:
    assert Verify().timeout == 10.0
    async with SmtpServer("127.0.0.1", 25, {"greeting": slowly(b"220 at last\r\n", 9)}):
        result, _ = await verdict("127.0.0.1", timeout=Verify().timeout)
        assert result == OK


async def test_d1_a_conversation_that_is_abandoned_is_left_by_quit_if_greeted(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        greeted, silent = await servers(stack, {"EHLO": slowly(b"250 relay.example\r\n", 0.5)}, "silent")
        for address, server in (("127.0.0.1", greeted), ("127.0.0.2", silent)):
            task = asyncio.create_task(check(25, address))
            async with asyncio.timeout(PATIENCE):
                while not server.connections:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait([task])
            await server.ended(1)
        assert greeted.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]
        assert silent.conversations[0].lines == []


async def test_d1_a_quick_address_is_the_only_one_spoken_to(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        first, second = await servers(stack, "ok", "ok")
        assert await check(25, "127.0.0.1", "127.0.0.2") == OK
        assert (first.connections, second.connections) == (1, 0)


async def test_d1_at_most_4_addresses(space: Netns) -> None:
    async with SmtpServer("127.0.0.5", 25) as server:
        result = await check(25, *(f"127.0.0.{n}" for n in range(1, 6)))
        assert failed(result, "; ".join(f"127.0.0.{n}: connect: Connection refused" for n in range(1, 5)))
        assert server.connections == 0


async def test_d1_each_address_has_its_reason(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        await servers(stack, "554", {"RCPT": b"550 not here\r\n"}, "silent")
        result = await check(25, "127.0.0.1", "127.0.0.2", "127.0.0.3", timeout=1.5, recipient="me@example.org")
        said = ["1: greeting: 554 5.3.2 no service for you", "2: RCPT: 550 not here", "3: greeting: timed out"]
        assert failed(result, "; ".join(f"127.0.0.{text}" for text in said))
        assert result.starttls is False


# --- no route yet


@pytest.mark.parametrize(
    ("own", "relay"), [("192.0.2.1/32", "203.0.113.25"), ("2001:db8:1::1/128", "2001:db8:2::25")], ids=["IPv4", "IPv6"]
)
async def test_d1_no_route_yet_is_waited_for(space: Netns, own: str, relay: str) -> None:
    with Netns() as far:
        nodad = ["nodad"] if ":" in own else []
        veth(space, "up0", far, "down0")
        far.ip("addr", "add", relay, "dev", "down0", *nodad)
        far.ip("route", "add", own, "dev", "down0")
        space.ip("addr", "add", own, "dev", "up0", *nodad)
        with far.inside():
            server = await SmtpServer(relay, 25).__aenter__()
        try:
            task = asyncio.create_task(check(25, relay))
            await asyncio.sleep(0.3)
            assert not task.done()
            space.ip("route", "add", relay, "dev", "up0")
            assert await task == OK
        finally:
            await server.__aexit__()


async def test_d1_no_route_within_the_time(space: Netns) -> None:
    space.ip("route", "add", "unreachable", "203.0.113.0/24")  # EHOSTUNREACH; the other one has no route at all
    result = await check(25, "198.51.100.25", "203.0.113.25", timeout=0.5)
    said = ["198.51.100.25: connect: Network is unreachable", "203.0.113.25: connect: No route to host"]
    assert failed(result, "; ".join(said))


async def test_d1_an_unreachable_route_is_not_waited_for(space: Netns) -> None:
    space.ip("route", "add", "unreachable", "203.0.113.0/24")
    started = time.monotonic()
    result = await check(25, "203.0.113.25", timeout=20)
    assert failed(result, "203.0.113.25: connect: No route to host")
    assert time.monotonic() - started < 10


async def test_d1_an_address_that_refused_has_that_reason_while_another_is_silent(
    space: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 0.05)
    result = await check(25, "127.0.0.1", "198.51.100.25", timeout=0.5)
    said = ["127.0.0.1: connect: Connection refused", "198.51.100.25: connect: Network is unreachable"]
    assert failed(result, "; ".join(said))


async def test_d1_the_family_with_a_route_is_used_without_delay(space: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 60)
    async with SmtpServer("127.0.0.1", 25):
        started = time.monotonic()
        assert await check(25, "2001:db8::25", "127.0.0.1") == OK
        assert time.monotonic() - started < 10


async def test_d1_no_route_is_not_waited_for_once_another_address_has_answered(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        await servers(stack, "554")
        started = time.monotonic()
        result = await check(25, "2001:db8::25", "127.0.0.1", timeout=20)
        assert result.verdict is Verdict.FAILED
        assert result.permanent  # at the one address that could be tried
        assert time.monotonic() - started < 10


async def test_d1_no_route_is_not_waited_for_in_a_family_that_the_host_has_not(space: Netns) -> None:
    space.ip("addr", "add", "192.0.2.1/32", "dev", "lo")
    started = time.monotonic()
    check = Check(1, RelayKey(HOST, 25), (ip_address("2001:db8::25"),), route_versions=(4,))
    async with Verifier(Verify(timeout=20)).conversations(check) as speaking:
        assert speaking.result.reason == "2001:db8::25: connect: Network is unreachable"
    assert time.monotonic() - started < 10


async def test_d11_a_private_address_is_spoken_to_through_the_link_that_named_it(space: Netns) -> None:
    with Netns() as first, Netns() as second:
        links = {}
        async with AsyncExitStack() as stack:
            for number, (far, behaviour) in enumerate(((first, "ok"), (second, "554"))):
                veth(space, f"up{number}", far, "down0")
                space.ip("addr", "add", "10.1.0.1/24", "dev", f"up{number}")
                far.ip("addr", "add", "10.1.0.25/24", "dev", "down0")
                with far.inside():
                    await stack.enter_async_context(SmtpServer("10.1.0.25", 25, behaviour))
                links[behaviour] = socket.if_nametoindex(f"up{number}")
            for behaviour, verdict in (("ok", Verdict.OK), ("554", Verdict.FAILED)):
                check = Check(1, RelayKey(HOST, 25), (ip_address("10.1.0.25"),), ifindex=links[behaviour])
                async with Verifier(Verify(timeout=PATIENCE)).conversations(check) as speaking:
                    assert speaking.result.verdict is verdict


async def test_d1_an_address_that_is_still_tentative_is_waited_for(
    space: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicate address detection lasts a minute here: on a busy machine a second is over before anybody looks."""
    space.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)  # no link-local address, which is there sooner
    space.sysctl("net/ipv6/conf/default/dad_transmits", 60)
    refused = asyncio.Event()
    connect = Connector.connect

    async def noted(self: Connector) -> socket.socket:
        try:
            return await connect(self)
        except NoRouteError:
            refused.set()
            raise

    monkeypatch.setattr(Connector, "connect", noted)
    with Netns() as far:
        veth(space, "up0", far, "down0")
        far.own("2001:db8::25/64", "down0")
        with far.inside():
            server = await SmtpServer("2001:db8::25", 25).__aenter__()
        try:
            space.ip("addr", "add", "2001:db8::1/64", "dev", "up0")
            assert "tentative" in space.ip("addr", "show", "dev", "up0")
            checking = asyncio.create_task(check(25, "2001:db8::25"))
            await asyncio.wait_for(refused.wait(), PATIENCE)
            assert not checking.done()
            space.ip("addr", "del", "2001:db8::1/64", "dev", "up0")
            space.own("2001:db8::1/64", "up0")
            assert await checking == OK
            assert server.conversations[0].lines[0] == "EHLO [IPv6:2001:db8::1]"
        finally:
            await server.__aexit__()


async def test_d1_the_networks_own_word_is_no_missing_route(space: Netns) -> None:
    with Netns() as far:  # it answers "host unreachable" (ICMP)
        veth(space, "up0", far, "down0")
        space.batch(["addr add 192.0.2.1/24 dev up0", "route add default via 192.0.2.2"])
        far.ip("addr", "add", "192.0.2.2/24", "dev", "down0")
        far.sysctl("net/ipv4/ip_forward", 1)
        far.ip("route", "add", "unreachable", "203.0.113.0/24")
        started = time.monotonic()
        assert failed(await check(25, "203.0.113.25"), "203.0.113.25: connect: No route to host")
        assert time.monotonic() - started < 15


# --- TLS (D7)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(ca: Ca) -> Certificate:
    return ca.issue(HOST, "127.0.0.1")


@pytest.fixture
def trusted(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's CA store has this one authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))


async def test_d7_offered_is_failed_without_starttls() -> None:
    async with SmtpServer() as server:
        result = await check(server.port, tls="offered")
        assert failed(result, "127.0.0.1: EHLO: STARTTLS is not offered")
        assert result.starttls is False


async def test_d7_offered_is_failed_where_only_helo_is_known() -> None:
    async with SmtpServer(answers="helo") as server:
        assert failed(await check(server.port, tls="offered"), "127.0.0.1: HELO: STARTTLS is not offered")


@pytest.mark.parametrize("tls", ["off", "offered"])
async def test_d7_it_is_not_started_but_under_valid(tls: str) -> None:
    async with SmtpServer(answers="starttls") as server:
        assert await check(server.port, tls=tls) == OFFERED
        assert server.conversations[0].verbs == ["EHLO", "QUIT"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("host", [HOST, "127.0.0.1"])
async def test_d7_valid(certificate: Certificate, host: str) -> None:
    async with SmtpServer(answers="starttls", certificate=certificate) as server:
        assert await check(server.port, host=host, tls="valid") == OFFERED._replace(auth=False)
        await server.ended(1)
        said = server.conversations[0]
        assert said.lines == ["EHLO [127.0.0.1]", "STARTTLS", "EHLO [127.0.0.1]", "QUIT"]
        assert (said.tls_from, said.end) == (2, "quit")


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("names", "days", "host", "said"),
    [
        ([HOST], 7, "other.example", "Hostname mismatch, certificate is not valid for 'other.example'."),
        (["127.0.0.2"], 7, "127.0.0.1", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ([HOST], -1, HOST, "certificate has expired"),
    ],
)
async def test_d7_a_certificate_that_is_not_valid(ca: Ca, names: list[str], days: int, host: str, said: str) -> None:
    async with SmtpServer(answers="starttls", certificate=ca.issue(*names, days=days)) as server:
        result = await check(server.port, host=host, tls="valid")
        assert failed(result, f"127.0.0.1: TLS: certificate not valid: {said}")
        assert result.starttls is True


@pytest.mark.usefixtures("trusted")
async def test_d7_a_common_name_never_counts(ca: Ca) -> None:
    async with SmtpServer(answers="starttls", certificate=ca.issue(common_name=HOST)) as server:
        result = await check(server.port, tls="valid")
        assert "TLS: certificate not valid: Hostname mismatch" in result.reason
        assert result.permanent


async def test_d7_an_authority_without_a_key_usage_is_valid_on_every_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = Ca(tmp_path, key_usage=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    async with SmtpServer(answers="starttls", certificate=ca.issue(HOST)) as server:
        assert (await check(server.port, tls="valid")).verdict is Verdict.OK


def test_d7_the_flags_that_python_3_13_began_to_set_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ssl.create_default_context

    def as_python_3_13_makes_it() -> ssl.SSLContext:
        context = usual()
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_python_3_13_makes_it)
    assert tls.checked().verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST


def test_d7_what_a_valid_certificate_is_does_not_come_from_the_defaults_of_a_python() -> None:
    context = tls.checked()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST
    assert not context.hostname_checks_common_name
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("answers", "permanent", "transient"),
    [
        ("554", True, False),
        ("421", False, True),
        ("reject", True, False),
        ("close", False, False),
        ("garbage", False, False),
        ({"EHLO": b"220 what\r\n"}, False, False),
    ],
)
async def test_d9_which_failures_only_an_administrator_can_mend(answers: Any, permanent: bool, transient: bool) -> None:
    async with SmtpServer(answers=answers) as server:
        result = await check(server.port, recipient="me@example.org")
        assert (result.permanent, result.transient_reply) == (permanent, transient)


async def test_d9_no_starttls_where_it_is_asked_for_is_permanent() -> None:
    async with SmtpServer() as server:
        assert (await check(server.port, tls="offered")).permanent


@pytest.mark.usefixtures("trusted")
async def test_d9_a_certificate_that_is_not_valid_yet_may_be_this_hosts_clock(ca: Ca) -> None:
    """A machine without a battery for its clock begins in 1970, and is right a moment later."""
    async with SmtpServer(answers="starttls", certificate=ca.issue(HOST, not_yet=True)) as server:
        result = await check(server.port, tls="valid")
        assert failed(result, "127.0.0.1: TLS: certificate not valid: certificate is not yet valid")
        assert (result.permanent, result.transient_reply) == (False, False)


async def test_d9_it_is_permanent_only_at_every_address_that_was_tried(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        await servers(stack, "554", "554")
        assert (await check(25, "127.0.0.1", "127.0.0.2")).permanent
        assert not (await check(25, "127.0.0.1", "127.0.0.9")).permanent  # connection refused


async def test_d7_a_certificate_of_an_authority_that_nobody_knows(certificate: Certificate) -> None:
    async with SmtpServer(answers="starttls", certificate=certificate) as server:
        result = await check(server.port, tls="valid")
        assert "TLS: certificate not valid: unable to get local issuer certificate" in result.reason


@pytest.mark.usefixtures("trusted")
async def test_d7_a_certificate_may_fail_at_one_address_only(space: Netns, ca: Ca, certificate: Certificate) -> None:
    bad, good = ca.issue("other.example"), certificate
    first = SmtpServer("127.0.0.1", 25, "starttls", certificate=bad)
    async with first, SmtpServer("127.0.0.2", 25, "starttls", certificate=good):
        assert (await check(25, "127.0.0.1", "127.0.0.2", tls="valid")).verdict is Verdict.OK


async def test_d7_valid_is_failed_without_starttls() -> None:
    async with SmtpServer() as server:
        assert failed(await check(server.port, tls="valid"), "127.0.0.1: EHLO: STARTTLS is not offered")


@pytest.mark.usefixtures("trusted")
async def test_d7_what_was_learned_before_tls_is_void(certificate: Certificate) -> None:
    async def once(talk: Talk) -> None:
        await talk.send(STARTTLS if talk.said.tls_from is None else b"550 not in here\r\n")

    answers: dict[str, Answer] = {"EHLO": once, "HELO": b"550 nor that\r\n"}
    async with SmtpServer(answers=answers, certificate=certificate) as server:
        assert failed(await check(server.port, tls="valid"), "127.0.0.1: HELO: 550 nor that")


@pytest.mark.usefixtures("trusted")
async def test_d7_injected_plaintext_is_a_violation(certificate: Certificate) -> None:
    async with SmtpServer(answers="inject", certificate=certificate) as server:
        assert failed(await check(server.port, tls="valid"), "127.0.0.1: TLS: plaintext after the reply to STARTTLS")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"STARTTLS": b"454 4.7.0 no TLS today\r\n"}, "STARTTLS: 454 4.7.0 no TLS today"),
        ({"STARTTLS": close}, "STARTTLS: connection closed"),
    ],
)
async def test_d7_starttls_that_is_offered_and_refused(answers: Any, reason: str) -> None:
    async with SmtpServer(answers={"EHLO": STARTTLS} | answers) as server:
        assert failed(await check(server.port, tls="valid"), f"127.0.0.1: {reason}")


@pytest.mark.parametrize(
    ("then", "said"), [(slowly(b"250 no TLS here, but plenty of text\r\n", 0.2), "wrong version number"), (close, "")]
)
async def test_d7_no_tls_after_starttls(then: Any, said: str) -> None:
    async def go(talk: Talk) -> None:
        await talk.send(b"220 go ahead\r\n")
        await talk.reader.read(1)
        await then(talk)

    async with SmtpServer(answers={"EHLO": STARTTLS, "STARTTLS": go}) as server:
        result = await check(server.port, tls="valid")
        assert result.reason.startswith(f"127.0.0.1: TLS: {said}")
        assert "timed out" not in result.reason


async def test_d7_silence_in_the_handshake_ends_with_the_time() -> None:
    async def go(talk: Talk) -> None:
        await talk.send(b"220 go ahead\r\n")
        await silence(talk)

    async with SmtpServer(answers={"EHLO": STARTTLS, "STARTTLS": go}) as server:
        assert failed(await check(server.port, tls="valid", timeout=1), "127.0.0.1: TLS: timed out")


@pytest.mark.usefixtures("trusted")
async def test_d1_the_limits_hold_inside_tls(certificate: Certificate) -> None:
    async def more(talk: Talk) -> None:
        await talk.send(STARTTLS if talk.said.tls_from is None else many(200))

    async with SmtpServer(answers={"EHLO": more}, certificate=certificate) as server:
        assert failed(await check(server.port, tls="valid"), "127.0.0.1: EHLO: more than 100 lines")


async def test_d1_tls_itself_is_limited(space: Netns, certificate: Certificate) -> None:
    server = SmtpServer("127.0.0.1", 465, {"greeting": silence}, certificate=certificate, implicit=True)
    assert server.context is not None
    server.context.num_tickets = 3000  # of some 250 octets each, all unasked for
    async with server:
        assert failed(await check(465), "127.0.0.1: greeting: more than 256 KiB of TLS")


@pytest.mark.parametrize("tls", ["off", "offered"])
async def test_d7_port_465_is_inside_tls_and_unchecked(space: Netns, ca: Ca, tls: str) -> None:
    server = SmtpServer("127.0.0.1", 465, certificate=ca.issue("other.example", days=-1), implicit=True)
    async with server:
        assert await check(465, tls=tls) == IMPLICIT
        assert server.conversations[0].lines == ["EHLO [127.0.0.1]", "QUIT"]


@pytest.mark.usefixtures("trusted")
async def test_d7_port_465_is_checked_under_valid(space: Netns, ca: Ca, certificate: Certificate) -> None:
    async with SmtpServer("127.0.0.1", 465, certificate=certificate, implicit=True):
        assert await check(465, tls="valid") == IMPLICIT
        assert (await check(465, host="other.example", tls="valid")).verdict is Verdict.FAILED


async def test_d7_port_465_in_the_clear_is_failed(space: Netns) -> None:
    async with SmtpServer("127.0.0.1", 465):
        assert failed(await check(465), "127.0.0.1: TLS: wrong version number")


@pytest.mark.parametrize("host", [".example", f"{'x' * 64}.example", ""])
async def test_d7_a_name_that_tls_cannot_carry(host: str, certificate: Certificate) -> None:
    async with SmtpServer(answers="starttls", certificate=certificate) as server:
        result = await check(server.port, host=host, tls="valid")
        assert result.verdict is Verdict.FAILED
        assert result.reason.startswith("127.0.0.1: TLS: ")


async def test_d7_tls_is_loaded_where_it_is_used() -> None:
    code = (
        "import sys, salsa_agent.smtp.verifier; print('ssl' in sys.modules and 'salsa_agent.smtp.tls' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert printed == b"False\n"


async def test_settings_may_be_replaced(space: Netns, certificate: Certificate) -> None:
    async with SmtpServer("127.0.0.1", 25), SmtpServer("127.0.0.1", 465, certificate=certificate, implicit=True):
        verifier = Verifier(Verify(timeout=PATIENCE))
        for tls, verdicts in (("off", ["ok", "ok"]), ("offered", ["failed", "ok"]), ("valid", ["failed", "failed"])):
            verifier.configure(Settings(verify=Verify(timeout=PATIENCE, tls=tls)))
            checks = [verifier.check(RelayKey(HOST, port), (ip_address("127.0.0.1"),)) for port in (25, 465)]
            assert [(await running).verdict for running in checks] == verdicts


# --- verify.recipient (D7)


async def test_d7_recipient() -> None:
    async with SmtpServer() as server:
        assert await check(server.port, recipient="me@example.org") == OK
        envelope = ["MAIL FROM:<>", "RCPT TO:<me@example.org>", "RSET"]
        assert server.conversations[0].lines == ["EHLO [127.0.0.1]", *envelope, "QUIT"]


@pytest.mark.usefixtures("trusted")
async def test_d7_recipient_inside_tls(certificate: Certificate) -> None:
    async with SmtpServer(answers="starttls", certificate=certificate) as server:
        assert (await check(server.port, tls="valid", recipient="me@example.org")).verdict is Verdict.OK
        await server.ended(1)
        assert server.conversations[0].verbs == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "RSET", "QUIT"]
        assert server.conversations[0].tls_from == 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "RSET"])
async def test_d7_a_refused_recipient(verb: str) -> None:
    async with SmtpServer(answers={verb: b"554-5.7.1 Relay access\r\n554 5.7.1 denied\r\n"}) as server:
        result = await check(server.port, recipient="me@example.org")
        assert failed(result, f"127.0.0.1: {verb}: 554 5.7.1 Relay access 5.7.1 denied")
        await server.ended(1)
        assert server.conversations[0].verbs[-1] == "QUIT"


@pytest.mark.parametrize("recipient", ["mé@example.org", "me@example.org>\r\nDATA"])
async def test_d7_a_recipient_that_is_no_command(recipient: str) -> None:
    async with SmtpServer() as server:
        assert failed(await check(server.port, recipient=recipient), "127.0.0.1: RCPT: not printable ASCII")
        await server.ended(1)
        assert server.conversations[0].lines == ["EHLO [127.0.0.1]", "MAIL FROM:<>", "QUIT"]


AUTH = b"250-relay.example\r\n250 AUTH PLAIN LOGIN\r\n"


@pytest.mark.parametrize("tls", ["off", "offered"])
async def test_d7_a_recipient_is_asked_inside_tls_where_that_is_offered(ca: Ca, tls: str) -> None:
    """RFC 3207 section 4: a relay may insist on STARTTLS before MAIL. The certificate does not matter here."""

    async def only_inside(talk: Talk) -> None:
        await talk.send(b"530 STARTTLS first\r\n" if talk.said.tls_from is None else b"250 ok\r\n")

    answers: dict[str, Answer] = {"EHLO": STARTTLS, "MAIL": only_inside}
    async with SmtpServer(answers=answers, certificate=ca.issue("other.example", days=-1)) as server:
        result = await check(server.port, tls=tls, recipient="me@example.org")
        assert result == OFFERED._replace(auth=False)


async def test_d10_auth_that_is_offered_outside_tls() -> None:
    async with SmtpServer(answers={"EHLO": AUTH}) as server:
        assert (await check(server.port)).auth is True


async def test_d10_auth_inside_tls_is_what_counts(certificate: Certificate) -> None:
    async def inside(talk: Talk) -> None:
        await talk.send(STARTTLS if talk.said.tls_from is None else AUTH)

    async with SmtpServer(answers={"EHLO": inside}, certificate=certificate) as server:
        assert (await check(server.port)).auth is None  # it may well be offered inside
        assert (await check(server.port, recipient="me@example.org")).auth is True


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize(
    ("reply", "wants"),
    [
        (b"530 5.7.0 Authentication required\r\n", True),
        (b"550 no\r\n", True),
        (b"554 no\r\n", True),
        (b"454 4.7.1 Relay access denied\r\n", True),
        (b"553-5.7.1 Sender address rejected\r\n553 5.7.1 not logged in\r\n", True),
        (b"552 5.2.2 mailbox full\r\n", False),
        (b"451 4.3.0 try 5.7.1 again\r\n", False),
    ],
)
async def test_d10_a_relay_that_wants_auth(verb: str, reply: bytes, wants: bool) -> None:
    async with SmtpServer(answers={"EHLO": AUTH, verb: reply}) as server:
        result = await check(server.port, recipient="me@example.org")
        assert (result.verdict, result.wants_auth) == (Verdict.FAILED, wants)
    async with SmtpServer(answers={verb: reply}) as server:  # no AUTH is offered: it is no matter of a password
        assert not (await check(server.port, recipient="me@example.org")).wants_auth


async def test_d10_a_relay_of_the_administrator_that_wants_auth_is_ok(space: Netns) -> None:
    answers = {"EHLO": AUTH, "RCPT": b"530 5.7.0 Authentication required\r\n"}
    async with AsyncExitStack() as stack:
        _, second = await servers(stack, answers, answers)
        verifier = Verifier(Verify(timeout=PATIENCE, recipient="me@example.org"))
        addresses = (ip_address("127.0.0.1"), ip_address("127.0.0.2"))
        async with verifier.conversations(Check(1, RelayKey(HOST, 25), addresses, administrator=True)) as speaking:
            result = speaking.result._replace(servers=())
        assert result == CheckResult(Verdict.OK, "", starttls=False, tls="none", auth=True, wants_auth=True)
        assert second.connections == 0
        async with verifier.conversations(Check(2, RelayKey(HOST, 25), addresses)) as speaking:
            assert speaking.result.verdict is Verdict.FAILED


async def test_d7_a_relay_of_submissions_is_inside_tls_whatever_its_port(certificate: Certificate) -> None:
    async with SmtpServer(certificate=certificate, implicit=True) as server:
        verifier = Verifier(Verify(timeout=PATIENCE))
        check = Check(1, RelayKey(HOST, server.port), (ip_address("127.0.0.1"),), implicit_tls=True)
        async with verifier.conversations(check) as speaking:
            assert speaking.result._replace(servers=()) == IMPLICIT


async def test_d1_what_came_of_each_address_is_told(space: Netns) -> None:
    async with AsyncExitStack() as stack:
        await servers(stack, "554", "ok", "ok")
        verifier = Verifier(Verify(timeout=PATIENCE))
        addresses = tuple(ip_address(f"127.0.0.{n}") for n in (1, 2, 3))
        result = await verifier.check(RelayKey(HOST, 25), addresses)
        assert [(str(one.ip), one.result.verdict, one.contacted) for one in result.servers] == [
            ("127.0.0.1", Verdict.FAILED, True),
            ("127.0.0.2", Verdict.OK, True),
        ]


# --- the end


def own_tasks() -> set[asyncio.Task[Any]]:
    """All tasks but the server's, and those of asyncio that take connections for it."""
    servers = ("SmtpServer", "_accept_connection2")
    return {task for task in asyncio.all_tasks() if not any(name in repr(task.get_coro()) for name in servers)}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_cancel_at_any_moment_leaves_nothing(certificate: Certificate, turns: int) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    async with SmtpServer(answers="starttls", certificate=certificate) as server:
        tasks = own_tasks()
        task = asyncio.create_task(
            check(server.port, "127.0.0.1", "203.0.113.1", tls="valid", recipient="me@example.org")
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert own_tasks() == tasks
    async with asyncio.timeout(PATIENCE):
        while len(os.listdir("/proc/self/fd")) != descriptors:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("behaviour", ["silent", "silent-ehlo", "silent-quit", "flood", "drip"])
async def test_cancel_ends_the_conversation(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "QUIT_TIMEOUT", 60)
    descriptors = len(os.listdir("/proc/self/fd"))
    async with SmtpServer(answers=behaviour) as server:
        tasks = own_tasks()
        task = asyncio.create_task(check(server.port))
        async with asyncio.timeout(PATIENCE):
            while not server.connections:
                await asyncio.sleep(0.005)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled() or behaviour == "flood"  # which ends by itself
        assert own_tasks() == tasks
    async with asyncio.timeout(PATIENCE):
        while len(os.listdir("/proc/self/fd")) != descriptors:
            await asyncio.sleep(0.005)


async def test_cancel_while_connecting_closes_the_socket(dead: str) -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(check(25, dead))
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) == len(descriptors) + 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert set(os.listdir("/proc/self/fd")) == descriptors  # a socket left to the collector is a ResourceWarning


# --- the server of these tests, as a process of its own


async def test_the_server_runs_by_itself(space: Netns, tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-m", "tests.lab.smtpserver", "--port", "25", "--behaviour", "554", "--log", str(log)]
    process = space.exec([*argv, "--listen", "127.0.0.1", "--listen", "::1"], stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    assert failed(await check(25, "::1"), "::1: greeting: 554 5.3.2 no service for you")
    async with asyncio.timeout(PATIENCE):
        while not (log.exists() and log.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    said = json.loads(log.read_text())
    assert (said["lines"], said["peer"][0], said["end"]) == (["QUIT"], "::1", "quit")
    process.terminate()
    assert process.wait(20) == 0
