"""The clients in examples/: each follows the real agent on a real bus through changes of network, and its restart."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bus import PROJECT
from tests.lab.whole import HOME, NOC, VERTEX, World, until

EXAMPLES = PROJECT / "examples"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for name in (NOC, VERTEX, HOME):
            made.relay(name)
        yield made


def command(example: str, directory: Path) -> list[str]:
    """How a user starts it, by its own words."""
    source = EXAMPLES / example
    match source.name.partition("_")[2]:
        case "glib.py":
            return ["/usr/bin/python3", str(source)]  # where Debian's python3-gi is
        case "qt.py":
            return [sys.executable, str(source)]
    words = re.search(r"cc -o follow follow_sdbus\.c (.*)", source.read_text())
    assert words
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    subprocess.run(["cc", "-o", directory / "follow", *strict, source, *words[1].split()], check=True)
    return [str(directory / "follow")]


@pytest.mark.parametrize("example", ["follow_glib.py", "follow_qt.py", "follow_sdbus.c"])
def test_example_follows_the_relay(world: World, tmp_path: Path, example: str) -> None:
    expected: list[str] = []
    argv = command(example, tmp_path)

    def is_next(*lines: str) -> None:
        expected.extend(lines)
        until(lambda: client.out.splitlines() + client.log.splitlines(), lambda seen: seen == expected)

    agent = world.agent()
    world.wait_for_best(HOME)
    client = world.start(world.host, argv)
    is_next(f"{HOME}:25 static")
    world.join("165.154.15.1")
    is_next(f"{NOC}:25 dns")
    world.kill(NOC)
    world.call("ReportFailure", "sqs", NOC, "25", "connection refused")
    is_next(f"{VERTEX}:25 dns")
    agent.end()
    is_next("no agent")
    world.leave()
    world.agent('[static]\nrelays = ["2001:db8::25"]\n')
    is_next("[2001:db8::25]:25 static")


@pytest.mark.parametrize("example", ["follow_glib.py", "follow_qt.py", "follow_sdbus.c"])
def test_example_waits_for_the_agent(world: World, tmp_path: Path, example: str) -> None:
    client = world.start(world.host, command(example, tmp_path))
    until(lambda: client.out, lambda seen: seen == "no agent\n")
    world.agent("")
    until(lambda: client.out, lambda seen: seen == "no agent\nnone\n")
    assert client.log == ""


def test_examples_are_a_page_long() -> None:
    for example in EXAMPLES.glob("follow_*"):
        assert len(example.read_text().splitlines()) <= 110
