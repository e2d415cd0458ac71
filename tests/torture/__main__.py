"""All faults, one after the other: `python -m tests.torture [--quick] [--out FILE] [WORD]…`; WORDs choose faults."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.torture import aiming, attacks, bus, dns, kernel, machine, relays  # noqa: F401  # fill the table
from tests.torture.trial import FAULTS, Row, run, torture_world

HEAD = """\
# Faults

Each fault is done to the whole agent, a process on a real bus in a network namespace, which then has to answer: is the
right relay published, decided, within the time the rules allow (seconds: allowed, taken)? Was anything published that
was never right? Did anonymous memory (KiB) or the number of descriptors grow? Is there a traceback in the log?
`./run torture` makes this table; `./run torture WORD` does the faults with that word in their name.

"""
TABLE = """\
| | fault | published (allowed, taken) | wrong | memory | descriptors | |
|---|---|---|---|---:|---:|---|
"""


def line(row: Row) -> str:
    """A row of the table."""
    seen = ", ".join(f"{one.relay or 'none'} ({one.limit:g}, {one.took:.1f})" for one in row.seen)
    memory = "" if row.memory is None else f"{row.memory:+}"
    files = "" if row.descriptors is None else f"{row.descriptors:+}"
    result = f"**broken**: {row.failure}" if row.failure else row.note or "good"
    cells = [row.group, row.fault, seen, ", ".join(row.wrong) or "nothing", memory, files, result]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run torture", description="Do all faults to the whole agent.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the waiting")
    parser.add_argument("--slack", type=float, default=1.0, help="seconds a limit may be exceeded by (%(default)s)")
    parser.add_argument("--out", type=Path, help="where the table is written (all faults: benchmarks/torture.md)")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults with one of these in their name")
    options = parser.parse_args(argv)
    chosen = [f for f in FAULTS if not options.words or any(w in f"{f.group} {f.name}" for w in options.words)]
    out = options.out or (None if options.words else Path("benchmarks/torture.md"))
    rows: list[Row] = []
    start = time.monotonic()
    with ExitStack() as shared:
        world = None
        for number, one in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {one.group}: {one.name} … ", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            scale = 0.1 if options.quick else 1.0
            if one.alone:
                with torture_world() as own:
                    row = run(one, own, slack=options.slack, scale=scale)
            else:
                world = world or shared.enter_context(torture_world())
                row = run(one, world, slack=options.slack, scale=scale)
                if row.failure:  # whatever it left
                    shared.close()
                    world = None
            rows.append(row)
            print(f"{row.failure or 'good'} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    broken = sum(bool(row.failure) for row in rows)
    words = f"{len(rows)} faults, {broken} of them broke something, in {(time.monotonic() - start) / 60:.0f} minutes; "
    linux = ".".join(platform.release().split(".")[:2])
    words += f"Python {platform.python_version()}, Linux {linux}.\n\n"
    text = HEAD + words + TABLE + "".join(f"{line(row)}\n" for row in rows)
    if out is not None:
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)
        print(f"written to {out}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
