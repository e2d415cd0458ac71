"""One fault, and the questions it has to answer: the right relay in time, nothing wrong published, nothing leaked.

The host roams from network B, where all is well, to network A, where the fault is (or it is put there by the case).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.lab.bus import PATIENCE
from tests.lab.whole import GATEWAYS, HOME, NET16, NOC, RELAYS, VERTEX, Process, World, descriptors, said, until

A, B = "165.154.15.1", "198.51.100.7"
NET_B = "100.51.198.in-addr.arpa"
ELSEWHERE = "relay.elsewhere.example"  # network B's
TIMEOUT, ATTEMPTS, VERIFY = 0.5, 2, 2.0
DNS_PART = 2 * TIMEOUT * ATTEMPTS  # seconds, E4
ROUND = DNS_PART + VERIFY  # at most four relays: one batch
RETRIES = (2.0, 8.0, 30.0)  # seconds after which a failed level is asked again (B5)
CONFIG = f"""
static.relays = ["{HOME}"]
dns.timeout = {TIMEOUT}
dns.attempts = {ATTEMPTS}
verify.timeout = {VERIFY}
"""
ZONE: dict[str, dict[str, Any]] = {
    NET16: {"MX": [f"10 {NOC}.", f"20 {VERTEX}."]},
    NET_B: {"MX": [f"10 {ELSEWHERE}."]},
    ELSEWHERE: {"A": [RELAYS[VERTEX]]},
    **{name: {"A": [address]} for name, address in RELAYS.items()},
}
GROWTH = 4096  # KiB of anonymous memory that a fault may cost; a leak of one message a round would be seen in the soak
ALARMS = re.compile(r"Traceback|critical: |an error went unheard|internal error|message handler failed|not dealt with")


def roam(world: World, address: str) -> None:
    """The host's only address is this one now, all in one go."""
    gateway = GATEWAYS[address.rpartition(".")[0]]
    world.host.batch(
        [
            "addr flush dev up0 scope global",
            f"addr add {address}/24 dev up0",
            f"route replace default via {gateway}",
        ]
    )


class Broken(AssertionError):
    """The agent did not stand the fault."""


@dataclass
class Expectation:
    """A relay that was to be published: by when (seconds), and when it was."""

    relay: str
    limit: float
    took: float


@dataclass
class Row:
    """What came of one fault."""

    group: str
    fault: str
    seen: list[Expectation] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: int | None = None  # KiB
    descriptors: int | None = None
    note: str = ""
    failure: str = ""


