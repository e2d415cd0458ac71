"""`./run fuzz [--seconds N] [TARGET]…`: each target so long, with atheris where it is installed, else Hypothesis."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples

from tests.fuzz import live
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS, close

CORPUS = Path(os.environ.get("SALSA_CACHE", "build")) / "fuzz"  # what atheris found worth keeping


def by_hypothesis(name: str, seconds: float) -> int:
    """Until the time is over or something breaks; how many inputs there were."""
    one, count, end = TARGETS[name], 0, time.monotonic() + seconds

    @examples(
        database=None,
        deadline=None,
        max_examples=2000,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(one.seeds))
    def batch(data: bytes) -> None:
        nonlocal count
        if time.monotonic() < end:
            count += 1
            one.target(data)

    while time.monotonic() < end:
        batch()
    return count


def by_atheris(name: str, seconds: float) -> int:
    """The same, guided by what the inputs reach. Raises CalledProcessError, with what atheris said."""
    command = [sys.executable, "-m", "tests.fuzz.guided", name, f"{max(1, seconds):.0f}", str(CORPUS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return max(int(line.split()[-1]) for line in done.stdout.splitlines() if "number_of_executed_units" in line)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run fuzz", description="Feed bytes to whatever reads bytes from outside.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (%(default)s)")
    parser.add_argument("--with", dest="tool", choices=("atheris", "hypothesis"), help="by default what there is")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args(argv)
    if wrong := set(options.targets) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(wrong))}; there are {', '.join(TARGETS)}")
    tool = options.tool or ("atheris" if importlib.util.find_spec("atheris") else "hypothesis")
    fuzz = by_atheris if tool == "atheris" else by_hypothesis
    broken = 0
    for name in options.targets or TARGETS:
        print(f"{name}: {options.seconds:g} s by {tool} … ", end="", file=sys.stderr, flush=True)
        try:
            print(f"good, {fuzz(name, options.seconds)} inputs", file=sys.stderr)
        except subprocess.CalledProcessError as error:
            broken += 1
            print(f"BROKEN\n{error.stdout[-4000:]}", file=sys.stderr)
        except Exception:
            broken += 1
            print(f"BROKEN\n{traceback.format_exc()}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    finally:
        close()
        live.close_kernel()
    sys.exit(status)
