"""The project's command `./run` and what it installs, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def run(*argv: str, check: bool = True, cwd: Path = PROJECT, **environment: str) -> subprocess.CompletedProcess[str]:
    """`./run ARGV` with the virtual environment that the tests run in."""
    done = subprocess.run(
        ["./run", *argv],
        check=False,
        cwd=cwd,
        env={**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build"), **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    if check and done.returncode:
        raise AssertionError(f"./run {' '.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done
