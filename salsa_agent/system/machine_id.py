"""What tells this host from others of a fleet (rule C1)."""

from __future__ import annotations

import os

from salsa_agent.system.files import read_file

_MAX_BYTES = 4096  # of which machine-id(5) needs 33


def machine_identity() -> bytes:
    """machine-id(5), else the host name, as at a first boot, when all machines have the same."""
    try:
        identity = read_file("/etc/machine-id", _MAX_BYTES).strip()
    except OSError:
        identity = b""
    return identity if identity not in (b"", b"uninitialized") else os.uname().nodename.encode()
