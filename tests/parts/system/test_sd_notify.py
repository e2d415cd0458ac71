"""sd_notify(3) against a receiving socket of the kind that systemd has."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa_agent.system.sd_notify import Notifier


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(30)

    def told(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")

    def nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "no@tify"))
    with manager.socket:
        yield manager


@pytest.fixture
def notifier(manager: Manager) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.socket.getsockname()})


def test_what_is_told(manager: Manager, notifier: Notifier) -> None:
    notifier.ready()
    assert manager.told() == ["READY=1"]
    notifier.stopping()
    assert manager.told() == ["STOPPING=1"]
    notifier.watchdog()
    assert manager.told() == ["WATCHDOG=1"]


def test_a_reload_says_when_it_began(manager: Manager, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = manager.told()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000
    notifier.ready()
    assert manager.told() == ["READY=1"]


def test_a_status_is_one_line_and_told_once(manager: Manager, notifier: Notifier) -> None:
    notifier.status("ready\nREADY=0\ud800")
    assert manager.told() == [r"STATUS=ready\nREADY=0\ud800"]
    notifier.status("ready\nREADY=0\ud800")
    assert manager.nothing()
    notifier.status("other")
    assert manager.told() == ["STATUS=other"]


def test_an_abstract_socket() -> None:
    name = f"salsa-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    with manager.socket:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.told() == ["READY=1"]


@pytest.mark.parametrize(
    "address", ["", "/nonexistent/notify", "@salsa-nobody", "vsock:1:2", "relative", "/" + "x" * 200]
)
def test_nobody_to_tell_is_no_error(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address} if address else {})
    notifier.ready()
    notifier.reloading()
    notifier.status("x")
    notifier.watchdog()
    notifier.stopping()


def test_a_full_socket_is_told_later(manager: Manager, notifier: Notifier) -> None:
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with filler:
        filled = 0
        try:
            while True:
                filler.sendto(b"x", manager.socket.getsockname())
                filled += 1
        except BlockingIOError:
            pass
        notifier.reloading()
        notifier.status("one")
        notifier.ready()  # none of these may wait
        notifier.status("two")
        for _ in range(filled):
            assert manager.told() == ["x"]
    assert manager.nothing()
    notifier.watchdog()
    assert sorted(manager.told()) == ["READY=1", "STATUS=two", "WATCHDOG=1"]
    notifier.stopping()
    assert manager.told() == ["STOPPING=1"]


def test_the_watchdog_is_fed_twice_as_often_as_asked() -> None:
    pid = str(os.getpid())
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": pid}).watchdog_interval() == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval() == 15.0
    for environ in (
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "9" * 400},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"},
    ):
        assert Notifier(environ).watchdog_interval() is None
    assert Notifier({"WATCHDOG_USEC": "1"}).watchdog_interval() == 0.01
