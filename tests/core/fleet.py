"""An exercise: 480 hosts at 12 sites, by simulation of the core, with the zones that `salsactl zone` writes.

Each site publishes its own relay and, as the second choice, that of the next site. All hosts start within a minute,
as after a power cut; later the relay of one site is dead for two hours. `python -m tests.core.fleet` draws the load.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from ipaddress import ip_address, ip_network
from math import ceil
from pathlib import Path
from random import Random

import dns.name
import dns.rdatatype
import dns.zone

from benchmarks import plot
from salsa_agent.core.model import Answer, CheckResult, Mx, Outcome, Question, RRType, Verdict
from salsa_agent.core.settings import Settings
from salsa_agent.oneshot import zone, zone_file
from tests.core.sim import OK, World

SITES, HOSTS = 12, 40
HOUR = 3600.0
DIES, RETURNS, ENDS = 2.25 * HOUR, 4.25 * HOUR, 6 * HOUR
DEAD_SITE = 3
PICTURES = Path(__file__).parents[2] / "docs" / "fleet"
REFUSED = CheckResult(Verdict.FAILED, "connection refused")
STEP = 300.0  # seconds: the load is counted in pieces of five minutes


def relay_of(site: int) -> str:
    return f"relay{site}.corp.example"


def zones() -> list[dns.zone.Zone]:
    """The reverse zone of each site as `salsactl zone` writes it, and the one that has the relays' addresses."""
    texts = []
    for site in range(SITES):
        mx = (Mx(10, relay_of(site)), Mx(20, relay_of((site + 1) % SITES)))
        form = zone_file.Form(mx, servers=("ns1.corp.example",), serial=1)
        (reverse,) = zone.zones_for([ip_network(f"10.{site}.0.0/16")])
        texts.append((reverse.name, "\n".join(zone_file.text(reverse, form))))
    forward = ["$TTL 3600", "@ IN SOA ns1 hostmaster 1 86400 7200 3600000 3600", "@ IN NS ns1", "ns1 IN A 10.0.0.53"]
    forward += [f"relay{site} IN A 10.{site}.0.25" for site in range(SITES)]
    texts.append(("corp.example", "\n".join(forward)))
    return [dns.zone.from_text(text + "\n", origin=f"{name}.") for name, text in texts]


@dataclass(slots=True)
class Resolver:
    """The resolver of a site, which caches; `asked` and `fetched` count questions by piece of time."""

    zones: list[dns.zone.Zone]
    cache: dict[tuple[str, RRType], tuple[Answer, float]] = field(default_factory=dict)
    asked: Counter[int] = field(default_factory=Counter)
    fetched: Counter[int] = field(default_factory=Counter)

    def answer(self, question: Question, now: float) -> Answer:
        """From the cache with what is left of the TTL, else from the zones."""
        self.asked[int(now / STEP)] += 1
        key = question.name, question.rtype
        found, end = self.cache.get(key, (None, 0.0))
        if found is None or now >= end:
            found = _look_up(self.zones, question)
            end = now + (found.ttl or 0)
            self.cache[key] = found, end
            self.fetched[int(now / STEP)] += 1
        return found._replace(ttl=ceil(end - now))


def _look_up(zones: list[dns.zone.Zone], question: Question) -> Answer:
    name = dns.name.from_text(question.name)
    for each in zones:
        if each.origin is not None and name.is_subdomain(each.origin):
            rdataset = each.get_rdataset(name, dns.rdatatype.from_text(question.rtype.name))
            if rdataset is not None and question.rtype is RRType.MX:
                mx = tuple(Mx(rdata.preference, rdata.exchange.to_text()) for rdata in rdataset)
                return Answer(Outcome.FOUND, mx=mx, ttl=rdataset.ttl, rcode="NOERROR")
            if rdataset is not None:
                addresses = tuple(ip_address(rdata.address) for rdata in rdataset)
                return Answer(Outcome.FOUND, addresses=addresses, ttl=rdataset.ttl, rcode="NOERROR")
            soa = each.get_soa()
            return Answer(Outcome.NONE, ttl=min(soa.minimum, 3600), rcode="NXDOMAIN")
    return Answer(Outcome.NONE, ttl=3600, rcode="NXDOMAIN")


