"""What a hostile network aims the agent at: one machine, one name server, places that only this host can reach.

What is counted is what is hit; afterwards the right relay has to stand within the rules' times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.whole import HOME, NET24, NOC, until
from tests.torture.attacks import conversations, server
from tests.torture.trial import ROUND, ZONE, A, Broken, Trial, fault

SUPERSEDED = 3.0  # seconds after which a round goes on (E2)
QUESTIONS, A_SECOND = 2048, 64  # E2, of one name server
AT_ONCE, EVERY = 10, 2.5  # D11, of one machine: conversations, and seconds for one more
QUERIES = 2  # E2, for each question of those: one over UDP, one over TCP


@fault("aiming", "router advertisements toggle sixteen prefixes, four a second, and all answers are truncated")
def questions(trial: Trial) -> None:
    """E2: however many addresses come and go, the server that DHCP named is not flooded."""
    trial.start(on=A)
    trial.world.publish({"": {"*": {"truncated": True, "tcp": "truncated"}}})
    _toggle(trial, 3.0)
    trial.weigh_from_here()
    asked = _asked(trial)
    took = _toggle(trial, max(3.0, trial.seconds(60)))
    seen = _asked(trial) - asked
    trial.world.publish(ZONE)
    trial.note(f"{seen} queries in {took:.0f} s")
    if seen > QUERIES * (QUESTIONS + took * A_SECOND):
        raise Broken(trial.row.note)
    trial.expect(NOC, sum((2.0, 8.0)) + SUPERSEDED + ROUND)


def _toggle(trial: Trial, seconds: float) -> float:
    """Sixteen addresses are deprecated and in use again, over and over; how long it took. They are gone afterwards."""
    host = trial.world.host
    prefixes = [f"2001:{0xDB8 + n:x}:{n:x}::5" for n in range(16)]
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for lifetime in ("0", "forever"):
            toggle = f"dev up0 nodad valid_lft forever preferred_lft {lifetime}"
            host.batch([f"addr replace {ip}/64 {toggle}" for ip in prefixes])
            time.sleep(0.25)
    took = time.monotonic() - began
    host.batch([f"addr del {ip}/64 dev up0" for ip in prefixes])
    return took


def _asked(trial: Trial) -> int:
    """How many queries the name server got."""
    return len((trial.world.directory / "queries").read_text().splitlines())


@contextmanager
def _machine(trial: Trial) -> Iterator[None]:
    """A machine that has 2001:db8:666::/64 to itself, and the way to it."""
    host, far = trial.world.host, trial.world.far
    far.ip("-6", "route", "add", "local", "2001:db8:666::/64", "dev", "lo")
    far.own("2001:db8:1::1/64", "down0")
    host.own("2001:db8:1::2/64", "up0")
    host.ip("-6", "route", "add", "2001:db8:666::/64", "via", "2001:db8:1::1")
    try:
        yield
    finally:
        host.ip("-6", "addr", "del", "2001:db8:1::2/64", "dev", "up0")
        far.ip("-6", "addr", "del", "2001:db8:1::1/64", "dev", "down0")
        far.ip("-6", "route", "del", "local", "2001:db8:666::/64", "dev", "lo")


@fault("aiming", "one machine named by eight others of its addresses each time, while an address flaps")
def one_machine(trial: Trial) -> None:
    """D11: ten conversations, and one in 2.5 s."""
    trial.start(on=A)
    host = trial.world.host
    with _machine(trial), server(trial, trial.world.far, "::", behaviour="554") as log:
        began, turn = time.monotonic(), 0
        while time.monotonic() < began + max(5.0, trial.seconds(60)):
            turn += 1
            names = {f"m{turn}-{n}.example.org": f"2001:db8:666::{(turn * 8 + n) % 29 + 1:x}" for n in range(8)}
            trial.allowed.update(names)
            zone = ZONE | {NET24: {"MX": [*(f"1 {name}." for name in names), f"9 {NOC}."]}}
            trial.world.publish(zone | {name: {"AAAA": [ip]} for name, ip in names.items()})
            for what in ("add", "del"):
                host.ip("addr", what, "165.154.15.77/24", "dev", "up0")
                time.sleep(0.3)
        took = time.monotonic() - began
        hit = len(conversations(log))
        trial.note(f"{hit} connections to it in {took:.0f} s")
        if not 0 < hit <= AT_ONCE + took / EVERY + 1:
            raise Broken(trial.row.note)
    trial.world.publish(ZONE)
    trial.roam(A)
    trial.expect(NOC, SUPERSEDED + 2 * ROUND)


@fault("aiming", "exchanges at this host's loopback address and a neighbour's, as NAT64 and 6to4 write them")
def translated(trial: Trial) -> None:
    """C3, C4: judged as the IPv4 addresses that they stand for."""
    inside = {
        "loop64.example.org": "64:ff9b::7f00:1",
        "loop6to4.example.org": "2002:7f00:1::1",
        "metadata.example.org": "64:ff9b::a9fe:a9fe",
    }
    zone = ZONE | {NET24: {"MX": [*(f"1 {name}." for name in inside), f"9 {NOC}."]}}
    trial.world.publish(zone | {name: {"AAAA": [ip]} for name, ip in inside.items()})
    trial.start()
    trial.roam(A)
    trial.expect(NOC, 2 * ROUND, "ready")  # the names are not in `allowed`
    own = {"self64.example.org": "64:ff9b::a59a:f01"}  # 165.154.15.1
    trial.world.publish(
        ZONE | {NET24: {"MX": ["1 self64.example.org."]}, **{n: {"AAAA": [ip]} for n, ip in own.items()}}
    )
    trial.world.call("Refresh")
    until(lambda: trial.world.best, lambda best: best == f"{HOME}:25", patience=ROUND + trial.slack)
