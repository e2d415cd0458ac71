"""The agent where a kernel or a sandbox refuses a part of rtnetlink, or all of it (rule E3)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bus import PROJECT
from tests.lab.whole import CONFIG, HOME, NOC, World, until


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.relay(NOC)
        made.relay(HOME)
        yield made


@pytest.fixture
def preload(tmp_path: Path) -> str:
    library = tmp_path / "refuse.so"
    source = PROJECT / "tests/lab/refuse.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True, timeout=60)
    return str(library)


RULES, ROUTES, NEXTHOPS = "34", "26", "106"  # RTM_GETRULE, RTM_GETROUTE, RTM_GETNEXTHOP
RULE_GROUP, NEXTHOP_GROUP, CARRIER_GROUP = "8", "32", "1"  # RTNLGRP_IPV4_RULE, NEXTHOP, LINK


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ({"REFUSE_TYPE": RULES}, ""),  # they are not asked for
        ({"REFUSE_TYPE": ROUTES}, "the kernel does not tell routes (ENOTSUP)"),
        ({"REFUSE_TYPE": NEXTHOPS}, "the kernel does not tell nexthop objects (ENOTSUP)"),
        ({"REFUSE_GROUP": RULE_GROUP}, "the kernel does not tell changes of IPv4 rules (EPERM)"),
        ({"REFUSE_GROUP": NEXTHOP_GROUP}, "the kernel does not tell changes of nexthop objects (EPERM)"),
        ({"REFUSE_GROUP": CARRIER_GROUP}, "the kernel does not tell changes of links (EPERM)"),
    ],
    ids=["rules", "routes", "nexthop objects", "rule changes", "nexthop changes", "link changes"],
)
def test_e3_a_part_that_is_refused_is_as_if_it_were_empty(
    world: World, preload: str, refused: dict[str, str], said: str
) -> None:
    """And that is said once."""
    world.host.sysctl("net/ipv4/nexthop_compat_mode", 0)
    world.host.batch(
        ["nexthop add id 7 dev up0", "route add 198.18.0.0/15 nhid 7", "route add default nhid 7 metric 9"]
    )
    agent = world.agent(CONFIG, LD_PRELOAD=preload, **refused)
    world.wait_for_best(HOME)
    world.join("165.154.15.1")
    world.wait_for_best(NOC)
    for _ in range(3):
        world.call("Refresh")
    assert "Traceback" not in agent.log
    assert (
        agent.log.count("the kernel does not tell") == agent.log.count(said or "the kernel does not tell") == bool(said)
    )


def test_e3_without_netlink_the_static_relay_is_published_after_five_seconds(world: World, preload: str) -> None:
    agent = world.agent(CONFIG, LD_PRELOAD=preload, REFUSE_SOCKET="1")
    started = time.monotonic()
    world.wait_for_best(HOME, "offline")
    assert 4.0 < time.monotonic() - started < 10.0
    until(lambda: agent.log, lambda log: "on the bus as" in log)
    assert "Traceback" not in agent.log
    assert agent.log.count("netlink failed (EAFNOSUPPORT)") == 1  # though it is tried again, more and more seldom
    assert agent.end() == 0
