"""Trees of Debian releases, for `Booted(root=...)`: `./run tests` makes them as root (scripts/test-trees)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.run import PROJECT

CACHE = PROJECT / os.environ.get("SALSA_CACHE", "build") / "trees"


def tree(name: str) -> Path:
    """The root of the Debian of this name in scripts/test-trees. Skips the test where it was not made."""
    found = sorted(CACHE.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"needs programs: there is no tree {name}; ./run tests makes it as root")
    return found[-1]
