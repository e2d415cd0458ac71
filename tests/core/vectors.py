"""The test vectors of `conformance/` (its README has the format), and the core run on one of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from salsa_agent.core.addresses import counting
from salsa_agent.core.events import Check, FactsRead, FailureReported, LinkRelaysSet, RefreshAsked, ServersRead
from salsa_agent.core.model import (
    Answer,
    CheckResult,
    DefaultRoute,
    HostAddress,
    Link,
    LinkRelays,
    ListedRelay,
    Mx,
    NetworkFacts,
    Outcome,
    Question,
    RelayKey,
    RouteChoice,
    RRType,
    Server,
    ServerView,
    Srv,
    Verdict,
)
from salsa_agent.core.settings import Dns, Network, Policy, Sender, Settings, Verify
from salsa_agent.daemon.quotas import ReportQuota
from salsa_agent.text import host_port, split_host_port
from tests.core.sim import DEAD, NXDOMAIN, OK, World

FOLDER = Path(__file__).parents[2] / "conformance"
FLAGS = {"secondary": 0x01, "temporary": 0x01, "dadfailed": 0x08, "deprecated": 0x20, "tentative": 0x40}
SCOPES = {"global": 0, "link": 253, "host": 254}  # linux/rtnetlink.h
FAMILIES = {"ipv4": 2, "ipv6": 10}
FAILURES = ("SERVFAIL", "REFUSED", "timeout")
CONFIGURED = "192.0.2.53"  # the name server where a vector names none
GATEWAY = "192.0.2.1"
VERDICTS = {
    "ok": OK,
    "failed": DEAD,
    "refused": CheckResult(Verdict.FAILED, "greeting: 554 no service for you", permanent=True),
    "busy": CheckResult(Verdict.FAILED, "greeting: 421 too busy", transient_reply=True),
}

Vector = dict[str, Any]


SENTENCES = "sentences"  # the file that says which vectors test which sentence of the draft
CORE = ("a-addresses", "b-ladder", "b-srv", "c-list", "d-best")  # what `salsa.pl` claims to pass


def vectors() -> Iterator[tuple[str, Vector]]:
    """Every vector with the name of its file."""
    for path in sorted(FOLDER.glob("*.json")):
        if path.stem != SENTENCES:
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
        defaults.update(DefaultRoute(FAMILIES[family], index, number, GATEWAY) for family, number in by_family.items())
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
        dns=Dns(**_table(config, "dns")),
        senders=tuple(_sender(one) for one in config.pop("sender", ())),
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
    """The core on one vector: until it has decided, then through the vector's steps."""

    def __init__(self, vector: Vector, number: int = 0) -> None:
        """`number`: of the host among those of a fleet."""
        self._zones: Vector = dict(vector.get("zones", {}))
        self._ttl: Vector = vector.get("ttl", {})
        self._authenticated = set(vector.get("authenticated", ()))
        self._quota = ReportQuota()
        self._users: dict[str, int] = {}
        self._accepted: list[bool] = []
        self._asked_before = 0
        self._listed_before: tuple[ListedRelay, ...] = ()
        host = facts(vector["host"])
        self.settings = configured = settings(vector.get("config", {}))
        self.addresses = counting(host, configured.network.ignore)
        self.world = world = World(configured, identity=b"machine %d" % number, seed=number)
        world.answer = self._answer  # type: ignore[method-assign]
        self._change(vector)
        indexes = {link.name: link.index for link in host.links}
        given = [
            LinkRelays(indexes[name], name, tuple(relay_key(text, 0) for text in relays))
            for name, relays in vector.get("link_relays", {}).items()
        ]
        world.send(ServersRead(view(vector["host"])), LinkRelaysSet(tuple(given)), FactsRead(host))
        if world.state == "starting" and "steps" not in vector:
            world.pass_time(3.0)  # E6: put off, since nobody outside this host answered anything

    def step(self, step: Vector) -> None:
        """Let the time of the step pass, then have happen what it says happens."""
        world = self.world
        self._asked_before, self._accepted = len(world.asked), []
        self._listed_before = world.said.relays
        world.pass_time(step.get("after", 0.0))
        self._change(step)
        if "host" in step:
            host = facts(step["host"])
            self.addresses = counting(host, self.settings.network.ignore)
            world.send(ServersRead(view(step["host"])), FactsRead(host))
        for report in step.get("reports", ()):
            key = relay_key(report["relay"], 25)
            user = self._users.setdefault(report["by"], 1000 + len(self._users))
            accepted = not (world.engine.report_refused(key, world.now) or self._quota.refusal(user, key, world.now))
            self._accepted.append(accepted)
            if accepted:
                world.send(FailureReported(key, "relaying denied"))
        for _ in range(step.get("refresh", 0)):
            world.send(RefreshAsked(1, root=True))
            world.pass_time(1.0)

    def _change(self, given: Vector) -> None:
        """What the world is from now on, as far as a vector or a step says."""
        world = self.world
        self._zones |= given.get("zones", {})
        verdicts = {name: verdict for name, verdict in given.get("relays", {}).items() if verdict != "silent"}
        world.relays |= {name: VERDICTS[verdict] for name, verdict in verdicts.items()}
        world.mute |= given.get("relays", {}).keys() - verdicts.keys()
        if "nat" in given:
            world.outside = ip_address(given["nat"])
        if "silent" in given:
            silent = set(given["silent"])
            for name in world.silent - silent:
                world.speak(name)
            world.silent = silent

    def _answer(self, question: Question) -> Answer:
        """What a recursive resolver says for the vector's zones: aliases are followed."""
        name, alias = question.name, ""
        ttl = self._ttl.get(name, 3600)
        for _ in range(8):
            node = self._zones.get(name)
            records = node if isinstance(node, str) else (node or {}).get(question.rtype, [])
            if isinstance(records, str):
                assert records in FAILURES
                return Answer(Outcome.FAILED, rcode="" if records == "timeout" else records, reason=records)
            if node is None:
                return NXDOMAIN._replace(ttl=ttl)
            if "CNAME" not in node:
                break
            alias = node["CNAME"]
            name = alias.removesuffix(".")
        if not records:
            return NXDOMAIN._replace(rcode="NOERROR", ttl=ttl)
        answer = Answer(
            Outcome.FOUND, ttl=ttl, rcode="NOERROR", alias_of=alias, authenticated=question.name in self._authenticated
        )
        fields = [record.split() for record in records]
        if question.rtype is RRType.MX:
            return answer._replace(mx=tuple(Mx(int(preference), exchange) for preference, exchange in fields))
        if question.rtype is RRType.SRV:
            return answer._replace(srv=tuple(Srv(int(p), int(w), int(port), target) for p, w, port, target in fields))
        return answer._replace(addresses=tuple(ip_address(text) for text in records))

    def result(self) -> Vector:
        """What came of it, under the keys of a vector's `expect`."""
        world, said = self.world, self.world.said
        in_step = world.asked[self._asked_before :]
        return {
            "addresses": [str(address.ip) for address in self.addresses],
            "outcomes": [_outcome(one) for one in said.evidence],
            "asked_mx": sorted(set(world.questions())),
            "asked_srv": sorted(set(world.questions(RRType.SRV))),
            "asked_hosts": sorted({q.name for q in world.asked if q.rtype in (RRType.A, RRType.AAAA)}),
            "asked_once": len(set(world.asked)) == len(world.asked),
            "asked_of": {q.name: [server.address for server in q.servers] for q in world.asked},
            "asked": sorted({question.name for question in in_step}),
            "in_flight": len(world.in_flight),
            "nat_asked": bool(world.nat_requests),
            "relays": [_relay(one.relay.key, one.relay.source) for one in said.relays],
            "same_order": [one.relay.key for one in said.relays] == [one.relay.key for one in self._listed_before],
            "levels": {host_port(*one.relay.key): one.relay.level for one in said.relays},
            "best": _relay(RelayKey(said.best.host, said.best.port), said.best.source) if said.best.host else None,
            "best_for": {sender.address[0]: host_port(*sender.best[:2]) for sender in said.senders},
            "state": str(said.state),
            "dropped": [f"{drop.host} {drop.rule}" for drop in said.dropped],
            "spoken_to": [check.key.host for check in world.checked],
            "tls": {host_port(*check.key): _demand(check) for check in world.checked},
            "conversations": len(world.spoken_to),
            "accepted": self._accepted,
        }


