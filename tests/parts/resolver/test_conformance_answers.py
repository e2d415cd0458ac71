"""The vectors of answers of name servers (conformance/f-answers.json), against a server that answers as they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from salsa_agent.config.values import trusted_server
from salsa_agent.core.model import Question, RRType
from salsa_agent.core.settings import Dns
from salsa_agent.resolver.resolver import Resolver
from tests.core.vectors import FOLDER, Vector
from tests.lab.dnsserver import dns_server

VECTORS: list[Vector] = json.loads((FOLDER / "f-answers.json").read_text())


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['rule']}: {v['name']}") for v in VECTORS])
async def test_conformance_of_an_answer(vector: Vector) -> None:
    config = {key.partition(".")[2]: value for key, value in vector.get("config", {}).items()}
    trusted = tuple(map(trusted_server, config.pop("trust_ad", ())))
    name, rtype = vector["question"]
    behaviour = {key: vector[key] for key in ("ad", "additional", "rcode", "silent") if key in vector}
    at = name
    zone: dict[str, Any] = {}
    if "alias" in vector:
        at, zone = vector["alias"], {name: {"CNAME": [f"{vector['alias']}."]}}
    zone[at] = {rtype: {"answer": vector["records"], **behaviour}}
    async with dns_server(zone) as server:
        resolver = Resolver(Dns(servers=(server.server,), trust_ad=trusted, **config))
        answer = await resolver.ask(Question(name, RRType(rtype), (server.server,)))
    made = {
        "outcome": str(answer.outcome),
        "authenticated": answer.authenticated,
        "exchanges": [mx.exchange for mx in answer.mx],
        "addresses": [str(ip) for ip in answer.addresses],
    }
    assert {key: made[key] for key in vector["expect"]} == vector["expect"]
