"""`python -m benchmarks.dashboard`: what the Grafana dashboard of examples/ shows of three hosts that roam, as SVG.

Three real agents, each in a world of its own (`tests.lab.whole`); `salsactl metrics --textfile`, node_exporter and
Prometheus, which answers the queries of the panels. Only the drawing is not Grafana's. As root; it takes three minutes.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.panels import Panel, Series, panels
from benchmarks.panels_svg import picture
from tests.lab.bus import PROJECT
from tests.lab.monitoring import prometheus, tool
from tests.lab.netns import Netns
from tests.lab.whole import CONFIG, HOME, NOC, RELAYS, VERTEX, ZONE, World, until

DASHBOARD = PROJECT / "examples" / "monitoring" / "grafana.json"
PICTURE = PROJECT / "docs" / "dashboard.svg"
HOSTS = ("A", "B", "C")
STEP = 1.0  # seconds, as Prometheus asks
# what Grafana puts in for all hosts, and the time over which rates are taken
VARIABLES = {"instance": ".*", "__rate_interval": "15s"}
QUICK_DNS = "[dns]\ntimeout = 1.0\nattempts = 1\n"  # so that a name server that is silent shows within the picture
TORONTO, ELSEWHERE = "165.154.15.{}", "198.51.100.{}"  # the first one's reverse tree names NOC and VERTEX
LENGTH = 170.0


class Host:
    """A host in a world of its own, with its agent, and its metrics in a directory."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self._world = name, world
        self.metrics = world.directory / "metrics"
        self.metrics.mkdir()
        self.relays_live()
        self.start()
        argv = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "--bus", "system", "metrics", "--textfile"]
        again = 'while :; do "$@"; sleep 1; done'
        world.start(world.host, ["sh", "-c", again, "sh", *argv, str(self.metrics / "salsa.prom")])

    def start(self) -> None:
        self._agent = self._world.agent(CONFIG + QUICK_DNS)

    def stop(self) -> None:
        self._agent.end(signal.SIGTERM)

    def joins(self, address: str) -> None:
        self._world.leave()
        self._world.join(address)

    def leaves(self) -> None:
        self._world.leave()

    def relay_dies(self, *names: str) -> None:
        """As programs see it, which report what they see."""
        for name in names:
            self._world.kill(name)
        for name in names:
            self._world.call("ReportFailure", "sqs", name, "25", "connection refused")

    def relays_live(self) -> None:
        for name in RELAYS:
            self._world.relay(name)

    def relays_are_back(self) -> None:
        self.relays_live()
        self._world.call("Refresh")

    def dns_is_silent(self) -> None:
        self._world.publish({"": {"*": {"silent": True}}})

    def dns_answers(self) -> None:
        self._world.publish(ZONE)


def plan(a: Host, b: Host, c: Host) -> list[tuple[float, str, Callable[[], None]]]:
    """What is done, and when."""
    return [
        (5, "A joins a network that names two relays", lambda: a.joins(TORONTO.format(1))),
        (10, "B joins it, too", lambda: b.joins(TORONTO.format(2))),
        (15, "C joins a network that names none: its static relay", lambda: c.joins(ELSEWHERE.format(3))),
        (35, "A's first relay dies; a program reports it", lambda: a.relay_dies(NOC)),
        (50, "C roams to the network with relays", lambda: c.joins(TORONTO.format(3))),
        (60, "B's name server falls silent", b.dns_is_silent),
        (62, "B roams to the other network", lambda: b.joins(ELSEWHERE.format(2))),
        (75, "A's first relay is back", a.relays_are_back),
        (85, "B's name server answers again", b.dns_answers),
        (95, "all of C's relays die; programs report them", lambda: c.relay_dies(NOC, VERTEX, HOME)),
        (110, "B's agent is stopped", b.stop),
        (125, "C's relays are back", c.relays_are_back),
        (130, "B's agent is started", b.start),
        (140, "A's cable is pulled", a.leaves),
        (152, "A joins the other network", lambda: a.joins(ELSEWHERE.format(1))),
    ]


def ask(space: Netns, what: str, **parameters: str | float) -> Any:
    """What the Prometheus in this namespace answers; OSError where it does not."""
    connection = HTTPConnection("127.0.0.1", 9090, timeout=10)
    with space.inside(), closing(connection):
        connection.request("GET", f"/api/v1/{what}?{urlencode(parameters)}")
        response = connection.getresponse()
        text = response.read().decode()
    if response.status != HTTPStatus.OK:
        raise OSError(f"Prometheus answers {what} with {response.status}: {text}")
    return json.loads(text)["data"]["result"]


def answers(space: Netns, panel: Panel, span: tuple[float, float]) -> Series:
    """The series of all queries of a panel, by their legends."""
    return {
        target.named(one["metric"]): [(at, float(value)) for at, value in one["values"]]
        for target in panel.targets
        for one in ask(space, "query_range", query=target.expression, start=span[0], end=span[1], step=STEP)
    }


def watch(hosts: Sequence[Host], space: Netns, directory: Path, stack: ExitStack) -> None:
    """A node_exporter for each host, and Prometheus, which has asked each one when this returns."""
    exporter = str(tool("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"))
    targets = [f"127.0.0.1:{9101 + number}" for number in range(len(hosts))]
    for host, target in zip(hosts, targets, strict=True):
        log = stack.enter_context((directory / f"{host.name}.log").open("wb"))
        space.exec(
            [exporter, "--collector.disable-defaults", "--collector.textfile",
             f"--collector.textfile.directory={host.metrics}", f"--web.listen-address={target}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    stack.enter_context(prometheus(space, directory, targets))
    until(lambda: _running(space), lambda running: running == len(hosts), patience=30)


def _running(space: Netns) -> int:
    try:
        return len(ask(space, "query", query="salsa_up == 1"))
    except OSError:
        return 0  # it does not listen yet, or is not ready


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description="Draw the dashboard.")
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the picture goes (%(default)s)")
    given = parser.parse_args()
    with ExitStack() as stack:
        hosts = [Host(name, stack.enter_context(World())) for name in HOSTS]
        space = stack.enter_context(Netns())
        watch(hosts, space, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        start, notes = time.time(), []
        for second, what, do in plan(*hosts):
            time.sleep(max(0.0, start + second - time.time()))
            notes.append((time.time() - start, what))
            print(f"{notes[-1][0]:6.1f} s  {what}", file=sys.stderr, flush=True)
            do()
        time.sleep(max(0.0, start + LENGTH - time.time()))
        span = (start, time.time())
        board = json.loads(DASHBOARD.read_text())
        drawn = [(panel, answers(space, panel, span)) for panel in panels(board, VARIABLES)]
    given.out.write_text(picture(f"{board['title']}: three hosts", drawn, span, STEP, notes))


if __name__ == "__main__":
    main()
