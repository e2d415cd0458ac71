"""Attacks of a hostile network, a hostile local user and a file put in the way; each was seen to break the agent once.

What is counted is what is hit: connections to the victim, answers that Postfix gets, the share of the time that the
right relay stands.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.bus import NOBODY, PROJECT, STRANGERS
from tests.lab.netns import Netns, veth
from tests.lab.whole import HOME, INTERFACE, NAME, NET24, NOC, PATH, RELAYS, VERTEX, Process, descriptors, until
from tests.torture.kernel import cpu
from tests.torture.trial import CONFIG, DNS_PART, ELSEWHERE, ROUND, VERIFY, ZONE, A, B, Broken, Trial, fault

SUPERSEDED = 3.0  # seconds after which a round goes on (E2)
MIB = 1024  # KiB
PORT = 8462  # of the socketmap

PEER = """
import socket, sys, time
address, seconds, connections, pipelined = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
query = b"18:relay me@a.example,"
end, got = time.monotonic() + seconds, 0
socks = [socket.create_connection((address, 8462), 10) for _ in range(connections)]
print("connected", flush=True)
while time.monotonic() < end:
    for sock in socks:
        sock.setblocking(pipelined == 0)
        try:
            sock.send(query * max(1, pipelined))
            got += sock.recv(1 << 16).count(b"OK ")
        except BlockingIOError:
            pass
        except OSError:
            socks[socks.index(sock)] = socket.create_connection((address, 8462), 10)
print("answers", got, flush=True)
"""


def as_user(trial: Trial, uid: int, method: str, *args: str) -> int:
    """A call by this user; the exit status of `busctl`."""
    call = ["busctl", f"--address={trial.world.bus.address}", "call", NAME, PATH, INTERFACE, method, *args]
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *call]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode


def peak(pid: int) -> int:
    """The most memory that a process had (KiB)."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@contextmanager
def server(trial: Trial, space: Netns, *addresses: str, behaviour: str = "ok") -> Iterator[Path]:
    """A mail server with these addresses; the log of its conversations, one JSON text a line."""
    log = trial.world.directory / f"conversations-{time.monotonic_ns()}"
    log.touch()
    argv = ["-m", "tests.lab.smtpserver", "--behaviour", behaviour, "--log", str(log)]
    argv += [word for address in addresses for word in ("--listen", address)]
    process = trial.world.start(space, [sys.executable, *argv])
    process.wait_for("listening", where="out")
    try:
        yield log
    finally:
        process.end(signal.SIGKILL)


