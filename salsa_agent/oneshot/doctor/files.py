"""Configuration files of other programs, as far as they can be read."""

from __future__ import annotations

from pathlib import Path

from salsa_agent.system.files import read_file

_MOST = 1 << 20  # octets of a file that are read


def read(path: Path) -> str:
    """What is in the file; empty where it is not there, not for us, or no regular file."""
    try:
        return read_file(path, _MOST).decode("utf-8", "replace")
    except OSError:
        return ""
