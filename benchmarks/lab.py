"""Where everything is measured: a network namespace with a link, a name server on its loopback, a relay, and a bus."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.lab.netns import Netns, veth

PROJECT = Path(__file__).resolve().parents[1]
LINK = "up0"
SERVER = "127.0.0.1"
RELAY = "203.0.113.10"
SERVERS = "198.18.0.0/16"  # nameserver.c: each network has a mail server of its own, since one is spoken to seldom (D1)
HIDDEN = "169.254.1.1"  # an address that does not count: with its last one a link would lose its routes
PATIENCE = 30.0
RTMGRP_IPV4_IFADDR = 0x10  # linux/rtnetlink.h
BUS = """\
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow send_destination="*" eavesdrop="true"/> <allow eavesdrop="true"/> <allow own="*"/>
  </policy>
</busconfig>
"""


class Lab:
    """The world of some measurements, one after the other. All is gone with the block.

    `delay`: seconds until a DNS answer goes out. `exchanges`: how many a network's MX set has.
    """

    def __init__(self, tools: Path, delay: float = 0.0, exchanges: int = 1) -> None:
        self.tools = tools
        self._delay, self._exchanges = delay, exchanges
        self.host, self.far = Netns(), Netns()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="salsa-bench-", dir="/run"))  # /tmp is busy, and watched
            stack.callback(shutil.rmtree, self.directory)
            self.directory.chmod(0o755)
            for space in (self.host, self.far):
                stack.enter_context(space)
                space.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
            veth(self.host, LINK, self.far, "down0")
            self.host.batch([f"addr add {HIDDEN}/32 dev {LINK}", f"route add {RELAY}/32 dev {LINK}"])
            self.host.batch([f"route add {SERVERS} via {RELAY} dev {LINK}"])
            self.far.batch([f"addr add {RELAY}/32 dev down0", f"route add {HIDDEN}/32 dev down0"])
            self.far.batch([f"route add local {SERVERS} dev lo"])  # whatever it is asked for there, it is
            resolver = Path("/etc/netns", self.host.name, "resolv.conf")  # `ip netns exec` lays it over the host's
            resolver.parent.mkdir(parents=True)
            stack.callback(shutil.rmtree, resolver.parent)
            resolver.write_text(f"nameserver {SERVER}\n")
            socket, config = self.directory / "bus", self.directory / "bus.conf"
            self.bus = f"unix:path={socket}"
            config.write_text(BUS.format(socket=socket))
            self.start(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"], ready="unix:")
            self._counter = self.directory / "questions"
            given = (SERVER, "53", str(round(self._delay * 1e6)), str(self._counter), str(self._exchanges))
            self.start([self.tool("nameserver"), *given], ready="ready")
            relay = [sys.executable, "-m", "tests.lab.smtpserver", "--listen", "0.0.0.0", "--port", "25"]
            self.start(relay, ready="listening", where=self.far)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tool(self, name: str) -> str:
        """A measuring tool that `./run bench` built."""
        return str(self.tools / name)

    def start(self, argv: Sequence[str], *, ready: str = "", where: Netns | None = None) -> subprocess.Popen[str]:
        """Start a program inside. `ready`: wait until it prints this."""
        with (self.directory / "log").open("ab") as log:
            process = (where or self.host).exec(
                argv, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=PROJECT, text=True,
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus, "DBUS_SESSION_BUS_ADDRESS": ""},
            )  # fmt: skip
        if ready and process.stdout and ready not in process.stdout.readline():
            raise RuntimeError(f"{argv[0]} did not start: {self.log()}")
        return process

    def log(self) -> str:
        """What was written to standard error so far, by all that was started."""
        return (self.directory / "log").read_text(errors="replace")

    def run(self, argv: Sequence[str], **options: Any) -> str:
        """Run a program inside to its end; what it printed."""
        argv = ["ip", "netns", "exec", self.host.name, *argv]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=900, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
        return str(done.stdout)

    @contextmanager
    def addresses(self, *these: str) -> Iterator[None]:
        """The link has these for the block."""
        self.host.batch([f"addr add {one} dev {LINK}" for one in these])
        try:
            yield
        finally:
            self.host.batch([f"addr del {one} dev {LINK}" for one in these])

    def questions(self) -> int:
        """How many the name server was asked so far."""
        return int(struct.unpack("=Q", self._counter.read_bytes())[0])

    def wait_for(self, owns: tuple[str, str, str, str], value: str = "") -> None:
        """Until this property is the value; empty: until it has one."""
        until(lambda: (seen := self.get(*owns)) and (not value or seen == value), f"{owns[-1]} is {value or 'known'}")

    def get(self, name: str, path: str, interface: str, member: str) -> str:
        """A string property; empty if there is none."""
        done = subprocess.run(
            ["busctl", f"--address={self.bus}", "get-property", name, path, interface, member],
            check=False, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout.partition('"')[2].rpartition('"')[0]


@dataclass
class Peer:
    """Something that is measured. `owns`: bus name, path, interface and property; None: it only emits."""

    label: str
    argv: Callable[[Lab], list[str]]
    owns: tuple[str, str, str, str] | None


PEERS = Path(__file__).parent / "peers"


def agent(*lines: str, label: str = "salsa-agent", program: Sequence[str] = ("-m", "salsa_agent.cli.agent")) -> Peer:
    """The agent, with these lines of configuration."""

    def argv(lab: Lab) -> list[str]:
        config = lab.directory / "salsa-agent.toml"
        config.write_text("".join(f"{line}\n" for line in lines))
        return [sys.executable, *program, "--bus", lab.bus, "--config", str(config)]

    return Peer(label, argv, ("org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1", "BestRelay"))


AGENT = agent("verify.enabled = false")
VERIFYING = agent(label="salsa-agent, verifying")
TINY = agent("verify.enabled = false", label="salsa-agent, receive buffer of 4 KiB", program=[str(PEERS / "tiny.py")])
FLOOR = Peer(
    "C floor",
    lambda lab: [lab.tool("floor"), lab.bus, SERVER],
    ("bench.Floor", "/bench/Floor", "bench.Floor", "Relay"),
)
NAIVE = Peer(
    "naive stack",
    lambda lab: [sys.executable, str(PEERS / "naive.py"), lab.bus],
    ("bench.Naive", "/bench/Naive", "bench.Naive", "Relay"),
)
LEAN = Peer(
    "lean Python",
    lambda lab: [sys.executable, str(PEERS / "lean.py"), lab.bus, SERVER],
    ("bench.Lean", "/bench/Lean", "bench.Lean", "Relay"),
)
RULED = Peer(
    "lean Python by the rules",
    lambda lab: [sys.executable, str(PEERS / "ruled.py"), lab.bus, SERVER],
    ("bench.Ruled", "/bench/Ruled", "bench.Ruled", "Relay"),
)
# in a process namespace of its own, so that what the shell started ends with it
SHELL = Peer(
    "shell loop",
    lambda lab: ["unshare", "--pid", "--fork", "--kill-child", "sh", str(PEERS / "shell.sh"), lab.bus],
    None,
)


@contextmanager
def awake() -> Iterator[None]:
    """No processor sleeps in the block: on each a process runs whenever nothing else wants to (sched(7): SCHED_IDLE).

    A processor that sleeps while an answer is awaited takes its time to get going, several times for each address. How
    much that is belongs to the machine, and in a virtual one to whoever else is on it.
    """
    spin = ["sh", "-c", "while :; do :; done"]
    with ExitStack() as stack:
        for processor in os.sched_getaffinity(0):
            process = subprocess.Popen(["chrt", "--idle", "0", "taskset", "--cpu-list", str(processor), *spin])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@contextmanager
def running(lab: Lab, peer: Peer) -> Iterator[subprocess.Popen[str]]:
    """The peer runs and has its name; its process. It is ended with the block."""
    process = lab.start(peer.argv(lab))
    try:
        if peer.owns:
            name = peer.owns[0]
            until(lambda: owner(lab, name), f"{peer.label} owns its name")
        else:
            until(lambda: _followed(lab), f"{peer.label} follows the addresses")
        yield process
    finally:
        process.terminate() if peer.owns else process.kill()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def owner(lab: Lab, name: str) -> bool:
    """Whether the name is owned."""
    daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    done = subprocess.run(
        ["busctl", f"--address={lab.bus}", "call", *daemon, "NameHasOwner", "s", name],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    return done.stdout.strip() == "b true"


def _followed(lab: Lab) -> bool:
    """Whether anybody listens to the kernel for IPv4 addresses (proc(5): socket, protocol, process, groups)."""
    sockets = lab.run(["cat", "/proc/net/netlink"]).splitlines()[1:]
    return any(words[1] == "0" and int(words[3], 16) & RTMGRP_IPV4_IFADDR for words in map(str.split, sockets))


def until(ready: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
    """Wait for it."""
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it never came: {what}")
        time.sleep(0.02)
