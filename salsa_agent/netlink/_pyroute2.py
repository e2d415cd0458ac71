"""What the driver uses of pyroute2: its message codec.

`import pyroute2` runs the package's `__init__`, which brings in all of the library: IPDB, NDB, nftables and 300 modules
more, at 14 MiB and half of the agent's start. The codec needs none of it. So it is imported here below a package module
that is bare, and kept apart: whoever imports pyroute2 afterwards gets the whole of it, as if this had never been.
tests/parts/netlink/test_pyroute2.py fails when a new release moves the ground.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

_PACKAGE = "pyroute2"


@contextmanager
def _bare_package() -> Iterator[None]:
    """Within the block the package has its modules, but not what its `__init__` does. Nothing of it stays imported."""
    spec = find_spec(_PACKAGE)
    if _PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    bare = ModuleType(_PACKAGE)
    bare.__path__ = spec.submodule_search_locations
    sys.modules[_PACKAGE] = bare
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]


with _bare_package():
    from pyroute2.netlink import NETLINK_ADD_MEMBERSHIP, NLM_F_DUMP, NLM_F_REQUEST, nlmsg, rtnl
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = [
    "NETLINK_ADD_MEMBERSHIP",
    "NLM_F_DUMP",
    "NLM_F_REQUEST",
    "fibmsg",
    "ifaddrmsg",
    "nlmsg",
    "rtmsg",
    "rtnl",
]
