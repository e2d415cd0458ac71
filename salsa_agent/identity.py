"""What tells this host from others of a fleet (rule C1)."""

from __future__ import annotations

import os
from pathlib import Path


def machine_identity() -> bytes:
    """machine-id(5), else the host name."""
    try:
        identity = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        identity = b""
    return identity or os.uname().nodename.encode()
