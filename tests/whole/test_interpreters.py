"""`SALSA_PYTHON=… ./run VERB`: another Python beside what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lab.run import PROJECT


def run(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SALSA_VENV"}
    return subprocess.run(
        ["./run", "--version"],
        check=False, cwd=PROJECT, capture_output=True, text=True, timeout=50,
        env={**environment, "SALSA_PYTHON": python, "SALSA_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip


def test_an_interpreter_that_does_not_do_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "/bin/false")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "/bin/false" in done.stderr


def test_another_interpreter_has_a_virtual_environment_of_its_own(tmp_path: Path) -> None:
    """An interpreter that makes none, but says where it was to be."""
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\n[ "$1" != -m ] || exit 1\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    done = run(tmp_path, str(other))
    assert done.returncode == 1
    assert f"{tmp_path}/cache/venv-{sys.version_info[0]}.{sys.version_info[1]} " in done.stderr
