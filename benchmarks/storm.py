"""Addresses that come and go by the thousand: what is right at the end, and what it cost."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.figures import Counts, Progress, Table, p99
from benchmarks.lab import AGENT, FLOOR, LINK, NAIVE, Lab, Peer, running, until
from benchmarks.process import cpu, memory

BASE = "mx-0-0.relay.test"  # of the address that stays


class Storm:
    """One storm, and what was seen."""

    def __init__(self, tools: Path, peer: Peer, size: int) -> None:
        assert peer.owns
        relay = peer.owns
        with Lab(tools) as lab, running(lab, peer) as process:
            lab.host.ip("addr", "add", "10.0.0.7/32", "dev", LINK)
            lab.wait_for(relay, BASE)
            time.sleep(2.0)  # the agent's budgets are full again
            signals = lab.start([lab.tool("signals"), lab.bus, relay[2]], ready="ready")
            questions, spent, (rss, _) = lab.questions(), cpu(process.pid), memory(process.pid)
            coming = [f"addr add 10.{1 + n // 250}.{n % 250}.7/32 dev {LINK}" for n in range(size)]
            begin = time.monotonic()
            lab.host.batch([*coming, *(line.replace(" add ", " del ", 1) for line in coming)])
            end = time.monotonic()
            with suppress(RuntimeError):
                until(lambda: lab.get(*relay) == BASE, "the right relay", patience=3.0)
            time.sleep(1.0)
            self.right = lab.get(*relay) == BASE
            self.took = end - begin
            self.questions = lab.questions() - questions
            self.died = process.poll() is not None
            self.cpu = 0.0 if self.died else cpu(process.pid) - spent
            self.growth = 0.0 if self.died else memory(process.pid)[0] - rss
            signals.terminate()
            count, last = signals.communicate()[0].split()
            self.signals = int(count)
            self.settled = max(0.0, float(last) - end)


def measure(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """Storms of each size, and the agent's many times."""
    table = Table(
        "Storms",
        ("", "right", "settled after the last event, s", "questions", "signals", "CPU, s", "grown by, MiB", "storm, s"),
    )
    for size in counts.storms:
        for peer in (FLOOR, AGENT, NAIVE):
            runs = counts.storm_runs if peer is AGENT and size == counts.storms[0] else min(3, counts.rounds)
            seen = []
            for n in range(runs):
                progress(f"storm, {size} addresses come and go, {peer.label}, {n + 1} of {runs}")
                seen.append(Storm(tools, peer, size))
            table.rows.append(
                (
                    f"{peer.label}, {size} come and go",
                    f"{sum(storm.right for storm in seen)} of {runs}" + _dead(sum(storm.died for storm in seen)),
                    f"{median(s.settled for s in seen):.2f} / {p99([s.settled for s in seen]):.2f}",
                    f"{median(s.questions for s in seen):.0f} / {max(s.questions for s in seen)}",
                    f"{median(s.signals for s in seen):.0f} / {max(s.signals for s in seen)}",
                    f"{median(s.cpu for s in seen):.2f} / {p99([s.cpu for s in seen]):.2f}",
                    f"{max(s.growth for s in seen):.1f}",
                    f"{median(s.took for s in seen):.2f}",
                )
            )
    table.note = "Median / p99 or greatest. Two changes for each address. The base address stays, and is to win."
    return [table]


def _dead(count: int) -> str:
    return f", {count} died" if count else ""
