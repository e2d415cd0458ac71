"""Configuration files of other programs, as far as they can be read."""

from __future__ import annotations

from pathlib import Path

_MOST = 1 << 20  # octets of a file that are read


def read(path: Path) -> str:
    """What is in the file; empty where it is not there or not for us."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""
