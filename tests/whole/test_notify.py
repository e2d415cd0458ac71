"""examples/notify.py with the real agent and the real dunst, whose answers press the buttons."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.bus import PATIENCE, PROJECT
from tests.lab.desktop import Desktop
from tests.lab.whole import HOME, NET16, NOC, RELAYS, VERTEX, ZONE, Process, World, until

DOMAIN = "tor.hookup.net"


@pytest.fixture
def desktop() -> Iterator[Desktop]:
    with Desktop() as made:
        yield made


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.settle()
        made.agent()
        made.wait_for_best(NOC)
        yield made


def start_dunst(desktop: Desktop, button: str) -> None:
    """A notification daemon in which `dunstctl action` presses this button of the newest notification."""
    config = Path(desktop.environment["HOME"], "dunstrc")
    config.write_text(
        f'[global]\n    font = Sans 8\n[salsa]\n    appname = "salsa-agent"\n    action_name = "{button}"\n'
    )
    desktop.start(["dunst", "-config", str(config)], stdout=subprocess.DEVNULL)
    until(lambda: dunstctl(desktop, "count", "displayed"), lambda said: said == "0")


def dunstctl(desktop: Desktop, *words: str) -> str:
    done = subprocess.run(
        ["dunstctl", *words], env=desktop.environment, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.stdout.strip()


def start_notify(world: World, desktop: Desktop) -> Process:
    return world.start(world.host, ["/usr/bin/python3", str(PROJECT / "examples/notify.py")], **desktop.environment)


def closed(desktop: Desktop) -> list[dict[str, Any]]:
    """The notifications of the past, the newest first."""
    said = dunstctl(desktop, "history")
    entries = json.loads(said)["data"][0] if said else []
    return [{key: value["data"] for key, value in entry.items()} for entry in entries]


def shown(desktop: Desktop) -> str:
    return dunstctl(desktop, "count", "displayed")


def known(desktop: Desktop) -> str:
    path = Path(desktop.environment["HOME"], ".local/state/salsa-agent/known-domains")
    return path.read_text() if path.exists() else ""


def test_notify_tells_of_a_new_domain_and_remembers_the_one_that_is_allowed(world: World, desktop: Desktop) -> None:
    start_dunst(desktop, "allow")
    first = start_notify(world, desktop)
    until(lambda: shown(desktop), lambda said: said == "1")
    assert known(desktop) == ""
    dunstctl(desktop, "action")
    until(lambda: known(desktop), lambda said: said == f"{DOMAIN}\n")
    dunstctl(desktop, "close-all")
    until(lambda: closed(desktop), lambda said: len(said) == 1)
    told = closed(desktop)[0]
    assert told["summary"] == f"New mail relay: {DOMAIN}"
    assert told["body"] == f"Mail now leaves through {NOC}, port 25, published by this network."
    first.end()

    again = start_notify(world, desktop)
    world.publish({**ZONE, NET16: {"MX": ["10 mail.other.example."]}, "mail.other.example": {"A": [RELAYS[VERTEX]]}})
    world.call("Refresh")
    until(lambda: shown(desktop), lambda said: said == "1")  # of the other domain, and of that alone
    dunstctl(desktop, "close-all")
    until(lambda: closed(desktop), lambda said: len(said) == 2)
    assert closed(desktop)[0]["summary"] == "New mail relay: other.example"
    assert known(desktop) == f"{DOMAIN}\n", "no button was pressed"
    assert again.log == ""


def test_notify_reports_a_relay_that_is_not_for_my_mail(world: World, desktop: Desktop) -> None:
    start_dunst(desktop, "refuse")
    notify = start_notify(world, desktop)
    until(lambda: shown(desktop), lambda said: said == "1")
    world.relay(NOC, "silent")  # else it is found to answer, and stands again (D6)
    dunstctl(desktop, "action")
    world.wait_for_best(VERTEX)
    assert world.get("Relays")[0]["reason"] == "not for my mail"
    until(lambda: [one["summary"] for one in closed(desktop)], lambda said: said[:1] == [f"New mail relay: {DOMAIN}"])
    until(lambda: shown(desktop), lambda said: said == "1")  # what came of it
    dunstctl(desktop, "close-all")
    until(lambda: closed(desktop)[0]["summary"], lambda said: said == "The relay was reported")
    assert "[[sender]]" in closed(desktop)[0]["body"]
    assert notify.log == ""


def test_notify_is_silent_about_relays_of_this_host_s_own_configuration(world: World, desktop: Desktop) -> None:
    start_dunst(desktop, "allow")
    world.leave()
    world.wait_for_best(HOME)
    notify = start_notify(world, desktop)
    world.join("165.154.15.1")
    until(lambda: shown(desktop), lambda said: said == "1")
    dunstctl(desktop, "close-all")
    until(lambda: closed(desktop), lambda said: [one["summary"] for one in said] == [f"New mail relay: {DOMAIN}"])
    assert notify.log == ""


def test_notify_without_a_session_bus_is_one_line(world: World, tmp_path: Path) -> None:
    environment = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path}/none"}
    notify = world.start(world.host, ["/usr/bin/python3", str(PROJECT / "examples/notify.py")], **environment)
    assert notify.popen.wait(PATIENCE) == 1
    assert notify.log.startswith("salsa-notify: ")
    assert notify.log.count("\n") == 1
