"""A test letter: as a mail program hands it over, every answer kept, nothing injected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from salsa_agent.cli.salsactl.main import main
from salsa_agent.oneshot import send_test
from salsa_agent.oneshot.send_test import Outcome, Transaction, address_error, queue_id
from tests.lab.ca import Ca
from tests.lab.smtpserver import STARTTLS, Answer, SmtpServer, Talk, silence, take

FROM, TO = "me@example.net", "you@example.org"
TAKES: dict[str, Answer] = {"DATA": take}


async def send(server: SmtpServer, tls: str = "", host: str = "") -> Outcome:
    return await asyncio.to_thread(send_test.send, Transaction(host or server.address, server.port, tls, FROM, TO))


async def test_a_letter_is_taken_and_its_queue_id_told() -> None:
    async with SmtpServer(answers=TAKES) as server:
        outcome = await send(server)
        await server.ended(1)
    assert (outcome.accepted, outcome.queue_id, outcome.error) == (True, "4XyZ1abc", "")
    wanted = [
        ("greeting", 220),
        ("EHLO", 250),
        ("MAIL", 250),
        ("RCPT", 250),
        ("DATA", 354),
        ("letter", 250),
        ("QUIT", 221),
    ]
    assert [(one.command, one.code) for one in outcome.replies] == wanted
    assert outcome.notes == ["it does not offer STARTTLS: the letter goes in the clear"]
    assert f"From: {FROM}" in server.conversations[0].lines
    assert f"To: {TO}" in server.conversations[0].lines
    assert "Auto-Submitted: auto-generated" in server.conversations[0].lines


async def test_what_a_relay_refuses_is_told_with_its_words() -> None:
    async with SmtpServer(answers="reject") as server:
        outcome = await send(server)
    assert (outcome.accepted, outcome.error) == (False, "it said 554 5.7.1 Relay access denied")


async def test_d10_starttls_that_was_seen_and_is_gone_sends_nothing() -> None:
    async with SmtpServer(answers=TAKES) as server:
        outcome = await send(server, "starttls")
        await server.ended(1)
    assert not outcome.accepted
    assert "does not offer STARTTLS any more" in outcome.error
    assert "MAIL" not in [verb.upper() for verb in server.conversations[0].verbs]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
async def test_d10_tls_is_used_and_a_bad_certificate_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, implicit: bool, trusted: bool
) -> None:
    ca = Ca(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    answers: dict[str, Answer] = {**TAKES, "EHLO": STARTTLS}
    async with SmtpServer(answers=answers, certificate=ca.issue("127.0.0.1"), implicit=implicit) as server:
        outcome = await send(server, "implicit" if implicit else "starttls")
        await server.ended(1 if trusted or implicit else 2)  # of TLS that is refused at once it knows nothing
    assert outcome.accepted
    assert server.conversations[-1].tls_from is not None
    assert bool(outcome.notes) is not trusted
    assert trusted or outcome.notes[0].startswith("its certificate is not valid: ")


@pytest.mark.parametrize("behaviour", ["close", "rst", "garbage", "554", "flood", "flood-ehlo", "flood-one-line"])
async def test_a_bad_relay_is_one_sentence(behaviour: str) -> None:
    async with SmtpServer(answers=behaviour) as server:
        async with asyncio.timeout(20):
            outcome = await send(server)
    assert not outcome.accepted
    assert outcome.error
    assert outcome.error.isprintable()


async def drip_ehlo(talk: Talk) -> None:
    """A line without end, an octet now and then: no reply of its takes too long by itself."""
    while True:
        await talk.send(b"2")
        await asyncio.sleep(0.05)


async def silent_letter(talk: Talk) -> None:
    """DATA is welcome, and the letter gets no answer."""
    await talk.send(b"354 go ahead\r\n")
    await silence(talk)


@pytest.mark.parametrize(
    ("answers", "said", "unknown"),
    [
        ({"EHLO": drip_ehlo}, ["greeting"], False),
        ({"greeting": silence}, [], False),
        ({"DATA": silent_letter}, ["greeting", "EHLO", "MAIL", "RCPT", "DATA"], True),
    ],
)
async def test_all_of_it_has_a_limit(answers: dict[str, Answer], said: list[str], unknown: bool) -> None:
    async with SmtpServer(answers=answers) as server, asyncio.timeout(20):
        outcome = await asyncio.to_thread(
            send_test.send, Transaction(server.address, server.port, "", FROM, TO), longest=1.0
        )  # fmt: skip
    assert not outcome.accepted
    assert outcome.error.startswith("it was not done in 1 s")
    assert ("whether it has the letter is not known" in outcome.error) is unknown
    assert [reply.command for reply in outcome.replies] == said


async def test_a_relay_that_is_not_there() -> None:
    async with SmtpServer() as server:
        pass
    assert "refused" in (await send(server)).error.lower()


@pytest.mark.parametrize(
    "address",
    ["a", "@example.net", "a@", "a@b@example.net", "a\r\nDATA@example.net", "a@example.net\r\nRCPT TO:<b@c.example>",
     "a@example.net\n", "a b@example.net", "<a@example.net>", '"a b"@example.net', "a@exa mple.net", "a,b@example.net",
     "\N{LATIN SMALL LETTER U WITH DIAERESIS}@example.net", "a" * 65 + "@example.net", "a\0@example.net", ""],
)  # fmt: skip
def test_an_address_cannot_carry_commands_or_headers(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert address_error(address)
    for arguments in (["--to", address], ["--to", TO, "--from", address]):
        with pytest.raises(SystemExit) as ended:
            main(["send-test", "--yes", *arguments])
        assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: salsactl send-test")


@pytest.mark.parametrize("address", ["me@example.net", "first.last+tag@mail.example.net", "root@host"])
def test_an_address_that_is_one(address: str) -> None:
    assert address_error(address) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2.0.0 Ok: queued as 4XyZ1abc", "4XyZ1abc"),
        ("OK id=1tGabc-000000001Xy-2ZZZ", "1tGabc-000000001Xy-2ZZZ"),
        ("2.0.0 4ATCxK3f012345 Message accepted for delivery", "4ATCxK3f012345"),
        ("ok 1700000000 qp 4711", "1700000000 qp 4711"),
        ("2.0.0 thank you", ""),
    ],
)
def test_queue_ids(text: str, wanted: str) -> None:
    assert queue_id(text) == wanted
