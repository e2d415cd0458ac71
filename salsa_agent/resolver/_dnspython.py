"""What the resolver uses of dnspython: names, and the texts of response codes.

dnspython looks for optional packages by `importlib.metadata`, which brings in the mail and zip modules, 1.7 MiB in all.
None of what those packages are for is used here. So they are looked for in an empty module, and count as missing.
tests/parts/resolver/test_dnspython.py fails when a new release moves the ground.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_METADATA = "importlib.metadata"


@contextmanager
def _no_metadata() -> Iterator[None]:
    """Within the block nothing is known of installed packages, unless somebody asked before."""
    if _METADATA in sys.modules:
        yield
        return
    sys.modules[_METADATA] = ModuleType(_METADATA)
    try:
        yield
    finally:
        del sys.modules[_METADATA]


with _no_metadata():
    import dns.exception
    import dns.name
    import dns.rcode

__all__ = ["dns"]
