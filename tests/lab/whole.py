"""The whole program in a world of its own: a host in a namespace, the networks it roams between, a bus.

The far side has a DNS server on port 53 (192.0.2.53, `tests.lab.dnsserver`), relays on port 25 (`tests.lab.smtpserver`)
and the routers of two networks. The agent is the real process, asked with `busctl`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.lab.bus import PATIENCE, PROJECT, Bus, system_bus
from tests.lab.netns import Netns, veth

T = TypeVar("T")

NAME, PATH, INTERFACE = "org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1"
SERVER = "192.0.2.53"
GATEWAYS = {"165.154.15": "165.154.15.254", "198.51.100": "198.51.100.254"}  # of the /24s
NOC, VERTEX, HOME = "noc.tor.hookup.net", "vertex.tor.hookup.net", "smtp.clear.net.nz"
RELAYS = {NOC: "203.0.113.1", VERTEX: "203.0.113.2", HOME: "203.0.113.3"}
FULL, NET24, NET16 = "1.15.154.165.in-addr.arpa", "15.154.165.in-addr.arpa", "154.165.in-addr.arpa"
ZONE: dict[str, dict[str, Any]] = {
    NET16: {"MX": [f"10 {NOC}.", f"20 {VERTEX}."]},
    **{name: {"A": [address]} for name, address in RELAYS.items()},
}
CONFIG = f'[static]\nrelays = ["{HOME}"]\n'


def until(what: Callable[[], T], ready: Callable[[T], bool], *, patience: float = PATIENCE) -> T:
    """Ask `what` until the answer is `ready`; fails after `patience` seconds with what was seen last."""
    deadline = time.monotonic() + patience
    while True:
        seen = what()
        if ready(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came; last seen: {seen!r}")
        time.sleep(0.02)


class Process:
    """A program that runs inside; what it prints goes to a file."""

    def __init__(self, process: subprocess.Popen[Any], out: Path, err: Path) -> None:
        self.popen = process
        self._out, self._err = out, err

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._err.read_text(errors="replace")

    def wait_for(self, text: str, *, where: str = "log") -> None:
        until(lambda: getattr(self, where), lambda seen: text in seen)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


class World:
    """`host` is where the agent runs, `far` everything else. All of it is gone at the end of the block."""

    def __init__(self, zone: Mapping[str, Any] = ZONE, *, policy: bool = True, extra: str = "") -> None:
        """`policy`, `extra`: of its system bus, see `system_bus`."""
        self.zone: dict[str, Any] = {name: dict(entry) for name, entry in zone.items()}
        self.host, self.far = Netns(), Netns()
        self.bus: Bus
        self._policy, self._extra = policy, extra
        self._stack = ExitStack()
        self._started = 0
        self._relays: dict[str, Process] = {}
        self.dns: Process

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="salsa-world-"))
            stack.callback(shutil.rmtree, self.directory)
            self.directory.chmod(0o755)
            stack.enter_context(self.host)
            stack.enter_context(self.far)
            for space in (self.host, self.far):
                space.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
            veth(self.host, "up0", self.far, "down0")
            resolver = Path("/etc/netns", self.host.name, "resolv.conf")  # `ip netns exec` lays it over the host's
            resolver.parent.mkdir(parents=True)
            stack.callback(shutil.rmtree, resolver.parent)
            resolver.write_text(f"nameserver {SERVER}\n")
            addresses = [SERVER, *GATEWAYS.values(), *RELAYS.values()]
            self.far.batch([f"addr add {address}/32 dev down0" for address in addresses])
            self.far.batch([f"route add {net}.0/24 dev down0" for net in GATEWAYS])
            self.bus = stack.enter_context(system_bus(policy=self._policy, extra=self._extra))
            self.publish(self.zone)
            log, zone = str(self.directory / "queries"), str(self.directory / "zone.json")
            self.dns = self.start(
                self.far, [sys.executable, "-m", "tests.lab.dnsserver", "--listen", SERVER, "--log", log, zone]
            )
            self.dns.wait_for("ready", where="out")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- the world

    def start(self, space: Netns, argv: list[str], **environment: str) -> Process:
        """Start a program inside."""
        self._started += 1
        out, err = (self.directory / f"{self._started}.{stream}" for stream in ("out", "err"))
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = space.exec(
                argv,
                stdout=to_out,
                stderr=to_err,
                stdin=subprocess.DEVNULL,
                cwd=PROJECT,
                env={**self.bus.environment, "DBUS_SESSION_BUS_ADDRESS": "", "NOTIFY_SOCKET": "", **environment},
            )
        return Process(process, out, err)

    def relay(self, name: str, behaviour: str = "ok", *more: str) -> Process:
        """Start a relay; one that runs there is ended first."""
        self.kill(name)
        argv = ["-m", "tests.lab.smtpserver", "--listen", RELAYS[name], "--behaviour", behaviour, *more]
        self._relays[name] = self.start(self.far, [sys.executable, *argv])
        self._relays[name].wait_for("listening", where="out")
        return self._relays[name]

    def kill(self, name: str) -> None:
        """The relay is no more: its port is closed."""
        if name in self._relays:
            self._relays.pop(name).end(signal.SIGKILL)

    def publish(self, zone: Mapping[str, Any]) -> None:
        """The DNS says this from now on."""
        self.zone = dict(zone)
        new = self.directory / "zone.new"
        new.write_text(json.dumps(self.zone))
        new.replace(self.directory / "zone.json")
        if hasattr(self, "dns"):
            count = self.dns.out.count("reloaded")
            self.dns.popen.send_signal(signal.SIGHUP)
            until(lambda: self.dns.out.count("reloaded"), lambda seen: seen > count)

    def queries(self, rtype: str = "MX") -> list[str]:
        """The names that were asked for so far, in order."""
        log = self.directory / "queries"
        entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [entry["name"] for entry in entries if entry["type"] == rtype]

    # --- the host

    def settle(self) -> None:
        """Have all relays answer, and the host in the first network."""
        for name in RELAYS:
            self.relay(name)
        self.join("165.154.15.1")

    def join(self, address: str) -> None:
        """The host gets an address, and the default route of its network."""
        self.host.ip("addr", "add", f"{address}/24", "dev", "up0")
        self.host.ip("route", "replace", "default", "via", GATEWAYS[address.rpartition(".")[0]])

    def leave(self) -> None:
        """The host loses its addresses, and the routes with them."""
        self.host.ip("addr", "flush", "dev", "up0")

    def agent(self, config: str | None = CONFIG, *options: str, **environment: str) -> Process:
        """Start the agent. `config`: the text of its configuration; None: it has none."""
        arguments = list(options)
        if config is not None:
            self.configure(config)
            arguments += ["--config", str(self.config)]
        return self.start(self.host, [sys.executable, "-m", "salsa_agent.cli.agent", *arguments], **environment)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "salsa-agent.toml"

    def configure(self, text: str) -> None:
        self.config.write_text(text)

    # --- what the agent says

    def busctl(self, *args: str, check: bool = True) -> str:
        """`busctl` on the bus; what it printed."""
        done = subprocess.run(
            ["busctl", f"--address={self.bus.address}", "--json=short", *args],
            check=False, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"busctl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, name: str) -> Any:
        """A property, as plain values; None while there is no agent."""
        said = self.busctl("get-property", NAME, PATH, INTERFACE, name, check=False)
        return plain(json.loads(said)) if said.startswith("{") else None

    def call(self, method: str, *args: str, check: bool = True) -> str:
        """Call a method of the agent."""
        return self.busctl("call", NAME, PATH, INTERFACE, method, *args, check=check)

    @property
    def best(self) -> str:
        """`host:port`, or empty."""
        host, port = self.get("BestRelay"), self.get("BestRelayPort")
        return f"{host}:{port}" if host else ""

    def wait_for_best(self, relay: str, state: str | None = None) -> None:
        """Until this is the best relay (`host`, at port 25; empty for none), and the state."""
        wanted = f"{relay}:25" if relay else ""
        until(
            lambda: (self.best, self.get("State")),
            lambda seen: (
                seen[1] not in (None, "starting", "resolving") and seen[0] == wanted and state in (None, seen[1])
            ),
        )

    def signals(self) -> Process:
        """Start `busctl monitor` for the agent's signals; `said` reads them."""
        monitor = self.start(
            self.host,
            ["busctl", f"--address={self.bus.address}", "--json=short", "monitor", f"--match=path='{PATH}'"],
        )
        # from systemd 257 on it no longer says with --json when it has begun: it has, once it shows a signal of ours
        probe = ["busctl", f"--address={self.bus.address}", "emit", PATH, "org.salsa.Lab", "Probe"]

        def shown() -> str:
            self.host.run(probe)
            return monitor.out

        until(shown, lambda seen: '"Probe"' in seen)
        return monitor


def said(monitor: Process, member: str) -> list[Any]:
    """The bodies of the signals with this name, as plain values."""
    messages = [json.loads(line) for line in monitor.out.splitlines() if line.endswith("}")]
    return [
        [plain(value) for value in one["payload"]["data"]]
        for one in messages
        if one.get("member") == member and one["type"] == "signal"
    ]


def plain(value: Any) -> Any:
    """busctl's JSON, which says the type of each variant, without the types."""
    if isinstance(value, dict):
        if value.keys() == {"type", "data"}:
            return plain(value["data"])
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def descriptors(pid: int) -> int:
    """How many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))
