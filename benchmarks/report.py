"""The results as a page."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.figures import Table, p99

LIBRARIES = ("dbus-next", "pyroute2", "dnspython")


def noise(samples: int) -> list[float]:
    """Milliseconds that the same millisecond or so of work takes, over and over: what the machine adds of itself."""
    seen = []
    for _ in range(samples):
        begin = time.perf_counter()
        sum(range(20000))
        seen.append((time.perf_counter() - begin) * 1000)
    return seen


def machine(loud: Sequence[float]) -> str:
    """What it was measured on, and how calm that was."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    kernel = ".".join(platform.release().split(".")[:2])
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {model}, Linux {kernel}, "
        f"Python {platform.python_version()}, {libraries}. Load {os.getloadavg()[0]:.1f}. Noise: the same work took "
        f"{median(loud):.2f} ms in the median, {p99(loud):.2f} ms at the 99th percentile, {max(loud):.1f} ms at most."
    )


def table(one: Table) -> str:
    """A table in Markdown."""
    rows = [one.head, ["---"] * len(one.head), *one.rows]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"### {one.title}", "", *lines, *(["", one.note.strip()] if one.note else [])])


def bounds(tables: Sequence[Table]) -> Table:
    """The bounds on what was measured, and whether it keeps them."""
    of_all = Table("The bounds", ("", "bound", "measured", ""))
    for one in (bound for table in tables for bound in table.bounds):
        of_all.rows.append((one.what, one.limit, one.measured, "reached" if one.reached else "**not reached**"))
    of_all.note = (
        "Medians; of storms the worst. What a user feels is the network's round trips, and milliseconds, not tenths "
        "of them. The three libraries do the work that they are named for, and this is what that may cost. One more "
        "bound, 0.15 s of CPU for a hostile reply of the DNS, is held by tests/parts/resolver/test_resolver.py."
    )
    return of_all


def page(where: str, tables: Sequence[Table], plots: Sequence[tuple[str, str]], words: str) -> str:
    """The whole of it. `words`: what stands in notes.md."""
    pictures = [f"![{title}]({file})" for title, file in plots]
    every = [bounds(tables), *tables]
    parts = ["# Results", f"Written by `./run bench`. {where}", *pictures, *map(table, every), words]
    return "\n\n".join(parts).rstrip() + "\n"
