"""What the engine's drivers are told of each other and of the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pytest

from salsa_agent.core.model import Link, NetworkFacts
from salsa_agent.core.settings import Network, Settings
from salsa_agent.nameservers.monitor import NameserverMonitor
from salsa_agent.wiring import driven_engine
from salsa_agent.wiring.driven_engine import DrivenEngine
from tests.core.sim import ETH0, facts, host


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[NetworkFacts], None]]:
    """The engine's driver of the kernel is away; what it would call with its facts stands here."""
    told: list[Callable[[NetworkFacts], None]] = []
    monkeypatch.setattr(driven_engine, "Netlink", told.append)
    return told


async def test_a3_links_that_count_after_a_reload_are_followed_though_the_kernel_says_nothing_new(
    kernel: list[Callable[[NetworkFacts], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the name servers of such a link would not be known (F1), nor its domains and its connection (F4)."""
    followed: list[list[int]] = []

    def follow(_: NameserverMonitor, links: Iterable[int]) -> None:
        followed.append(list(links))

    monkeypatch.setattr(NameserverMonitor, "follow_links", follow)
    driven = DrivenEngine(Settings(network=Network(ignore=("tun*",))))
    kernel[0](NetworkFacts(links=frozenset((Link(2, "up0", True), Link(3, "tun0", True)))))
    driven.configure(Settings(network=Network(ignore=())))
    assert followed == [[2], [2, 3]]
    driven.loop.stop()
    await driven.close()


async def test_a3_at_debug_the_log_says_once_for_each_change_which_addresses_count_and_why_others_do_not(
    kernel: list[Callable[[NetworkFacts], None]], caplog: pytest.LogCaptureFixture
) -> None:
    driven = DrivenEngine(Settings())
    caplog.set_level(logging.DEBUG, "salsa-agent")
    bridge = Link(7, "docker0", usable=True)
    with_bridge = facts("192.0.2.1", host("172.17.0.1", index=7), links=[ETH0, bridge])
    for one in (facts("192.0.2.1"), facts("192.0.2.1"), facts("192.0.2.1", defaults=()), with_bridge):
        kernel[0](one)
    driven.configure(Settings(network=Network(ignore=("eth*",))))
    said = [text for text in caplog.messages if text.startswith("addresses that count: ")]
    assert [text.partition(": ")[2] for text in said] == [
        "192.0.2.1 on eth0",
        "192.0.2.1 on eth0; left out: 172.17.0.1 on docker0: A3 (network.ignore)",
        "172.17.0.1 on docker0; left out: 192.0.2.1 on eth0: A3 (network.ignore)",
    ]
    driven.loop.stop()
    await driven.close()


async def test_above_debug_nobody_looks_why_an_address_does_not_count(
    kernel: list[Callable[[NetworkFacts], None]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A host may have 10,000 addresses, and a storm of changes."""
    asked: list[object] = []

    def seen(*given: object) -> list[object]:
        asked.append(given)
        return []

    for name in ("counting", "left_out"):
        monkeypatch.setattr(driven_engine, name, seen)
    driven = DrivenEngine(Settings())
    for level, looked in ((logging.INFO, 0), (logging.DEBUG, 2)):
        caplog.set_level(level, "salsa-agent")
        kernel[0](facts("192.0.2.1"))
        assert len(asked) == looked
    driven.loop.stop()
    await driven.close()
