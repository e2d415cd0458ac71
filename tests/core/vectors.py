"""The test vectors of `conformance/` (its README has the format), and the core run on one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from salsa_agent.core.addresses import counting
from salsa_agent.core.events import FactsRead, LinkRelaysSet, ServersRead
from salsa_agent.core.model import (
    Answer,
    DefaultRoute,
    HostAddress,
    Link,
    LinkRelays,
    Mx,
    NetworkFacts,
    Outcome,
    Question,
    RelayKey,
    RouteChoice,
    RRType,
)
from salsa_agent.core.settings import Network, Policy, Settings, Verify
from salsa_agent.text import host_port, split_host_port
from tests.core.sim import DEAD, NXDOMAIN, OK, VIEW, World

FOLDER = Path(__file__).parents[2] / "conformance"
FLAGS = {"secondary": 0x01, "temporary": 0x01, "dadfailed": 0x08, "deprecated": 0x20, "tentative": 0x40}
SCOPES = {"global": 0, "link": 253, "host": 254}  # linux/rtnetlink.h
FAMILIES = {"ipv4": 2, "ipv6": 10}
FAILURES = ("SERVFAIL", "REFUSED", "timeout")

Vector = dict[str, Any]


def vectors() -> Iterator[tuple[str, Vector]]:
    """Every vector with the name of its file."""
    for path in sorted(FOLDER.glob("*.json")):
        for vector in json.loads(path.read_text()):
            yield path.stem, vector


def facts(host: Vector) -> NetworkFacts:
    """What the kernel says of the vector's host."""
    links: set[Link] = set()
    addresses: set[HostAddress] = set()
    defaults: set[DefaultRoute] = set()
    for link in host["links"]:
        index = link["index"]
        links.add(Link(index, link["name"], usable=link.get("up", True), loopback=link.get("loopback", False)))
        addresses.update(_address(given, index) for given in link["addresses"])
        metric = link.get("default_metric", {})
        by_family = metric if isinstance(metric, dict) else {"ipv4": metric}
        defaults.update(DefaultRoute(FAMILIES[family], index, number) for family, number in by_family.items())
    indexes = {link.name: link.index for link in links}
    choices = {
        RouteChoice(FAMILIES[family], indexes[choice["link"]], ip_address(choice["source"]))
        for family, choice in host.get("outside", {}).items()
    }
    return NetworkFacts(frozenset(links), frozenset(addresses), frozenset(defaults), frozenset(choices))


def settings(config: Vector) -> Settings:
    """The settings of the vector, under the keys of salsa-agent.toml(5)."""
    config = dict(config)
    port = config.pop("smtp.port", 25)
    made = Settings(
        static_relays=tuple(relay_key(text, port) for text in config.pop("static.relays", ())),
        smtp_port=port,
        network=Network(**_table(config, "network")),
        verify=Verify(**_table(config, "verify")),
        policy=Policy(**_table(config, "policy")),
    )
    assert not config, f"unknown keys {sorted(config)}"
    return made


def relay_key(text: str, port: int) -> RelayKey:
    """A relay as it is configured; `port`: of one that is written without."""
    host, given = split_host_port(text)
    return RelayKey(host, given or port)


