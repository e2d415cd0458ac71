"""Addresses that come and go by the thousand: what is right at the end, and what it cost."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.figures import Bound, Counts, Progress, Table, at_most, both
from benchmarks.lab import AGENT, FLOOR, LINK, NAIVE, TINY, Lab, Peer, running, until
from benchmarks.process import cpu, memory

CPU_BOUNDED = 5000  # addresses that come and go, for which there is a bound of the CPU's time
STAYS, BASE = "10.0.0.7/32", "mx-0-0.relay.test"  # the address that stays, and its relay
OVERRUN = "more network changes than the netlink socket could hold"  # what the agent logs then


class Storm:
    """One storm, and what was seen. `rest`: seconds until the agent's budgets are full."""

    def __init__(self, lab: Lab, peer: Peer, size: int, rest: float) -> None:
        assert peer.owns
        relay = peer.owns
        logged = len(lab.log())
        with running(lab, peer) as process, lab.addresses(STAYS):
            lab.wait_for(relay, BASE)
            time.sleep(rest)
            signals = lab.start([lab.tool("signals"), lab.bus, relay[2]], ready="ready")
            questions, spent, (rss, _) = lab.questions(), cpu(process.pid), memory(process.pid)
            coming = [f"addr add 10.{1 + n // 250}.{n % 250}.7/32 dev {LINK}" for n in range(size)]
            begin = time.monotonic()
            lab.host.batch([*coming, *(line.replace(" add ", " del ", 1) for line in coming)])
            end = time.monotonic()
            with suppress(RuntimeError):
                until(lambda: lab.get(*relay) == BASE, "the right relay", patience=1.0 + rest)
            time.sleep(min(rest, 1.0))
            self.right = lab.get(*relay) == BASE
            self.took = end - begin
            self.questions = lab.questions() - questions
            self.died = process.poll() is not None
            self.cpu = 0.0 if self.died else cpu(process.pid) - spent
            self.growth = 0.0 if self.died else memory(process.pid)[0] - rss
            self.overruns = lab.log()[logged:].count(OVERRUN)
            signals.terminate()
            count, last = signals.communicate()[0].split()
            self.signals = int(count)
            self.settled = max(0.0, float(last) - end)


def measure(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """Storms of each size, and the agent's many times."""
    table = Table(
        "Storms",
        ("", "right", "settled after the last event, s", "questions", "signals", "CPU, s", "grown by, MiB",
         "overruns", "storm, s"),
    )  # fmt: skip
    for size, most in counts.storms:
        few = min(3, most)
        tiny = [(TINY, max(few, most // 5))] if size == counts.storms[0][0] else []
        for peer, runs in [(FLOOR, few), (AGENT, most), *tiny, (NAIVE, few)]:
            seen = []
            with Lab(tools) as lab:
                for n in range(runs):
                    progress(f"storm, {size} addresses come and go, {peer.label}, {n + 1} of {runs}")
                    seen.append(Storm(lab, peer, size, counts.rest))
            table.rows.append(_row(f"{peer.label}, {size} come and go = {2 * size} changes", seen))
            if peer is AGENT:
                table.bounds += _bounds(size, seen)
    table.note = (
        "Median / p99 or greatest. The base address stays, and is to win. Overruns: how often the agent found that the "
        "kernel had more to tell than its receive buffer held, at most; the others do not say."
    )
    return [table]


def _bounds(size: int, seen: list[Storm]) -> list[Bound]:
    right, number = sum(storm.right for storm in seen), len(seen)
    what = f"storms of {2 * size} changes that end right"
    bounds = [Bound(what, f"all of {number}", f"{right} of {number}", right == number)]
    if size == CPU_BOUNDED:
        bounds.append(at_most(f"CPU for {2 * size} changes, s", 1.5, max(storm.cpu for storm in seen)))
    return bounds


def _row(label: str, seen: list[Storm]) -> list[str]:
    lived = [storm for storm in seen if not storm.died]
    died = len(seen) - len(lived)
    return [
        label,
        f"{sum(storm.right for storm in seen)} of {len(seen)}" + (f", {died} died" if died else ""),
        both([storm.settled for storm in lived]) if lived else "",
        f"{median(s.questions for s in seen):.0f} / {max(s.questions for s in seen)}",
        f"{median(s.signals for s in seen):.0f} / {max(s.signals for s in seen)}",
        both([storm.cpu for storm in lived]) if lived else "",
        f"{max(s.growth for s in lived):.1f}" if lived else "",
        f"{max(s.overruns for s in seen)}" if "agent" in label else "",
        f"{median(s.took for s in seen):.2f}",
    ]