def conversations(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@contextmanager
def second_link(trial: Trial, name: str, address: str, far: Netns, gateway: str) -> Iterator[None]:
    """Another link of the host, to `gateway` in another namespace; it has no default route."""
    host = trial.world.host
    veth(host, name, far, f"far-{name}")
    try:
        far.ip("addr", "add", f"{gateway}/32", "dev", f"far-{name}")
        far.ip("route", "add", f"{address}/32", "dev", f"far-{name}")
        host.ip("addr", "add", f"{address}/24", "dev", name)
        yield
    finally:
        host.ip("link", "del", name)


@fault("attacks", "one router advertisement a second toggles a preferred lifetime")
def superseding(trial: Trial) -> None:
    """E2: a round goes on 3 s after the oldest change that is undecided, also the first one of the agent."""
    slow = {"MX": {"answer": [f"10 {NOC}."], "delay": 1.2}}  # no round is over within a second
    trial.world.publish(ZONE | {NET24: slow})
    trial.start(config=CONFIG.replace("timeout = 0.5", "timeout = 2.0"))
    host = trial.world.host
    toggle = "ip -6 addr replace 2001:db8:7::5/64 dev up0 nodad valid_lft forever preferred_lft"
    storm = host.exec(["sh", "-c", f"while :; do {toggle} 0; sleep 1; {toggle} forever; sleep 1; done"])
    try:
        trial.roam(A)
        begun = time.monotonic()
        limit = SUPERSEDED + 2 * ROUND
        until(lambda: trial.world.best, lambda best: best == f"{NOC}:25", patience=limit + trial.slack)
        trial.note(f"published after {time.monotonic() - begun:.1f} s of the storm")
    finally:
        storm.kill()
        storm.wait()
    trial.expect(NOC, 2 * SUPERSEDED + ROUND, "ready")


@fault("attacks", "two users make connections with eight Refresh each, over and over")
def churn(trial: Trial) -> None:
    def both(seconds: float) -> int:
        """How many connections they made."""
        command = [sys.executable, "-m", "tests.lab.churn", trial.world.bus.address]
        users = [subprocess.Popen([*command, str(uid), str(seconds)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
                 for uid in (NOBODY, STRANGERS[0])]  # fmt: skip
        try:
            return sum(int(user.communicate(timeout=seconds + 30)[0]) for user in users)
        finally:
            for user in users:
                user.kill()
                user.wait()

    seconds = max(3.0, trial.seconds(60))
    trial.start()
    began = peak(trial.pid)
    both(3.0)
    trial.weigh_from_here()
    trial.roam(A)
    made = both(seconds)
    trial.expect(NOC, seconds + 10, "ready")  # the bus still holds calls of theirs, which come first
    trial.note(f"{made} connections; at most {(peak(trial.pid) - began) // MIB} MiB more")
    if peak(trial.pid) > 64 * MIB:
        raise Broken(f"{peak(trial.pid) // MIB} MiB at its peak")


@fault("attacks", "fresh exchange names all the time, all of them at one victim, while an address flaps")
def aimed(trial: Trial) -> None:
    """D11: at most the budget of one server, of which the administrator's relays have the half: 5, and one in 5 s."""
    trial.world.kill(VERTEX)
    with server(trial, trial.world.far, RELAYS[VERTEX], behaviour="554") as log:
        trial.start(on=A)
        began = time.monotonic()
        while time.monotonic() < began + max(5.0, trial.seconds(60)):
            names = [f"x{time.monotonic_ns()}-{n}.example.org" for n in range(4)]
            trial.allowed.update(names)
            zone = ZONE | {NET24: {"MX": [*(f"1 {name}." for name in names), f"9 {NOC}."]}}
            trial.world.publish(zone | {name: {"A": [RELAYS[VERTEX]]} for name in names})
            trial.world.call("Refresh", check=False)
            trial.roam(B)
            trial.roam(A)
        took = time.monotonic() - began
        trial.expect(NOC, SUPERSEDED + 2 * ROUND)
        seen = len(conversations(log))
    trial.note(f"{seen} connections to the victim in {took:.0f} s")
    if seen > 10 + (time.monotonic() - began) / 5:
        raise Broken(trial.row.note)


@fault("attacks", "sixty pipelining connections to the socketmap beside Postfix's")
def socketmap(trial: Trial) -> None:
    trial.start(config=f'postfix.listen = ["inet:127.0.0.1:{PORT}"]\n{CONFIG}', on=A)
    seconds = max(2.0, trial.seconds(20))

    def peer(connections: int, pipelined: int, length: float) -> Process:
        argv = [sys.executable, "-I", "-c", PEER, "127.0.0.1", str(length), str(connections), str(pipelined)]
        process = trial.world.start(trial.world.host, argv)
        process.wait_for("connected", where="out")
        return process

    def answers(process: Process) -> float:
        process.popen.wait(seconds + 30)
        return int(process.out.split("answers ")[1]) / seconds

    alone = answers(peer(1, 0, seconds))
    flood = peer(60, 1000, seconds + 4)
    beside = answers(peer(1, 0, seconds))
    flood.end(signal.SIGKILL)
    trial.note(f"Postfix gets {beside:.0f} answers a second, {alone:.0f} without them")
    if beside < 10:
        raise Broken(trial.row.note)
    trial.expect(NOC, ROUND, "ready")


CROWD = """
import os, socket, sys, time
uid, mode, end = int(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
held = []
while time.monotonic() < end:
    try:
        one = socket.create_connection(("127.0.0.1", 8462), 10)
        if mode != "silent":
            one.sendall(b"18:relay me@a.example," if mode == "asks" else b"10000:" + b"a" * 9999)
    except OSError:
        continue
    held.append(one)
    if mode == "asks" or len(held) > 200:
        for one in held:
            one.close()
        held.clear()
"""


@fault("attacks", "three users connect to the socketmap in loops, and ask, or hold on, or send half a query")
def crowd(trial: Trial) -> None:
    """No more than its 64 connections are held, whatever comes at once; it took 67 MiB and 655 descriptors."""
    trial.start(config=f'postfix.listen = ["inet:127.0.0.1:{PORT}"]\n{CONFIG}', on=A)
    seconds = max(3.0, trial.seconds(20))
    deadline = time.monotonic() + seconds + trial.slack
    files = most = descriptors(trial.pid)
    answered = rounds = 0
    # two answers a second, for which a busy machine may need the slack, too
    while answered < 2 * seconds and (not rounds or time.monotonic() + seconds < deadline):
        more, held = _crowded(trial, seconds)
        answered, rounds, most = answered + more, rounds + 1, max(most, held)
    trial.note(
        f"Postfix gets {answered / seconds / rounds:.0f} answers a second; {peak(trial.pid) // MIB} MiB, "
        f"{most - files} connections"
    )
    if answered < 2 * seconds or peak(trial.pid) > 64 * MIB or most - files > 80:
        raise Broken(trial.row.note)
    trial.expect(NOC, ROUND, "ready")


def _crowded(trial: Trial, seconds: float) -> tuple[int, int]:
    """So many seconds of it: the answers that Postfix got, and the most descriptors that the agent held."""
    most = 0
    modes = {NOBODY: "asks", STRANGERS[0]: "silent", STRANGERS[1]: "half"}
    users = [
        trial.world.start(trial.world.host, [sys.executable, "-I", "-c", CROWD, str(uid), mode, str(seconds)])
        for uid, mode in modes.items()
    ]
    argv = [sys.executable, "-I", "-c", PEER, "127.0.0.1", str(seconds), "1", "0"]
    postfix = trial.world.start(trial.world.host, argv)
    while users[0].popen.poll() is None:
        most = max(most, descriptors(trial.pid))
    for user in (*users, postfix):
        user.popen.wait(seconds + 30)
    return int(postfix.out.split("answers ")[1]), most


@fault("attacks", "two users report a good relay all the time")
def reports(trial: Trial) -> None:
    """D6: it is verified at once, stands again, and is then reported by root alone for an hour."""
    trial.start(on=A)
    began = time.monotonic()
    looks = down = accepted = 0
    while time.monotonic() < began + max(5.0, trial.seconds(60)):
        for uid in (NOBODY, STRANGERS[0]):
            accepted += as_user(trial, uid, "ReportFailure", "sqs", NOC, "25", "554 no") == 0
            looks, down = looks + 1, down + (trial.world.best != f"{NOC}:25")
    trial.note(f"{accepted} reports accepted; another relay published at {down} of {looks} looks")
    if accepted > 6 or down > max(2, looks // 5):
        raise Broken(trial.row.note)
    trial.expect(NOC, ROUND, "ready")


@fault("attacks", "the first link names 32 tarpits, the second one a good relay")
def tarpits(trial: Trial) -> None:
    """D11: eight servers of a link in a round, and two places while another link waits."""
    far = trial.world.far
    traps = {f"trap{n:02}.example.org": f"203.0.113.{n + 100}" for n in range(32)}
    far.batch([f"addr add {ip}/32 dev down0" for ip in traps.values()])
    zone = ZONE | {NET24: {"MX": [f"1 {name}." for name in traps]}}
    trial.world.publish(zone | {name: {"A": [ip]} for name, ip in traps.items()})
    trial.allowed |= set(traps)
    try:
        with server(trial, far, *traps.values(), behaviour="silent") as log:
            trial.start()
            with second_link(trial, "up1", "198.51.100.8", far, "198.51.100.253"):
                trial.roam(A)
                until(lambda: _verdict(trial, ELSEWHERE), lambda verdict: verdict == "ok", patience=ROUND + trial.slack)
                trial.expect(ELSEWHERE, DNS_PART + 8 / 2 * VERIFY, "ready")
                seen = {tuple(one["local"]) for one in conversations(log)}
            trial.note(f"{len(seen)} of them were spoken to")
            if len(seen) > 8:
                raise Broken(trial.row.note)
            trial.roam(A)
            trial.expect(HOME, DNS_PART + 8 / 2 * VERIFY)
    finally:
        far.batch([f"addr del {ip}/32 dev down0" for ip in traps.values()])


def _verdict(trial: Trial, host: str) -> str:
    found = [one["verdict"] for one in trial.world.get("Relays") or () if one["host"] == host]
    return found[0] if found else ""


@fault("attacks", "a hostile network names hosts of the VPN")
def deputy(trial: Trial) -> None:
    """C3 and D11: no address in the VPN's prefix; others that are private through the link that named them only."""
    inside = {"in-prefix.example.org": "10.1.0.25", "routed.example.org": "10.2.0.25"}
    zone = ZONE | {NET24: {"MX": [*(f"1 {name}." for name in inside), f"9 {NOC}."]}}
    trial.world.publish(zone | {name: {"A": [ip]} for name, ip in inside.items()})
    trial.allowed.add("routed.example.org")
    trial.start()
    with Netns() as vpn, second_link(trial, "vpn0", "10.1.0.2", vpn, "10.1.0.1"):
        for ip in inside.values():
            vpn.ip("addr", "add", f"{ip}/32", "dev", "far-vpn0")
        trial.world.host.ip("route", "add", "10.2.0.0/16", "via", "10.1.0.1", "dev", "vpn0", "onlink")
        with server(trial, vpn, *inside.values()) as log:
            trial.roam(A)
            trial.expect(NOC, 2 * ROUND)
            if probed := conversations(log):
                raise Broken(f"the VPN's hosts were spoken to: {[one['local'] for one in probed]}")
        trial.roam(B)  # without the VPN nothing speaks against the first one
        trial.expect(ELSEWHERE, SUPERSEDED + ROUND)


@fault("attacks", "a FIFO as configuration at SIGHUP, and as hosts file")
def fifo(trial: Trial) -> None:
    """Every file is opened without a wait; the old settings stay, and SIGTERM ends the agent."""
    hosts = Path("/etc/netns", trial.world.host.name, "hosts")
    os.mkfifo(hosts)
    config = trial.world.config
    try:
        trial.start()
        config.unlink()
        os.mkfifo(config)
        trial.agent.popen.send_signal(signal.SIGHUP)
        trial.agent.wait_for("the old settings stay")
        trial.roam(A)
        trial.expect(NOC, ROUND, "ready")
        trial.judge()
        trial.ends = True
        if (status := trial.agent.end()) != 0:
            raise Broken(f"SIGTERM: status {status}")
    except subprocess.TimeoutExpired:
        raise Broken("SIGTERM is ignored") from None
    finally:
        config.unlink()
        hosts.unlink()


@fault("attacks", "sixteen addresses with 1,500 MX records each")
def many_exchanges(trial: Trial) -> None:
    """C5: the bounds come before the work."""
    addresses = [f"165.154.15.{n}" for n in range(1, 17)]
    sets = {
        f"{n}.15.154.165.in-addr.arpa": {"MX": [f"9 h{n}-{i:04}.example.org." for i in range(1500)]}
        for n in range(1, 17)
    }
    trial.world.publish(ZONE | sets)
    trial.allowed |= {f"h{n}-{i:04}.example.org" for n in range(1, 17) for i in range(1500)}
    trial.start(config=CONFIG.replace("timeout = 0.5", "timeout = 10.0"))
    spent, files = cpu(trial.pid), descriptors(trial.pid)
    trial.roam(A)
    trial.world.host.batch([f"addr add {address}/24 dev up0" for address in addresses[1:]])
    trial.expect(HOME, 30.0)  # of which the lab's server takes nearly all
    until(lambda: descriptors(trial.pid), lambda open_now: open_now <= files, patience=60.0)  # all is answered
    said = len(trial.world.call("Explain"))
    trial.note(f"{cpu(trial.pid) - spent:.1f} s of CPU; Explain has {said // 1000} kB of JSON")
    if cpu(trial.pid) - spent > 5 or said > 1_000_000:
        raise Broken(trial.row.note)