class Run:
    """The core on one vector, until it has decided."""

    def __init__(self, vector: Vector) -> None:
        self._zones: Vector = vector.get("zones", {})
        self._authenticated = set(vector.get("authenticated", ()))
        host = facts(vector["host"])
        configured = settings(vector.get("config", {}))
        self.addresses = counting(host, configured.network.ignore)
        self.world = world = World(configured)
        world.answer = self._answer  # type: ignore[method-assign]
        world.relays = {name: OK if verdict == "ok" else DEAD for name, verdict in vector.get("relays", {}).items()}
        indexes = {link.name: link.index for link in host.links}
        given = [
            LinkRelays(indexes[name], name, tuple(relay_key(text, 0) for text in relays))
            for name, relays in vector.get("link_relays", {}).items()
        ]
        world.send(ServersRead(VIEW), LinkRelaysSet(tuple(given)), FactsRead(host))
        if world.state == "starting":
            world.pass_time(3.0)  # E6: put off, since nobody outside this host answered anything

    def _answer(self, question: Question) -> Answer:
        """What a recursive resolver says for the vector's zones: aliases are followed."""
        name, alias = question.name, ""
        for _ in range(8):
            node = self._zones.get(name)
            records = node if isinstance(node, str) else (node or {}).get(question.rtype, [])
            if isinstance(records, str):
                assert records in FAILURES
                return Answer(Outcome.FAILED, rcode="" if records == "timeout" else records, reason=records)
            if node is None:
                return NXDOMAIN
            if "CNAME" not in node:
                break
            alias = node["CNAME"]
            name = alias.removesuffix(".")
        if not records:
            return NXDOMAIN._replace(rcode="NOERROR")
        answer = Answer(
            Outcome.FOUND, ttl=3600, rcode="NOERROR", alias_of=alias, authenticated=question.name in self._authenticated
        )
        if question.rtype is RRType.MX:
            fields = [record.split() for record in records]
            return answer._replace(mx=tuple(Mx(int(preference), exchange) for preference, exchange in fields))
        return answer._replace(addresses=tuple(ip_address(text) for text in records))

    def result(self) -> Vector:
        """What came of it, under the keys of a vector's `expect`."""
        said = self.world.said
        return {
            "addresses": [str(address.ip) for address in self.addresses],
            "outcomes": [_outcome(one) for one in said.evidence],
            "asked_mx": sorted(set(self.world.questions())),
            "asked_hosts": sorted({question.name for question in self.world.asked if question.rtype is not RRType.MX}),
            "asked_once": len(set(self.world.asked)) == len(self.world.asked),
            "relays": [_relay(one.relay.key, one.relay.source) for one in said.relays],
            "best": _relay(RelayKey(said.best.host, said.best.port), said.best.source) if said.best.host else None,
            "state": str(said.state),
            "dropped": [f"{drop.host} {drop.rule}" for drop in said.dropped],
            "spoken_to": [check.key.host for check in self.world.checked],
        }


def comparable(result: Vector, expected: Vector) -> Vector:
    """What of a result `expected` (as `in_any_order` gives it) is about, in its form: groups, lists without order."""
    spoken_to = result["spoken_to"]
    static = {split_host_port(relay.split()[0])[0] for relay in result["relays"] if relay.endswith(" static")}
    made = result | {
        "asked_hosts": [name for name in result["asked_hosts"] if name not in static],
        "relays": _grouped(result["relays"], expected.get("relays", [])),
        "spoken_to": [name for name in expected.get("spoken_to", ()) if name in spoken_to],
        "not_spoken_to": [name for name in expected.get("not_spoken_to", ()) if name not in spoken_to],
    }
    return in_any_order({key: made[key] for key in expected})


def in_any_order(expected: Vector) -> Vector:
    """`expect` with those of its lists sorted that have no order."""
    unordered = {"asked_mx", "asked_hosts", "dropped", "spoken_to", "not_spoken_to"}
    made = {key: sorted(value) if key in unordered else value for key, value in expected.items()}
    if "relays" in made:
        made["relays"] = [sorted(one) if isinstance(one, list) else one for one in made["relays"]]
    return made


def _address(given: Any, index: int) -> HostAddress:
    given = {"address": given} if isinstance(given, str) else given
    interface = ip_interface(given["address"])
    made = HostAddress(
        interface.ip,
        index,
        SCOPES[given.get("scope", "global")],
        sum(FLAGS[flag] for flag in given.get("flags", ())),
        prefixlen=interface.network.prefixlen,
    )
    return replace(made, preferred=given.get("preferred_lifetime", 1) != 0)


def _table(config: Vector, table: str) -> Vector:
    """The keys of one table of the configuration, taken out of `config`."""
    names = [key for key in config if key.startswith(f"{table}.")]
    taken = {name.partition(".")[2]: config.pop(name) for name in names}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in taken.items()}


def _relay(key: RelayKey, source: str) -> str:
    return f"{host_port(*key)} {source}"


def _outcome(evidence: Any) -> Vector:
    made = {"address": str(evidence.address.ip), "outcome": str(evidence.outcome)}
    return made if evidence.level is None else made | {"level": evidence.level, "name": evidence.name}


def _grouped(relays: list[str], expected: list[Any]) -> list[Any]:
    """The list with those sorted that stand where the vector has a group."""
    grouped: list[Any] = []
    rest = relays
    for one in expected:
        size = len(one) if isinstance(one, list) else 1
        grouped += [sorted(rest[:size])] if isinstance(one, list) else rest[:1]
        rest = rest[size:]
    return grouped + rest
