"""examples/tray.py with the real agent: in an X tray, used by mouse and keyboard, and as a StatusNotifierItem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.bus import PATIENCE, PROJECT
from tests.lab.desktop import HEIGHT, TRAY, WIDTH, Desktop
from tests.lab.whole import HOME, NOC, VERTEX, Process, World, until

GREEN, WHITE = (0x2E, 0x9E, 0x44), (255, 255, 255)
WATCHER = "org.kde.StatusNotifierWatcher"
MENU = "com.canonical.dbusmenu"
REPORT, REFRESH = "It does not take my mail", "Ask the network again"


@pytest.fixture
def desktop() -> Iterator[Desktop]:
    with Desktop() as made:
        yield made


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.settle()
        yield made


@pytest.fixture
def agent(world: World) -> Process:
    started = world.agent()
    world.wait_for_best(NOC)
    return started


def start_tray(world: World, desktop: Desktop) -> Process:
    return world.start(world.host, ["/usr/bin/python3", str(PROJECT / "examples/tray.py")], **desktop.environment)


def test_tray_is_seen_and_used_by_hand(world: World, agent: Process, desktop: Desktop) -> None:
    desktop.tray()
    start_tray(world, desktop)
    until(lambda: desktop.colour(GREEN), lambda pixels: pixels > 30)
    before = desktop.colour(WHITE)
    desktop.use("mousemove", str(TRAY // 2), str(TRAY // 2), "click", "3")
    until(lambda: desktop.colour(WHITE), lambda pixels: pixels > before + WIDTH * HEIGHT // 8)  # the menu
    world.relay(NOC, "silent")  # else it is found to answer, and stands again (D6)
    desktop.use("key", "Down", "Down", "Return")  # those that only tell are passed over
    world.wait_for_best(VERTEX)
    assert world.get("Relays")[0]["reason"] == "reported from the tray"
    until(lambda: desktop.colour(GREEN), lambda pixels: pixels > 30)


class Item:
    """The tray's StatusNotifierItem, as a panel that shows it finds it."""

    def __init__(self, desktop: Desktop, process: Process) -> None:
        self._desktop = desktop
        self._pid = process.popen.pid
        # It has more than one connection; the item is on the one that knows its object.
        self.path = "/org/ayatana/NotificationItem/salsa_relay"
        self.name = until(self._find, bool)

    def _find(self) -> str:
        for one in self._desktop.busctl("list"):
            if one["pid"] == self._pid and self._get(one["name"], "Id") == "salsa-relay":
                return str(one["name"])
        return ""

    def _get(self, name: str, what: str) -> Any:
        return self._desktop.busctl("get-property", name, self.path, "org.kde.StatusNotifierItem", what)

    @property
    def seen(self) -> tuple[str, str]:
        """Icon and title."""
        return self._get(self.name, "IconName"), self._get(self.name, "Title")

    def menu(self) -> dict[str, tuple[int, bool]]:
        """Of each entry that is visible: its number, and whether it can be chosen."""
        answer = self._desktop.busctl("call", self.name, f"{self.path}/Menu", MENU, "GetLayout", "iias", "0", "-1", "0")
        _, _, children = answer[1]
        return {
            entry["label"]: (number, entry.get("enabled", True))
            for number, entry, _ in children
            if "label" in entry and entry.get("visible", True)
        }

    def choose(self, label: str) -> None:
        number, enabled = self.menu()[label]
        assert enabled
        event = ["Event", "isvu", str(number), "clicked", "i", "0", "0"]
        self._desktop.busctl("call", self.name, f"{self.path}/Menu", MENU, *event)


@pytest.fixture
def item(world: World, agent: Process, desktop: Desktop) -> Item:
    # Mocked: the real ones are parts of desktop shells, which need a graphics card or minutes to install.
    desktop.start(["/usr/bin/python3", "-m", "dbusmock", "--session", WATCHER, "/StatusNotifierWatcher", WATCHER])
    mock = (WATCHER, "/StatusNotifierWatcher", "org.freedesktop.DBus.Mock")
    until(lambda: desktop.busctl("call", *mock, "GetCalls"), lambda answer: answer is not None)
    for method in ("RegisterStatusNotifierItem", "RegisterStatusNotifierHost"):
        desktop.busctl("call", *mock, "AddMethod", "sssss", WATCHER, method, "s", "", "")
    desktop.busctl("call", *mock, "AddProperty", "ssv", WATCHER, "IsStatusNotifierHostRegistered", "b", "true")
    return Item(desktop, start_tray(world, desktop))


def test_tray_shows_the_relay_refreshes_and_reports(world: World, agent: Process, item: Item) -> None:
    until(lambda: item.seen, lambda seen: seen == ("salsa-relay-ok", f"{NOC}:25"))
    expected = {f"{NOC}:25": False, "published by this network, it answers": False, "State: ready": False}
    expected |= {REFRESH: True, REPORT: True, "Quit": True}
    until(lambda: {label: enabled for label, (_, enabled) in item.menu().items()}, lambda menu: menu == expected)
    asked = len(world.queries())
    item.choose(REFRESH)
    until(lambda: len(world.queries()), lambda now: now >= asked + 3)
    agent.wait_for("round (refresh) decided", where="log")
    world.relay(NOC, "silent")  # else it is found to answer, and stands again (D6)
    item.choose(REPORT)
    world.wait_for_best(VERTEX)
    assert world.get("Relays")[0]["reason"] == "reported from the tray"
    until(lambda: item.seen, lambda seen: seen == ("salsa-relay-ok", f"{VERTEX}:25"))


def test_tray_shows_a_last_resort_as_failed_and_an_agent_that_is_gone(world: World, agent: Process, item: Item) -> None:
    for name in (NOC, VERTEX, HOME):
        world.kill(name)
    item.choose(REFRESH)
    until(lambda: item.seen, lambda seen: seen == ("salsa-relay-failed", f"{HOME}:25"))
    until(item.menu, lambda menu: "from your own configuration, it does not answer" in menu)
    agent.end()
    until(lambda: item.seen, lambda seen: seen == ("salsa-relay-none", "salsa-agent does not run"))
    assert item.menu().keys() == {"salsa-agent does not run", REFRESH, REPORT, "Quit"}
    assert not any(item.menu()[label][1] for label in (REFRESH, REPORT))
    world.leave()
    world.agent("")
    until(lambda: item.seen, lambda seen: seen == ("salsa-relay-none", "No relay"))
    assert item.menu()[REFRESH][1]
    assert not item.menu()[REPORT][1]


def test_tray_without_a_display_says_so(world: World) -> None:
    environment = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    tray = world.start(world.host, ["/usr/bin/python3", str(PROJECT / "examples/tray.py")], **environment)
    assert tray.popen.wait(PATIENCE) == 1
    assert tray.log.splitlines()[-1] == "there is no display"
    assert "Traceback" not in tray.log
