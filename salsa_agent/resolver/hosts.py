"""The hosts file (hosts(5)): the first place where a static relay's name is looked up (rule C8)."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from salsa_agent.core.model import IPAddress
from salsa_agent.system.files import read_file, whole_lines

HOSTS = Path("/etc/hosts")
MAX_BYTES = 1 << 23  # what is read of it; the largest lists of advertisers' names have about half of that


def lookup(name: str, path: Path = HOSTS) -> tuple[IPAddress, ...]:
    """Every address the file gives `name`, of both families, in its order; none: it does not have the name.

    The file is read each time: it is small or, full of advertisers' names, not worth keeping in memory.
    A missing, unreadable or damaged file, or line, has no names.
    """
    wanted = name.rstrip(".").lower().encode("utf-8", "surrogateescape")
    try:
        text = whole_lines(read_file(path, MAX_BYTES), MAX_BYTES).lower()
    except OSError:
        return ()
    if not wanted or wanted not in text:
        return ()
    addresses: dict[IPAddress, None] = {}
    for line in text.splitlines():
        if wanted not in line:
            continue
        address, *names = line.partition(b"#")[0].split() or (b"",)
        if wanted in names:
            try:
                addresses[ip_address(address.decode("ascii"))] = None
            except ValueError:  # UnicodeDecodeError is one
                continue
    return tuple(addresses)
