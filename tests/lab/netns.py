"""Real network namespaces for tests. Each is gone when its block ends, however it ends; `sweep` gets what SIGKILL left.

Needs iproute2, and root (that of a user namespace will do). Nothing in here reaches beyond the namespaces it made.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tests.lab.needs import Need, require

RUN = Path("/run/netns")
FILES = Path("/etc/netns")  # what `ip netns exec` lays over files in /etc
CLONE_NEWNET = 0x40000000  # linux/sched.h
_OWN = re.compile(r"salsa-(\d+)-\d+")

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()
_living: dict[str, Netns] = {}


class Netns:
    """A network namespace with `lo` up, for the length of a `with` block."""

    def __init__(self) -> None:
        self.name = f"salsa-{os.getpid()}-{next(_numbers)}"
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        require(Need.NAMESPACES)
        _prepare()
        _living[self.name] = self
        _run(["ip", "netns", "add", self.name])
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill what was started inside, delete the namespace. Twice does no harm."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self._processes.clear()
        _delete(self.name)
        _living.pop(self.name, None)

    def ip(self, *args: str, **kwargs: Any) -> str:
        """`ip -n NAME ARGS`; what it printed."""
        return _run(["ip", "-n", self.name, *args], **kwargs)

    def batch(self, lines: Sequence[str]) -> None:
        """Many `ip` commands in one process, in order."""
        self.ip("-batch", "-", input="".join(f"{line}\n" for line in lines))

    def own(self, address: str, link: str) -> None:
        """Give the link this IPv6 address, in use when this returns.

        With `nodad` the kernel takes what is sent there for its own a moment after `ip` has returned: it is unreachable
        until then.
        """
        self.ip("addr", "add", address, "dev", link, "nodad")
        deadline = time.monotonic() + 10.0
        while not self.ip("-6", "route", "show", "table", "local", address.partition("/")[0], "dev", link):
            assert time.monotonic() < deadline, f"{address} is never in use on {link}"
            time.sleep(0.01)

    def run(self, argv: Sequence[str], **kwargs: Any) -> str:
        """Run a program inside to its end; what it printed."""
        return _run(["ip", "netns", "exec", self.name, *argv], **kwargs)

    def exec(self, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a program inside; it is killed with the namespace."""
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *argv], **kwargs)
        self._processes.append(process)
        return process

    def sysctl(self, key: str, value: str | int) -> None:
        """Set a sysctl inside, its key with slashes: `net/ipv6/conf/NAME/accept_ra`."""
        self.run(["sh", "-c", 'printf %s "$2" >"/proc/sys/$1"', "sh", key, str(value)])

    def index(self, link: str) -> int:
        """The interface index of a link inside."""
        return int(self.ip("-o", "link", "show", "dev", link).partition(":")[0])

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace: sockets made within the block, and processes started, are.

        It may hold `await`: a test has the loop to itself. `ip`, `run` and `exec` work there as outside.
        """
        with _namespace("/proc/thread-self/ns/net") as before, _namespace(str(RUN / self.name)) as here:
            _setns(here)
            try:
                yield
            finally:
                _setns(before)


def veth(a: Netns, link_a: str, b: Netns, link_b: str) -> None:
    """A cable from `a` to `b`, both ends up."""
    a.ip("link", "add", link_a, "type", "veth", "peer", "name", link_b, "netns", b.name)
    a.ip("link", "set", link_a, "up")
    b.ip("link", "set", link_b, "up")


def sweep() -> None:
    """Delete the namespaces of test runs that are dead."""
    for name in {name for place in (RUN, FILES) if place.is_dir() for name in os.listdir(place)}:
        match = _OWN.fullmatch(name)
        if match and name not in _living and (int(match[1]) == os.getpid() or not _alive(int(match[1]))):
            _delete(name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _delete(name: str) -> None:
    """Delete a namespace that this or a dead run made, its files, and end what still runs in it."""
    shutil.rmtree(FILES / name, ignore_errors=True)
    if not (RUN / name).exists():
        return
    pids = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True, timeout=30).stdout
    for pid in map(int, pids.split()):
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)


def _run(argv: Sequence[str], **kwargs: Any) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
    return str(done.stdout)


@contextmanager
def _namespace(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _setns(fd: int) -> None:  # os.setns is there from Python 3.12 on
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@functools.cache
def _prepare() -> None:
    """Once, before the first namespace: clean up after the dead, and see to it that this process cleans up."""
    sweep()
    atexit.register(_close_all)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_term)


def _on_term(number: int, frame: FrameType | None) -> None:
    """By default SIGTERM ends Python with no clean-up at all."""
    sys.exit(128 + number)


def _close_all() -> None:
    for space in list(_living.values()):
        if space.name.startswith(f"salsa-{os.getpid()}-"):  # not in a fork
            space.close()