class Trial:
    """What a case works with. `slack`: seconds that a limit may be exceeded by on a busy machine."""

    def __init__(self, world: World, row: Row, slack: float, scale: float) -> None:
        self.world, self.row, self.slack, self.scale = world, row, slack, scale
        self.allowed = {HOME, NOC, VERTEX, ELSEWHERE}
        self.agent: Process
        self.ends = False  # the agent is to have ended
        self._monitor: Process | None = None
        self._before = (0, 0)

    # --- what a case does

    def start(self, *options: str, config: str = CONFIG, on: str = B, **environment: str) -> None:
        """Start the agent on a network without faults, and look at what it needs."""
        self.roam(on)
        self.agent = self.world.agent(config, *options, **environment)
        self.world.wait_for_best(ELSEWHERE if on == B else NOC)
        self._monitor = self.world.signals()
        self._before = self._size()

    def weigh_from_here(self) -> None:
        """What it needs now is what it may need in the end: it has done once what it will do often."""
        self._before = self._size()

    def roam(self, address: str) -> None:
        """The host's only address is this one now, all in one go."""
        roam(self.world, address)

    def roam_about(self, times: float) -> None:
        """To and fro so often, fewer times in the test command; at the end the right relay has to stand."""
        for _ in range(int(self.seconds(times))):
            self.roam(A)
            self.roam(B)
        self.roam(A)
        self.expect(NOC, 2 * ROUND, "ready")

    def expect(self, relay: str, within: float, state: str = "") -> None:
        """Until this is the best relay, decided. `within`: seconds from now, by the rules."""
        start = time.monotonic()
        wanted = relay and f"{relay}:25"

        def settled(now: tuple[str, Any]) -> bool:
            return now[0] == wanted and now[1] not in (None, "starting", "resolving") and state in ("", now[1])

        try:
            until(lambda: (self.world.best, self.world.get("State")), settled, patience=within + max(self.slack, 10))
        except AssertionError as error:
            raise Broken(f"{relay or 'no relay'} {state} was due within {within:g} s: {error}") from None
        took = time.monotonic() - start
        self.row.seen.append(Expectation(relay, within, took))
        if took > within + self.slack:
            raise Broken(f"{relay} came after {took:.1f} s, {within:g} were allowed")

    def ended(self, status: int, words: str, within: float) -> None:
        """The agent ends by itself with this status, and one line that says why."""
        self.ends = True
        start = time.monotonic()
        try:
            code = self.agent.popen.wait(within + max(self.slack, 10))
        except subprocess.TimeoutExpired:
            raise Broken(f"it did not end within {within:g} s") from None
        self.row.seen.append(Expectation(f"status {code}", within, time.monotonic() - start))
        line = (self.agent.log.splitlines() or [""])[-1]
        if code != status or words not in line:
            raise Broken(f"status {code} ({status} was due), and at last: {line}")

    def note(self, text: str) -> None:
        self.row.note = text

    @property
    def pid(self) -> int:
        return self.agent.popen.pid

    def seconds(self, full: float) -> float:
        """`full` where there is time, less in the test command."""
        return full * self.scale

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The agent is stopped (SIGSTOP) within the block."""
        self.agent.popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.agent.popen.send_signal(signal.SIGCONT)

    # --- the questions after it

    def judge(self) -> None:
        """Raise Broken if anything wrong was published, leaked or logged."""
        if self._monitor is not None:
            self.row.wrong = sorted(self._published() - self.allowed)
        if not self.ends:
            if self.agent.popen.poll() is not None:
                raise Broken(f"it ended with status {self.agent.popen.returncode}: {self.agent.log[-300:]}")
            if self._monitor is not None:
                self._weigh()
        for line in self.agent.log.splitlines():
            if ALARMS.search(line) and not self.ends:
                raise Broken(f"in the log: {line[:300]}")
            if not line.isprintable() or "Traceback" in line:
                raise Broken(f"in the log: {line[:300]!r}")
        if self.row.wrong:
            raise Broken(f"published and never right: {', '.join(self.row.wrong)}")

    def _weigh(self) -> None:
        def sockets_closed(now: tuple[int, int]) -> bool:
            return now[1] <= self._before[1]

        with _last_look():
            until(self._size, sockets_closed, patience=5)
        memory, files = self._size()
        self.row.memory, self.row.descriptors = memory - self._before[0], files - self._before[1]
        if self.row.descriptors > 0:
            raise Broken(f"{self.row.descriptors} descriptors more than before")
        if self.row.memory > GROWTH:
            raise Broken(f"{self.row.memory} KiB more than before")

    def _published(self) -> set[str]:
        """The hosts that were published as best relay, or in the list."""
        assert self._monitor is not None
        hosts = {body[0] for body in said(self._monitor, "BestRelayChanged") if body[0]}
        for _, changed, *_ in said(self._monitor, "PropertiesChanged"):
            hosts.update(entry["host"] for entry in changed.get("Relays", ()))
        return hosts

    def _size(self) -> tuple[int, int]:
        status = Path(f"/proc/{self.pid}/status").read_text()
        anonymous = re.search(r"RssAnon:\s+(\d+)", status)
        return int(anonymous[1]) if anonymous else 0, descriptors(self.pid)


@contextmanager
def _last_look() -> Iterator[None]:
    """What does not come in time is judged by what is there."""
    with suppress(AssertionError):
        yield


Case = Callable[[Trial], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A case of the table. `alone`: in a world of its own, for it breaks its bus."""

    group: str
    name: str
    case: Case
    alone: bool = False


FAULTS: list[Fault] = []


def fault(group: str, name: str, *, alone: bool = False) -> Callable[[Case], Case]:
    """Put a case into the table."""

    def take(case: Case) -> Case:
        FAULTS.append(Fault(group, name, case, alone))
        return case

    return take


class Site(World):
    """A world with all relays, that can be made whole again."""

    def __init__(self) -> None:
        super().__init__(ZONE)
        self._well: dict[str, Process] = {}

    def heal(self) -> None:
        """The zone is as it was, and so are the relays."""
        self.publish(ZONE)
        for name in RELAYS:
            if name not in self._well or self._relays.get(name) is not self._well[name]:
                self._well[name] = self.relay(name)


@contextmanager
def torture_world() -> Iterator[Site]:
    """A world with all relays."""
    with Site() as site:
        site.host.batch(["link add idle0 type bridge", "link set idle0 up"])
        site.heal()
        yield site


def run(one: Fault, site: Site, *, slack: float, scale: float) -> Row:
    """Do the fault, and say what came of it. The world is as before afterwards, unless the fault is `alone`."""
    row = Row(one.group, one.name)
    site.heal()
    trial = Trial(site, row, slack, scale)
    try:
        one.case(trial)
        trial.judge()
    except (AssertionError, RuntimeError, OSError) as error:
        row.failure = str(error) or type(error).__name__
    finally:
        if hasattr(trial, "agent") and trial.agent.popen.poll() is None:
            trial.agent.popen.send_signal(signal.SIGCONT)
            trial.agent.end(signal.SIGKILL)
        if trial._monitor is not None:
            trial._monitor.end(signal.SIGKILL)
    return row


def in_loop(work: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end."""

    async def limited() -> Any:
        async with asyncio.timeout(4 * PATIENCE):
            return await work()

    return asyncio.run(limited())


def python(code: str) -> list[str]:
    """Arguments that run a piece of Python."""
    return [sys.executable, "-I", "-c", code]


def running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
