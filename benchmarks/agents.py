"""`python -m benchmarks.agents`: the model of `benchmarks.scale` beside a hundred real agents, for docs/scale.md.

Each host has a network namespace of its own, in which the real agent runs. They roam between /24s that publish a relay,
ask one real unbound, which caches, and unbound asks a real BIND, whose log has what reached the name server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import log
from pathlib import Path
from typing import Any, Self

from benchmarks import scale
from benchmarks.lab import PROJECT, until
from benchmarks.scale import DAY, Fleet
from tests.lab.netns import Netns, veth

RESOLVER, AUTHORITY, RELAY, ROUTER = "10.77.0.53", "10.77.0.54", "10.77.0.25", "10.77.0.1"
EXCHANGE = "relay.corp.example"
NAME, PATH, INTERFACE = "org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1"
PATIENCE = 60.0
_QUERY = re.compile(r"query: (\S+) IN (MX|A|AAAA) ")


def stays(hosts: int, networks: int, mean: float) -> list[list[float]]:
    """How long each host is in each of its networks, in seconds: the quantiles of an exponential distribution."""
    count = hosts * networks
    all_stays = [-mean * log(1 - (index + 0.5) / count) for index in range(count)]
    random.Random(100).shuffle(all_stays)  # noqa: S311  # the same each time
    return [all_stays[host * networks : (host + 1) * networks] for host in range(hosts)]


def bus_address(said: bytes) -> str:
    """The address of its private bus, which an agent prints in a line among those of its log; empty: not yet."""
    found = re.search(rb"^(unix:path=\S+)\n", said, re.MULTILINE)
    return found[1].decode() if found else ""


@dataclass(slots=True)
class Counted:
    """What all agents together did in `seconds` of being on a network, and what reached the servers."""

    seconds: float = 0.0
    questions: int = 0
    checks: int = 0
    at_resolver: int = 0
    at_name_servers: Counter[str] = field(default_factory=Counter)  # of reverse names, by type
    at_relay: int = 0


class Streets:
    """The core of the network, `networks` /24s and the hosts. All is gone with the block."""

    def __init__(self, hosts: int, networks: int, fleet: Fleet) -> None:
        self._fleet, self._networks = fleet, networks
        self._core = Netns()
        self._hosts = [Netns() for _ in range(hosts)]
        self._buses: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salsa-scale-", dir="/run")))
            self._directory.chmod(0o755)
            core = stack.enter_context(self._core)
            core.ip("link", "add", "core0", "type", "bridge")
            core.batch([f"addr add {address}/16 dev core0" for address in (RESOLVER, AUTHORITY, RELAY, ROUTER)])
            core.batch([f"addr add 10.{80 + number}.0.254/24 dev core0" for number in range(self._networks)])
            core.ip("link", "set", "core0", "up")
            self._servers()
            for number, host in enumerate(self._hosts):
                stack.enter_context(host)
                resolver = Path("/etc/netns", host.name, "resolv.conf")  # `ip netns exec` lays it over the host's
                resolver.parent.mkdir(parents=True)
                resolver.write_text(f"nameserver {RESOLVER}\n")
                host.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
                veth(host, "up0", core, f"down{number}")
                core.ip("link", "set", f"down{number}", "master", "core0")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _servers(self) -> None:
        for program, text in (("named", self._named()), ("unbound", self._unbound())):
            (self._directory / f"{program}.conf").write_text(text)
        self._start(self._core, "named", ["named", "-g", "-n", "1", "-c", str(self._directory / "named.conf")])
        self._start(self._core, "unbound", ["unbound", "-d", "-p", "-c", str(self._directory / "unbound.conf")])
        relay = ["-m", "tests.lab.smtpserver", "--listen", RELAY, "--log", str(self._directory / "conversations")]
        self._start(self._core, "relay", [sys.executable, *relay])
        until(lambda: b"running" in self._log("named"), "BIND runs", patience=PATIENCE)
        until(lambda: self._control("status"), "unbound runs", patience=PATIENCE)
        until(lambda: b"listening" in self._log("relay"), "the relay listens", patience=PATIENCE)

    def _named(self) -> str:
        """Zones of which each /24 has an MX set, and what has none has the negative TTL of the model."""
        fleet = self._fleet
        zones = []
        texts = {"corp.example": [f"ns IN A {AUTHORITY}", f"relay IN A {RELAY}"]}
        for number in range(self._networks):
            texts[f"{80 + number}.10.in-addr.arpa"] = [f"0 IN MX 10 {EXCHANGE}."]
        soa = "IN SOA ns.corp.example. root.corp.example. 1 3600 600 86400"
        for name, lines in texts.items():
            head = [f"$TTL {fleet.ttl:.0f}", f"@ {fleet.negative:.0f} {soa} {fleet.negative:.0f}"]
            text = [*head, "@ IN NS ns.corp.example.", *lines]
            path = self._directory / f"{name}.zone"
            path.write_text("\n".join(text) + "\n")
            zones.append(f'zone "{name}" {{ type primary; file "{path}"; }};')
        options = [
            f'options {{ directory "{self._directory}"; pid-file "{self._directory}/pid";',
            f'session-keyfile "{self._directory}/key"; listen-on {{ {AUTHORITY}; }}; listen-on-v6 {{ none; }};',
            "recursion no; dnssec-validation no; empty-zones-enable no; querylog yes; };",
            "controls { };",
        ]
        return "\n".join([*options, *zones, ""])

    def _unbound(self) -> str:
        """It asks BIND for these zones, and asks what it is asked: without the steps of RFC 9156, which come on top."""
        lines = [
            "server:", f"interface: {RESOLVER}", f'directory: "{self._directory}"', 'chroot: ""', 'username: ""',
            'pidfile: ""', "use-syslog: no", "do-daemonize: no", "num-threads: 1", "access-control: 10.0.0.0/8 allow",
            "qname-minimisation: no", 'module-config: "iterator"', 'local-zone: "10.in-addr.arpa." nodefault',
            "do-ip6: no", "statistics-cumulative: yes", "minimal-responses: yes",
        ]  # fmt: skip
        for name in ("corp.example", *(f"{80 + number}.10.in-addr.arpa" for number in range(self._networks))):
            lines += ["stub-zone:", f'name: "{name}"', f"stub-addr: {AUTHORITY}"]
        lines += ["stub-zone:", 'name: "10.in-addr.arpa"', f"stub-addr: {AUTHORITY}"]
        control = ["remote-control:", "control-enable: yes", f"control-interface: {self._directory}/control"]
        return "\n".join([*lines, *control, "control-use-cert: no", ""])

    def _start(self, where: Netns, name: str, argv: Sequence[str], **environment: str) -> subprocess.Popen[Any]:
        with (self._directory / f"{name}.log").open("wb") as log_file:
            return where.exec(
                argv, stdout=log_file, stderr=log_file, stdin=subprocess.DEVNULL, cwd=PROJECT,
                env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": "", **environment},
            )  # fmt: skip

    def _log(self, name: str) -> bytes:
        return (self._directory / f"{name}.log").read_bytes()

    def _control(self, *words: str) -> str:
        config = str(self._directory / "unbound.conf")
        done = subprocess.run(
            ["unbound-control", "-c", config, *words], check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.stdout if done.returncode == 0 else ""

    # --- the hosts

    def start(self) -> Iterator[int]:
        """Start the agents one after the other, each on no network yet; how many run."""
        none = f"unix:path={self._directory}/no-bus"
        for number, host in enumerate(self._hosts):
            self._start(
                host, f"agent{number}", [sys.executable, "-m", "salsa_agent.cli.agent"], DBUS_SYSTEM_BUS_ADDRESS=none
            )
            until(lambda number=number: self._address(number), f"agent {number} has a bus", patience=PATIENCE)
            self._buses.append(self._address(number))
            until(lambda number=number: self._get(number, "State") == "offline", "it runs", patience=PATIENCE)
            yield number + 1

    def _address(self, number: int) -> str:
        return bus_address(self._log(f"agent{number}"))

    def roam(self, host: int, network: int) -> None:
        """The host is in this network now, and in no other."""
        self.leave(host)
        prefix = f"10.{80 + network}.0"
        lines = [f"addr add {prefix}.{1 + host}/24 dev up0", f"route replace default via {prefix}.254"]
        self._hosts[host].batch(lines)

    def leave(self, host: int) -> None:
        self._hosts[host].ip("addr", "flush", "dev", "up0")

    def _get(self, number: int, member: str) -> Any:
        bus = f"--address={self._buses[number]}"
        done = subprocess.run(
            ["busctl", bus, "--json=short", "get-property", NAME, PATH, INTERFACE, member],
            check=False, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return json.loads(done.stdout)["data"] if done.returncode == 0 else None

    def best(self, host: int) -> str:
        """Its best relay, empty if there is none."""
        return str(self._get(host, "BestRelay"))

    def counted(self, seconds: float) -> Counted:
        """The sums of the agents' `Statistics`, and what the servers count."""
        counted = Counted(seconds)
        for number in range(len(self._hosts)):
            statistics = self._get(number, "Statistics")
            counted.questions += statistics["questions"]
            counted.checks += statistics["checks"]
        numbers = dict(line.split("=") for line in self._control("stats_noreset").splitlines())
        counted.at_resolver = int(numbers["total.num.queries"])
        for name, rtype in _QUERY.findall(self._log("named").decode()):
            if name.lower().endswith(".in-addr.arpa"):
                counted.at_name_servers[rtype] += 1
        counted.at_relay = len((self._directory / "conversations").read_text().splitlines())
        return counted


