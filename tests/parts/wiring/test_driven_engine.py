"""What the engine's drivers are told of each other and of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from salsa_agent.core.model import Link, NetworkFacts
from salsa_agent.core.settings import Network, Settings
from salsa_agent.nameservers.monitor import NameserverMonitor
from salsa_agent.wiring import driven_engine
from salsa_agent.wiring.driven_engine import DrivenEngine


async def test_a3_links_that_count_after_a_reload_are_followed_though_the_kernel_says_nothing_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the name servers of such a link would not be known (F1), nor its domains and its connection (F4)."""
    kernel: list[Callable[[NetworkFacts], None]] = []
    followed: list[list[int]] = []

    def follow(_: NameserverMonitor, links: Iterable[int]) -> None:
        followed.append(list(links))

    monkeypatch.setattr(driven_engine, "Netlink", kernel.append)
    monkeypatch.setattr(NameserverMonitor, "follow_links", follow)
    driven = DrivenEngine(Settings(network=Network(ignore=("tun*",))))
    kernel[0](NetworkFacts(links=frozenset((Link(2, "up0", True), Link(3, "tun0", True)))))
    driven.configure(Settings(network=Network(ignore=())))
    assert followed == [[2], [2, 3]]
    driven.loop.stop()
    await driven.close()
