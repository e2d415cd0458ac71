"""The namespace that the tests of the netlink driver are in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.netns import Netns, veth


@pytest.fixture
def host() -> Iterator[Netns]:
    """A namespace with a cable `up0` to the namespace `far`; the test itself is in it. IPv6 link-local is off."""
    with Netns() as space, Netns() as far:
        space.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
        veth(space, "up0", far, "down0")
        space.far = far  # type: ignore[attr-defined]
        with space.inside():
            yield space
