"""The vectors of conversations (conformance/d-conversation.json), against a relay that answers as they say."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest

from salsa_agent.core.events import Check
from salsa_agent.core.model import RelayKey, demanded_tls
from salsa_agent.core.settings import Verify
from salsa_agent.core.verification.verdicts import combine
from salsa_agent.smtp.verifier import Verifier
from tests.core.vectors import FOLDER, Vector
from tests.lab.ca import Ca
from tests.lab.smtpserver import Answer, SmtpServer, close, flood, many, silence

VECTORS: list[Vector] = json.loads((FOLDER / "d-conversation.json").read_text())
HOST = "relay.example"
WORSE = {"silence": silence, "close": close, "flood": flood}
PATIENCE = 25.0


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def trusted(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> Ca:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    return ca


def answer(given: Any) -> Answer:
    """A reply of the vector: a line, lines, so many lines, or something worse."""
    if isinstance(given, Mapping):
        return many(given["lines"], given.get("octets", 10))
    if isinstance(given, str) and given in WORSE:
        return WORSE[given]
    lines = [given] if isinstance(given, str) else given
    return "".join(f"{line}\r\n" for line in lines).encode()


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['rule']}: {v['name']}") for v in VECTORS])
async def test_conformance_of_a_conversation(vector: Vector, trusted: Ca) -> None:
    config = {key.partition(".")[2]: value for key, value in vector.get("config", {}).items()}
    verify = Verify(**({"timeout": PATIENCE} | config))
    service, expected = vector.get("service", ""), vector["expect"]
    certificate = trusted.issue(*vector["certificate"], common_name=HOST) if "certificate" in vector else None
    replies = {verb: answer(given) for verb, given in vector["replies"].items()}
    implicit = service == "submissions"
    async with SmtpServer(answers=replies, certificate=certificate, implicit=implicit) as server:
        administrator = vector.get("source", "dns") in ("static", "site", "sender")
        tls = demanded_tls(verify.tls, service)
        key = RelayKey(HOST, server.port)
        check = Check(1, key, (ip_address("127.0.0.1"),), 0, implicit, tls, administrator)
        began = time.monotonic()
        async with Verifier(verify).conversations(check) as speaking:
            result = combine(speaking.result.servers, administrator=administrator)
        lasted = time.monotonic() - began
        await server.ended(1)
        [said] = server.conversations
    greeting = [line for line in said.lines if line.startswith(("EHLO", "HELO"))]
    made = {
        "verdict": str(result.verdict),
        "failure": "lasting" if result.permanent else "busy" if result.transient_reply else "passing",
        "said": said.verbs,
        "hello": next(iter(greeting), ""),
        "mail": next((line for line in said.lines if line.startswith("MAIL")), ""),
        "tls": result.tls,
        "auth": result.auth,
        "wants_auth": result.wants_auth,
        "lasted": min(lasted, expected.get("lasted", 0.0)),
    }
    assert {key: made[key] for key in expected} == expected
