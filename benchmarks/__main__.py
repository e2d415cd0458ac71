"""`python -m benchmarks --tools DIRECTORY`: measure everything, and write results.md and its plots."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from compileall import compile_dir
from pathlib import Path

from benchmarks import latency, plot, process, report, service, storm
from benchmarks.figures import FULL, QUICK, Counts, Table

HERE = Path(__file__).parent
AGENT = HERE.parent / "salsa_agent"


class Results:
    """What was measured so far. It is written after each part, so that a run that breaks off is not lost."""

    def __init__(self, tools: Path, out: Path, counts: Counts) -> None:
        self._tools, self._out, self._counts = tools, out, counts
        self._begin = time.monotonic()
        self._noise = report.noise(counts.noise)
        self._tables: list[Table] = []
        self._plots: list[tuple[str, str]] = []

    def progress(self, what: str) -> None:
        """Tell the person at the terminal what is being measured."""
        print(f"{time.monotonic() - self._begin:6.0f} s  {what}", file=sys.stderr, flush=True)

    def measure(self) -> None:
        """All of it, in turn."""
        given = self._tools, self._counts, self.progress
        tables, values = latency.measure(*given)
        self._draw("latency.svg", "Event to signal", plot.bars("Event to signal, median and p99", "ms", values))
        self._add(tables)
        self._add(process.start(*given))
        self._add(process.find(*given))
        self._add(process.size(*given))
        self._add(storm.measure(*given))
        self._add(service.reads(*given))
        self._add(service.lookups(*given))
        tables, points = process.growth(*given)
        title = "One more address, by how many there are"
        self._draw("growth.svg", title, plot.line(title, "addresses on the host", "CPU, ms", points))
        self._add(tables)
        self.progress(f"{self._out / 'results.md'} is written")

    def _draw(self, file: str, title: str, picture: str) -> None:
        (self._out / file).write_text(picture)
        self._plots.append((title, file))

    def _add(self, tables: list[Table]) -> None:
        self._tables += tables
        self._noise += report.noise(self._counts.noise)
        words = (HERE / "notes.md").read_text()
        about = f"{report.machine(self._noise)} Rounds: {self._counts.rounds}."
        page = report.page(about, self._tables, self._plots, words)
        (self._out / "results.md").write_text(page)


def main() -> None:
    """Run from the command line."""
    parser = ArgumentParser(prog="./run bench", description="Measure the agent beside its peers.")
    parser.add_argument("--tools", type=Path, required=True, help="where the tools are that were built")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.md and the plots go")
    parser.add_argument("--quick", action="store_true", help="a few of each: does it work?")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not compile_dir(AGENT, quiet=1):  # an installed package has bytecode; Python may be told to write none
        parser.error(f"{AGENT} cannot be compiled")
    Results(given.tools, given.out, QUICK if given.quick else FULL).measure()


main()