def asked_by(fleet: Sequence[Run], names: Iterable[str]) -> dict[str, str]:
    """By which hosts of a fleet these names were asked in the last step."""
    askers = {name: [name in run.result()["asked"] for run in fleet] for name in names}
    return {name: "all" if all(asked) else "some" if any(asked) else "none" for name, asked in askers.items()}


def differences(vector: Vector) -> list[tuple[int, Vector, Vector]]:
    """Where the core does otherwise than a vector expects: the step (0: the decision), what it did, what it should."""
    fleet = [Run(vector, number) for number in range(vector.get("fleet", 1))]
    wrong = []
    for number, step in enumerate((vector, *vector.get("steps", ()))):
        for run in fleet if number else ():
            run.step(step)
        expected = in_any_order(step.get("expect", {}))
        made = fleet[0].result() | {"asked_by": asked_by(fleet, expected.get("asked_by", ()))}
        if (seen := comparable(made, expected)) != expected:
            wrong.append((number, seen, expected))
    return wrong


def view(host: Vector) -> ServerView:
    """The name servers of the vector's links."""
    links = tuple(
        (link["index"], tuple(Server(address) for address in link["nameservers"]))
        for link in host["links"]
        if "nameservers" in link
    )
    return ServerView((Server(CONFIGURED),), links)