def fleet_of(hosts: int, networks: int, stay: float, ttl: float) -> Fleet:
    """What the model is to say of them. `stay`: the mean, `ttl`: also of negative answers; in seconds."""
    return Fleet(roams=DAY / stay, ttl=ttl, negative=ttl, publishing=1.0, behind=hosts / networks)


def measure(hosts: int, networks: int, fleet: Fleet, *, progress: bool = False) -> Counted:
    """Let them roam, each through its own networks in its own time, all from the same moment on."""
    plan = stays(hosts, networks, fleet.stay)
    with Streets(hosts, networks, fleet) as streets:
        for running in streets.start():
            if progress and running % 10 == 0:
                print(f"{running} of {hosts} agents run", file=sys.stderr)
        begun = time.monotonic()
        queue = [(0.0, host, 0) for host in range(hosts)]
        heapify(queue)
        while queue:
            due, host, visited = heappop(queue)
            if progress and visited == 0 and host == 0:
                print(f"they roam; the longest way takes {max(map(sum, plan)):.0f} s", file=sys.stderr)
            time.sleep(max(0.0, begun + due - time.monotonic()))
            if visited == networks:
                streets.leave(host)
                continue
            streets.roam(host, (host + visited) % networks)
            heappush(queue, (due + plan[host][visited], host, visited + 1))
        return streets.counted(sum(map(sum, plan)))


