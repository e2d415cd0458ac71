"""Very many address changes in one process: `python -m tests.torture.soak [--changes N]`.

Each address is a new one, so whatever is kept for each of them is seen. Between the storms the host roams, and what is
published has to be right.
"""

from __future__ import annotations

import argparse
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.whole import NOC, Process, World, descriptors, threads, until
from tests.torture.kernel import cpu
from tests.torture.trial import ALARMS, CONFIG, ELSEWHERE, A, B, roam, torture_world

STORM = 100  # addresses that come at once, and go at once, at least
FLAT = 2048  # KiB that anonymous memory may grow by after the first tenth
HEAD = """\
# Soak

One agent, and very many addresses that come and go, each a new one; between the storms the host roams to another
network, where the relay has to be the right one. Memory is anonymous memory; tasks are those of the event loop.
`./run soak` makes this table.

"""
TABLE = "| changes | memory (KiB) | descriptors | tasks | threads | CPU (s) |\n|---:|---:|---:|---:|---:|---:|\n"


class Grown(AssertionError):
    """It is not flat."""


@dataclass(frozen=True)
class Sample:
    """What the agent has at rest after so many changes."""

    changes: int
    memory: int
    descriptors: int
    tasks: int
    threads: int
    cpu: float

    def __str__(self) -> str:
        numbers = (self.changes, self.memory, self.descriptors, self.tasks, self.threads)
        return "| " + " | ".join(f"{number:,}" for number in numbers) + f" | {self.cpu:.1f} |"


def measure(world: World, agent: Process, changes: int) -> Sample:
    """At rest: no task of a round or a conversation runs any more."""
    asked = 0

    def tasks() -> int:
        nonlocal asked
        asked += 1
        agent.popen.send_signal(signal.SIGUSR1)
        found = until(lambda: re.findall(r"tasks (\d+)", agent.out), lambda seen: len(seen) >= asked)
        time.sleep(0.1)
        return int(found[-1])

    asked = agent.out.count("tasks ")
    seen = [tasks()]
    while len(seen) < 5 or seen[-1] > min(seen):
        seen.append(tasks())
    pid = agent.popen.pid
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(re.search(r"RssAnon:\s+(\d+)", status)[1])  # type: ignore[index]
    return Sample(changes, memory, descriptors(pid), min(seen), threads(pid), cpu(pid))


def soak(world: World, changes: int, tell: Callable[[Sample], None]) -> list[Sample]:
    """Do it; raise Grown where something is not flat, AssertionError where an answer is wrong or late."""
    roam(world, B)
    world.configure(CONFIG)
    agent = world.start(world.host, [sys.executable, "-m", "tests.torture.counted", "--config", str(world.config)])
    world.wait_for_best(ELSEWHERE, "ready")
    samples = [measure(world, agent, 0)]
    tell(samples[0])
    size = max(STORM, changes // 400)  # a relay is spoken to every five seconds (D1), so the host cannot roam faster
    number, here = 0, B
    while number < changes:
        storm = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32 dev up0" for n in range(number, number + size)]
        world.host.batch([f"addr add {one}" for one in storm])
        world.host.batch([f"addr del {one}" for one in storm])
        here = A if here == B else B
        roam(world, here)
        number += 2 * size
        world.wait_for_best(NOC if here == A else ELSEWHERE)
        if number * 10 // changes > (number - 2 * size) * 10 // changes:
            samples.append(measure(world, agent, number))
            tell(samples[-1])
    roam(world, A)
    world.wait_for_best(NOC, "ready")
    if [one["address"] for one in world.get("Addresses")] != [A]:
        raise Grown("addresses that are gone")
    for line in agent.log.splitlines():
        if ALARMS.search(line):
            raise Grown(f"in the log: {line[:300]}")
    if agent.end() != 0:
        raise Grown("it did not end well")
    judge(samples)
    return samples


def judge(samples: Sequence[Sample]) -> None:
    """Nothing may be more than after the first tenth. Raises Grown."""
    first, *later = samples[1:]
    for one in later:
        if one.memory > first.memory + FLAT:
            raise Grown(f"{one.memory - first.memory} KiB more than after {first.changes} changes")
        if one.descriptors > first.descriptors or one.tasks > first.tasks or one.threads > first.threads:
            raise Grown(f"more than after {first.changes} changes: {one}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run soak", description="Very many address changes in one process.")
    parser.add_argument("--changes", type=int, default=100_000, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/soak.md"), help="(%(default)s)")
    options = parser.parse_args(argv)
    start = time.monotonic()
    print(TABLE, end="", file=sys.stderr)
    with torture_world() as world:
        try:
            samples = soak(world, options.changes, lambda sample: print(sample, file=sys.stderr, flush=True))
        except AssertionError as error:
            print(f"broken: {error}", file=sys.stderr)
            return 1
    words = f"{options.changes:,} changes in {(time.monotonic() - start) / 60:.1f} minutes; "
    linux = ".".join(platform.release().split(".")[:2])
    words += f"Python {platform.python_version()}, Linux {linux}.\n\n"
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(HEAD + words + TABLE + "".join(f"{sample}\n" for sample in samples))
    print(f"flat; written to {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