def _demand(check: Check) -> str:
    """What a relay is asked for: `implicit` TLS, `starttls`, or `any` way that it is spoken to."""
    return "implicit" if check.implicit_tls else "any" if check.tls == "off" else "starttls"


def _sender(given: Vector) -> Sender:
    relays = tuple(relay_key(text, 587) for text in given["relays"])
    return Sender(tuple(given["address"]), relays, given.get("network", "never"))


def comparable(result: Vector, expected: Vector) -> Vector:
    """What of a result `expected` (as `in_any_order` gives it) is about, in its form: groups, lists without order."""
    spoken_to = result["spoken_to"]
    static = {split_host_port(relay.split()[0])[0] for relay in result["relays"] if relay.endswith(" static")}
    made = result | {
        "asked": [name for name in expected.get("asked", ()) if name in result.get("asked", ())],
        "not_asked": [name for name in expected.get("not_asked", ()) if name not in result.get("asked", ())],
        "asked_of": {name: result.get("asked_of", {}).get(name) for name in expected.get("asked_of", ())},
        "most_conversations": max(result.get("conversations", 0), expected.get("most_conversations", 0)),
        "asked_hosts": [name for name in result["asked_hosts"] if name not in static],
        "relays": _grouped(result["relays"], expected.get("relays", [])),
        "spoken_to": [name for name in expected.get("spoken_to", ()) if name in spoken_to],
        "not_spoken_to": [name for name in expected.get("not_spoken_to", ()) if name not in spoken_to],
    }
    return in_any_order({key: made[key] for key in expected})


def in_any_order(expected: Vector) -> Vector:
    """`expect` with those of its lists sorted that have no order."""
    unordered = {"asked_mx", "asked_srv", "asked", "not_asked", "asked_hosts", "dropped", "spoken_to", "not_spoken_to"}
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
