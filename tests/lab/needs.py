"""What a test needs of the machine beyond Python: each need is probed once, and named where it is missing.

The fixtures of `tests.lab` call `require` where they begin to use it, so a test that uses them says so by that alone; a
test that uses it by itself has the marker `needs`. Where a need is missing the test is skipped with the reason, which
`tests/conftest.py` counts at the end, or fails where every test is required (CI=1).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest


class Need(StrEnum):
    """What a machine or a container may keep from its users."""

    NAMESPACES = "namespaces"  # networks, mounts and processes of one's own
    USERS = "users"  # to be another user
    BOOT = "boot"  # to boot systemd: root of the machine, and control groups


def _works(*argv: str) -> str:
    """Why the command fails; empty: it does not."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or "it failed").splitlines()[-1]


def _namespaces() -> str:
    where = Path("/run/netns")
    if not os.access(where if where.exists() else where.parent, os.W_OK):
        return f"{where} cannot be written"
    script = "mount -t tmpfs tmpfs /run && ip netns add probe && ip -n probe link set lo up"
    return _works("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", script)


def _users() -> str:
    return _works("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true")


def _boot() -> str:
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "this is a user namespace"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return "" if os.access(where, os.W_OK) and os.geteuid() == 0 else f"{where} cannot be written"
    return "there is no cgroup2 mount"


_PROBES: dict[Need, tuple[Callable[[], str], ...]] = {
    Need.NAMESPACES: (_namespaces,),
    Need.USERS: (_users,),
    Need.BOOT: (_namespaces, _users, _boot),
}


@cache
def missing(need: Need) -> str:
    """Why this machine does not have it, in a few words; empty: it has."""
    return next((why for why in (probe() for probe in _PROBES[need]) if why), "")


def require(*needs: Need) -> None:
    """Skip the test that runs where one of these is missing."""
    for need in needs:
        if why := missing(need):
            pytest.skip(f"needs {need}: {why}")