class Host(World):
    """One host: its site's resolver answers, and the relays do, but for the dead one while it is dead."""

    def __init__(self, site: int, number: int, resolver: Resolver) -> None:
        super().__init__(Settings(), identity=f"{site}.{number}".encode())
        self.site = site
        self.resolver = resolver
        self.now = 0.0
        self.address = f"10.{site}.{1 + number // 8}.{10 + number}"
        self.answers: dict[tuple[str, RRType], list[tuple[float, int]]] = {}  # when, with which TTL

    def answer(self, question: Question) -> Answer:
        answer = self.resolver.answer(question, self.now)
        self.answers.setdefault((question.name, question.rtype), []).append((self.now, answer.ttl or 0))
        return answer

    def verdict(self, key: object) -> CheckResult:
        dead = getattr(key, "host", "") == relay_of(DEAD_SITE) and DIES <= self.now < RETURNS
        return REFUSED if dead else OK


@dataclass(slots=True)
class Exercise:
    """What came of it. `best`: at each of the moments looked at, the best relays of each site's hosts."""

    hosts: list[Host]
    resolvers: list[Resolver]
    best: dict[float, list[Counter[str]]]


def run(looks: tuple[float, ...]) -> Exercise:
    """All hosts through the six hours, in the order in which their engines want to be woken."""
    random = Random(12)
    published = zones()
    resolvers = [Resolver(published) for _ in range(SITES)]
    hosts = [Host(site, number, resolvers[site]) for site in range(SITES) for number in range(HOSTS)]
    best: dict[float, list[Counter[str]]] = {}
    queue = [(random.uniform(0.0, 60.0), index) for index in range(len(hosts))]
    heapify(queue)
    started: set[int] = set()
    pending = sorted(looks)
    while queue[0][0] < ENDS:
        when, index = queue[0]
        while pending and pending[0] <= when:
            best[pending.pop(0)] = _look(hosts)
        host = hosts[index]
        if index in started:
            host.pass_time(when - host.now)
        else:
            started.add(index)
            host.now = when
            host.start(host.address)
        wake = host.engine.wake_at
        heapreplace(queue, (max(wake, when + 1e-6) if wake is not None else ENDS, index))
    best.update(dict.fromkeys(pending, _look(hosts)))
    return Exercise(hosts, resolvers, best)


def _look(hosts: list[Host]) -> list[Counter[str]]:
    return [Counter(host.best for host in hosts if host.site == site) for site in range(SITES)]


def pictures(exercise: Exercise) -> dict[str, str]:
    """The load on the dead site's resolver and name servers, and on its relay and the next, by time."""
    pieces = range(int(ENDS / STEP))
    hours = [(piece + 0.5) * STEP / HOUR for piece in pieces]
    resolver = exercise.resolvers[DEAD_SITE]
    fetched = sum((one.fetched for one in exercise.resolvers), Counter())
    spoken: dict[str, Counter[int]] = {}
    for host in exercise.hosts:
        for when, check in host.spoken_to:
            spoken.setdefault(check.key.host, Counter())[int(when / STEP)] += 1
    dead, following = relay_of(DEAD_SITE), relay_of(DEAD_SITE + 1)
    away = (DIES / HOUR, RETURNS / HOUR)
    return {
        "questions.svg": plot.over_time(
            f"Questions in five minutes, {SITES} sites with {HOSTS} hosts each", "hours",
            {"one site's hosts to their resolver": list(zip(hours, (resolver.asked[p] for p in pieces), strict=True)),
             "all resolvers to the name servers": list(zip(hours, (fetched[p] for p in pieces), strict=True))},
            away,
        ),
        "conversations.svg": plot.over_time(
            f"Conversations in five minutes; the relay of site {DEAD_SITE} is dead while it is grey", "hours",
            {f"with the relay of site {number}": list(zip(hours, (spoken[name][p] for p in pieces), strict=True))
             for number, name in ((DEAD_SITE, dead), (DEAD_SITE + 1, following))},
            away,
        ),
    }  # fmt: skip


def main() -> None:
    """Draw the pictures of docs/fleet.md."""
    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures(run(())).items():
        (PICTURES / name).write_text(picture)


if __name__ == "__main__":
    main()
