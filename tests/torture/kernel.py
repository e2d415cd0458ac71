"""What the kernel does to who listens: overruns, interrupted dumps, links renamed or gone in mid-round, many routes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.netns import veth
from tests.lab.whole import HOME, NET24, NOC, SERVER, VERTEX, until
from tests.torture.trial import ELSEWHERE, ROUND, ZONE, A, B, Broken, Trial, fault

SLOW = {"MX": {"answer": [f"10 {NOC}."], "delay": 0.4}}
SETTLE = 2.0  # seconds from the last of many events to the decision, on top of the round


def _in_mid_round(trial: Trial) -> None:
    """The round on network A runs, and its answer is under way."""
    asked = len(trial.world.queries())
    trial.roam(A)
    until(trial.world.queries, lambda names: NET24 in names[asked:])


@fault("netlink", "an overrun: 30,000 events while the agent stands still")
def overrun(trial: Trial) -> None:
    trial.start()
    storm = [f"10.{n >> 8}.{n & 255}.1/32 dev idle0" for n in range(1500)]
    with trial.frozen():
        for _ in range(10):
            trial.world.host.batch([f"addr add {one}" for one in storm])
            trial.world.host.batch(["addr flush dev idle0"])
        trial.roam(A)
    trial.expect(NOC, SETTLE + ROUND, "ready")
    if "more network changes than" not in trial.agent.log:
        raise Broken("there was no overrun")
    if [one["address"] for one in trial.world.get("Addresses")] != [A]:
        raise Broken("addresses that are gone")


@fault("netlink", "dumps that are interrupted: addresses come and go all the time")
def interrupted(trial: Trial) -> None:
    """Thousands of addresses, so that a dump takes many messages; the churn goes on while the host roams."""
    host = trial.world.host
    host.ip("link", "add", "docker0", "type", "bridge")  # ignored (A3), but dumped
    host.batch([f"addr add 10.9.{n >> 8}.{n & 255}/32 dev docker0" for n in range(4000)])
    trial.start()
    churn = host.exec(
        ["sh", "-c", "while :; do ip addr add 10.8.0.1/32 dev docker0; ip addr del 10.8.0.1/32 dev docker0; done"]
    )
    try:
        for _ in range(3):
            trial.roam(A)
            trial.expect(NOC, SETTLE + ROUND)
            trial.roam(B)
            trial.expect(ELSEWHERE, SETTLE + ROUND)
        trial.roam(A)
        trial.expect(NOC, SETTLE + ROUND)
    finally:
        churn.kill()
        churn.wait()
        host.ip("link", "del", "docker0")
    trial.expect(NOC, SETTLE + ROUND, "ready")


@fault("netlink", "the link is renamed in mid-round")
def renamed(trial: Trial) -> None:
    trial.world.publish(ZONE | {NET24: SLOW})
    trial.start()
    _in_mid_round(trial)
    trial.world.host.ip("link", "set", "up0", "name", "wan7")
    try:
        trial.expect(NOC, 2 * ROUND, "ready")
        until(lambda: [one["interface"] for one in trial.world.get("Addresses")], lambda names: names == ["wan7"])
    finally:
        trial.world.host.ip("link", "set", "wan7", "name", "up0")


@fault("netlink", "the link is gone in mid-round")
def gone(trial: Trial) -> None:
    """E6: no address, so the static relay after 2 s; nothing of a network that is no more."""
    trial.world.publish(ZONE | {NET24: SLOW})
    trial.start()
    _in_mid_round(trial)
    trial.world.host.ip("link", "set", "up0", "down")
    trial.world.host.ip("addr", "flush", "dev", "up0")
    trial.allowed -= {VERTEX, NOC}
    trial.expect(HOME, 2.0, "offline")
    trial.world.host.ip("link", "set", "up0", "up")
    trial.allowed |= {VERTEX, NOC}
    trial.roam(A)
    trial.expect(NOC, SETTLE + ROUND, "ready")


@fault("netlink", "a second link is deleted in mid-round")
def deleted(trial: Trial) -> None:
    world = trial.world
    trial.start()
    veth(world.host, "up1", world.far, "down1")
    world.publish(ZONE | {NET24: SLOW})
    asked = len(world.queries())
    world.host.ip("addr", "add", f"{A}/24", "dev", "up1")
    until(world.queries, lambda names: NET24 in names[asked:])
    world.host.ip("link", "del", "up1")
    trial.expect(ELSEWHERE, SETTLE + ROUND, "ready")
    if [one["address"] for one in world.get("Addresses")] != [B]:
        raise Broken("an address that is gone")


@fault("netlink", "10,000 routes come, and stay, and go")
def routes(trial: Trial) -> None:
    host = trial.world.host
    trial.start()
    names = [f"route add blackhole 100.{64 + (n >> 8)}.{n & 255}.0/24" for n in range(10_000)]
    spent = cpu(trial.pid)
    host.batch(names)
    trial.roam(A)
    trial.expect(NOC, SETTLE + ROUND, "ready")
    trial.roam(B)
    trial.expect(ELSEWHERE, SETTLE + ROUND, "ready")
    host.batch([name.replace(" add ", " del ") for name in names])
    trial.roam(A)
    trial.expect(NOC, SETTLE + ROUND, "ready")
    trial.note(f"{cpu(trial.pid) - spent:.1f} s of CPU")


@fault("netlink", "the link flaps twenty times")
def flaps(trial: Trial) -> None:
    trial.start()
    trial.roam(A)
    trial.expect(NOC, ROUND, "ready")
    for _ in range(20):
        trial.world.host.ip("link", "set", "up0", "down")
        trial.world.host.ip("link", "set", "up0", "up")
    trial.world.host.ip("route", "replace", "default", "via", "165.154.15.254")
    trial.expect(NOC, SETTLE + ROUND, "ready")


@fault("netlink", "the link, its address and the name server vanish and come back a hundred times")
def roams(trial: Trial) -> None:
    resolv_conf = Path("/etc/netns", trial.world.host.name, "resolv.conf")
    trial.start()
    for number in range(int(trial.seconds(100))):
        resolv_conf.write_text("" if number % 2 else f"nameserver {SERVER}\n")
        trial.roam(B if number % 2 else A)
    resolv_conf.write_text(f"nameserver {SERVER}\n")
    trial.roam(A)
    trial.expect(NOC, SETTLE + 2 * ROUND, "ready")


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    words = re.sub(r".*\) ", "", Path(f"/proc/{pid}/stat").read_text()).split()
    return (int(words[11]) + int(words[12])) / 100
