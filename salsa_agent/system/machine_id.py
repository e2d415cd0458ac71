"""What tells this host from others of a fleet (rule C1)."""

from __future__ import annotations

import os
from pathlib import Path


def machine_identity() -> bytes:
    """machine-id(5), else the host name, as at a first boot, when all machines have the same."""
    try:
        identity = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        identity = b""
    return identity if identity not in (b"", b"uninitialized") else os.uname().nodename.encode()