def rows(fleet: Fleet, counted: Counted) -> Iterator[tuple[str, float, int]]:
    """Each number of the model for so many host-seconds, and what was counted."""
    days = counted.seconds / DAY
    yield "questions of the agents, by `Statistics`", scale.to_resolver(fleet) * days, counted.questions
    yield "questions that reached unbound", scale.to_resolver(fleet) * days, counted.at_resolver
    yield (
        "questions for reverse names that reached BIND",
        scale.to_reverse_zones(fleet) * days,
        counted.at_name_servers["MX"],
    )
    yield "conversations of the agents, by `Statistics`", scale.to_relays(fleet) * days, counted.checks
    yield "conversations that the relay had", scale.to_relays(fleet) * days, counted.at_relay


def main() -> None:
    """Measure, and print the rows of the table in docs/scale.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents", description=main.__doc__)
    parser.add_argument("--hosts", type=int, default=100, metavar="N", help="(default %(default)s)")
    parser.add_argument("--networks", type=int, default=3, metavar="N", help="each is in so many (default %(default)s)")
    parser.add_argument("--stay", type=float, default=60.0, metavar="S", help="mean, in seconds (default %(default)s)")
    parser.add_argument("--ttl", type=float, default=60.0, metavar="S", help="also of nothing (default %(default)s)")
    given = parser.parse_args()
    fleet = Fleet(
        roams=DAY / given.stay, ttl=given.ttl, negative=given.ttl, publishing=1.0, behind=given.hosts / given.networks
    )
    counted = measure(given.hosts, given.networks, fleet, progress=True)
    print("| | model | counted | counted / model |\n|---|---|---|---|")
    for what, model, seen in rows(fleet, counted):
        print(f"| {what} | {model:,.0f} | {seen:,} | {seen / model:.2f} |")


if __name__ == "__main__":
    main()
