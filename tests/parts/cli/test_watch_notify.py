"""`salsactl watch --notify`: a word on the desktop when a relay's domain is used for the first time."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.bus import message as wire
from salsa_agent.bus._dbus_next import Message
from salsa_agent.bus.message import Header
from salsa_agent.bus.name_owner import open_bus
from salsa_agent.cli.salsactl.watch_notify import KnownDomains, domain_of
from tests.lab.bus import PATIENCE, Bus, system_bus
from tests.lab.busagent import serving
from tests.parts.cli.test_salsactl import Watching, best

# A bus of the tests' own stands in for the session bus, and a few lines for a notification daemon: a real one needs a
# display. What is looked at is the call as it comes over the bus.
DESKTOP = '<policy context="default"><allow own="*"/><allow send_destination="*"/></policy>'
NAME = "org.freedesktop.Notifications"


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus(extra=DESKTOP) as running:
        yield running


@asynccontextmanager
async def desktop(bus: Bus) -> AsyncIterator[asyncio.Queue[list[Any]]]:
    """A notification daemon; what it is told."""
    told: asyncio.Queue[list[Any]] = asyncio.Queue()
    connection = await open_bus(bus.address)

    def notify(call: Header, body: bytes | None) -> None:
        assert (call.interface, call.member, call.signature) == (NAME, "Notify", "susssasa{sv}i")
        assert body is not None
        told.put_nowait(wire.decode(call.signature, body, little=call.little))
        connection.reply(call, "u", wire.encode("u", [7]))

    connection.router.serve = notify
    try:
        daemon = "org.freedesktop.DBus"
        await connection.call(
            Message(
                destination=daemon, path="/org/freedesktop/DBus", interface=daemon, member="RequestName",
                signature="su", body=[NAME, 4],
            )
        )  # fmt: skip
        yield told
    finally:
        connection.disconnect()


async def next_of(told: asyncio.Queue[list[Any]]) -> tuple[str, str]:
    async with asyncio.timeout(PATIENCE):
        _, _, _, summary, body, *_ = await told.get()
    return summary, body


async def test_notify_when_a_domain_is_used_for_the_first_time(bus: Bus, tmp_path: Path) -> None:
    home = {"DBUS_SESSION_BUS_ADDRESS": bus.address, "XDG_STATE_HOME": str(tmp_path)}
    known = tmp_path / "salsa-agent" / "known-domains"
    async with desktop(bus) as told, serving(bus, best("noc.tor.hookup.net")) as agent:
        async with Watching(bus, "watch", "--notify", **home) as watch:
            assert await watch.line() == "noc.tor.hookup.net:25"
            summary, body = await next_of(told)
            assert "tor.hookup.net" in summary
            assert "noc.tor.hookup.net:25" in body
            assert known.read_text() == "tor.hookup.net\n"
            assert stat.S_IMODE(known.stat().st_mode) == 0o600
        agent.publish(best("vertex.tor.hookup.net"))
        async with Watching(bus, "watch", "--notify", **home) as watch:
            assert await watch.line() == "vertex.tor.hookup.net:25"
            agent.publish(best("smtp.clear.net.nz", 587))
            assert await watch.line() == "smtp.clear.net.nz:587"
            assert "clear.net.nz" in (await next_of(told))[0]  # and nothing of the other host of a known domain
        assert told.empty()
    assert known.read_text() == "tor.hookup.net\nclear.net.nz\n"


async def test_notify_that_nobody_shows_is_told_and_not_remembered(bus: Bus, tmp_path: Path) -> None:
    home = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path}/none", "XDG_STATE_HOME": str(tmp_path)}
    async with serving(bus, best("noc.tor.hookup.net")), Watching(bus, "watch", "--notify", **home) as watch:
        assert await watch.line() == "noc.tor.hookup.net:25"
        assert "--notify" in await watch.complaint()
    assert (tmp_path / "salsa-agent" / "known-domains").read_text() == ""


async def test_known_domains_of_several_watchers_one_is_told_it_is_new(tmp_path: Path) -> None:
    watchers = [KnownDomains(tmp_path / "a" / "known") for _ in range(8)]
    for domain in ("a.example", "b.example"):
        told = await asyncio.gather(*(asyncio.to_thread(one.claim, domain) for one in watchers))
        assert sorted(told) == [False] * 7 + [True]
    assert sorted((tmp_path / "a" / "known").read_text().split()) == ["a.example", "b.example"]


def test_known_domains_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text("".join(f"{number}.example\n" for number in range(5000)))
    assert KnownDomains(path).claim("new.example")
    assert path.read_text().split()[-2:] == ["4999.example", "new.example"]
    assert len(path.read_text().split()) == 1000


def test_known_domains_that_cannot_be_kept_are_known_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    known = KnownDomains(tmp_path / "file" / "known")
    assert known.claim("a.example")
    assert not known.claim("a.example")
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert KnownDomains(tmp_path / "link").claim("a.example")  # a link is not followed
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("noc.tor.hookup.net", "tor.hookup.net"),
        ("example.net", "example.net"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", ""),
    ],
)
def test_domain_of_a_relay(host: str, domain: str) -> None:
    assert domain_of(host) == domain
