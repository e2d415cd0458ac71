"""Which servers are asked (rule F1) where there is no systemd-resolved: the configured ones, else resolv.conf's."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.core.model import Server, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.nameservers import monitor as module
from salsa_agent.nameservers.monitor import Servers, listed, read_once
from tests.lab.netns import Netns, veth

PATIENCE = 30.0
LOCAL_HOST = (Server("127.0.0.1"), Server("::1"))


class Watch:
    """A `Servers` and what it told."""

    def __init__(self, **options: Any) -> None:
        self.told: list[ServerView] = []
        self.news = asyncio.Event()
        self.servers = Servers(self.on_view, **options)

    def on_view(self, view: ServerView) -> None:
        self.told.append(view)
        self.news.set()

    @property
    def now(self) -> ServerView:
        return self.told[-1]

    async def until(self, predicate: Callable[[ServerView], bool]) -> ServerView:
        """Wait until what was told last is so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (self.told and predicate(self.now)):
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pytest.fail(f"it never came; last told: {self.told[-1:]}")
        return self.now

    async def until_default(self, *addresses: str) -> None:
        await self.until(lambda view: tuple(server.address for server in view.default) == addresses)


@asynccontextmanager
async def watching(**options: Any) -> AsyncIterator[Watch]:
    """A running `Servers`, which has told its first view."""
    watch = Watch(**options)
    task = asyncio.create_task(watch.servers.run())
    try:
        await watch.until(lambda _: True)
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Files:
    """A resolv.conf and one of uplinks, anywhere."""

    def __init__(self, directory: Path) -> None:
        self.conf, self.uplinks = directory / "resolv.conf", directory / "uplinks"

    @property
    def options(self) -> dict[str, str]:
        return {"resolv_conf": str(self.conf), "uplinks": str(self.uplinks)}

    def listed(self) -> tuple[Server, ...]:
        return listed(**self.options)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(autouse=True)
def no_system_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")


# --- dns.servers


async def test_f1_configured_servers_rule_the_rest_out(files: Files) -> None:
    files.conf.write_text("nameserver 192.0.2.1\n")
    mine = (Server("192.0.2.53", 5353), Server("2001:db8::53"))
    async with watching(configured=mine, **files.options) as watch:
        assert watch.told == [ServerView(mine)]
        watch.servers.configured = ()
        watch.servers.reread()
        await watch.until_default("192.0.2.1")
        watch.servers.configured = mine[:1]
        watch.servers.reread()
        await watch.until(lambda view: view == ServerView(mine[:1]))


# --- resolv.conf


def test_f1_servers_of_resolv_conf_in_order(files: Files) -> None:
    files.conf.write_text("nameserver 2001:db8::1\nnameserver bad\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert files.listed() == (Server("2001:db8::1"), Server("192.0.2.1"), Server("192.0.2.2"))


@pytest.mark.parametrize("text", ["", "search example\n", "nameserver nonsense\n", "nameserver fe80::1\n"])
def test_f1_none_listed_is_the_local_host(files: Files, text: str) -> None:
    files.conf.write_text(text)
    assert files.listed() == LOCAL_HOST


def test_f1_no_file_is_the_local_host(files: Files) -> None:
    assert files.listed() == LOCAL_HOST
    files.conf.mkdir()
    assert files.listed() == LOCAL_HOST
    files.conf.rmdir()
    os.mkfifo(files.conf)
    assert files.listed() == LOCAL_HOST
    files.conf.unlink()
    files.conf.symlink_to(files.conf)
    assert files.listed() == LOCAL_HOST


def test_f1_octets_that_are_no_text_cost_no_server(files: Files) -> None:
    files.conf.write_bytes(b"# caf\xe9\n\xff\xfe\0\nnameserver 192.0.2.1\n" + b"#" * 100_000)
    assert files.listed() == (Server("192.0.2.1"),)


@pytest.mark.parametrize("stub", ["127.0.0.53", "127.0.0.54"])
def test_f1_a_stub_is_replaced_by_its_uplinks(files: Files, stub: str) -> None:
    files.conf.write_text(f"nameserver {stub}\noptions edns0 trust-ad\n")
    files.uplinks.write_text("nameserver 192.0.2.1\nnameserver 127.0.0.1\nsearch .\n")
    assert files.listed() == (Server("192.0.2.1"), Server("127.0.0.1"))  # trust-ad was said of the stub


def test_f1_a_stub_among_others_is_replaced_in_its_place(files: Files) -> None:
    files.conf.write_text("nameserver 192.0.2.7\nnameserver 127.0.0.53\nnameserver 192.0.2.8\n")
    files.uplinks.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.7\n")
    assert [server.address for server in files.listed()] == ["192.0.2.7", "192.0.2.1", "192.0.2.8"]


def test_f1_a_stub_without_known_uplinks_stays(files: Files) -> None:
    files.conf.write_text("nameserver 127.0.0.53\n")
    assert files.listed() == (Server("127.0.0.53"),)
    files.uplinks.write_text("# none\n")
    assert files.listed() == (Server("127.0.0.53"),)


async def test_f1_a_link_local_server_is_asked_through_its_link(files: Files) -> None:
    with Netns() as space, Netns() as far:
        veth(space, "up0", far, "down0")
        index = space.index("up0")
        scopes = ("up0", index, "up1", 2**32 + index, -1, 10**30)
        files.conf.write_text("".join(f"nameserver fe80::{n}%{scope}\n" for n, scope in enumerate(scopes, 1)))
        with space.inside():
            assert files.listed() == (Server("fe80::1", ifindex=index), Server("fe80::2", ifindex=index))
            async with watching(**files.options) as watch:
                veth(space, "up1", far, "down1")
                watch.servers.reread()
                await watch.until(lambda view: Server("fe80::3", ifindex=space.index("up1")) in view.default)


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("nameserver 127.0.0.1\noptions trust-ad\n", {"127.0.0.1"}),
        ("options trust-ad\nnameserver ::1\nnameserver 192.0.2.1\nnameserver 127.9.9.9\n", {"::1", "127.9.9.9"}),
        ("nameserver 127.0.0.1\n", set()),
        ("options trust-ad\n", {"127.0.0.1", "::1"}),
        ("nameserver 192.0.2.1\noptions trust-ad\n", set()),
    ],
)
def test_f3_trust_ad_counts_for_loopback_servers(files: Files, text: str, trusted: set[str]) -> None:
    files.conf.write_text(text)
    assert {server.address for server in files.listed() if server.trust_ad} == trusted


# --- followed


async def test_f1_resolv_conf_is_followed(files: Files) -> None:
    async with watching(**files.options) as watch:
        assert watch.now == ServerView(LOCAL_HOST)
        files.conf.write_text("nameserver 192.0.2.1\n")
        await watch.until_default("192.0.2.1")
        new = files.conf.with_name("new")
        new.write_text("nameserver 127.0.0.53\n")
        new.rename(files.conf)
        await watch.until_default("127.0.0.53")
        files.uplinks.write_text("nameserver 192.0.2.2\n")
        await watch.until_default("192.0.2.2")
        files.uplinks.write_text("nameserver 192.0.2.3\n")
        await watch.until_default("192.0.2.3")
        files.conf.unlink()
        await watch.until_default("127.0.0.1", "::1")


async def test_f1_the_same_servers_are_not_told_again(files: Files) -> None:
    files.conf.write_text("nameserver 192.0.2.1\n")
    async with watching(**files.options) as watch:
        for number in range(5):
            files.conf.write_text(f"# {number}\nnameserver 192.0.2.1\n")
            watch.servers.reread()
            await asyncio.sleep(0.01)
        files.conf.write_text("nameserver 192.0.2.2\n")
        await watch.until_default("192.0.2.2")
        assert len(watch.told) == 2


async def test_f1_a_storm_of_hints_is_few_readings(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0

    def counted(*paths: str) -> tuple[Server, ...]:
        nonlocal readings
        readings += 1
        return listed(*paths)

    monkeypatch.setattr(module, "listed", counted)
    async with watching(**files.options) as watch:
        for _ in range(1000):
            watch.servers.reread()
            await asyncio.sleep(0)
        files.conf.write_text("nameserver 192.0.2.2\n")
        await watch.until_default("192.0.2.2")
    assert readings < 60


async def test_f1_no_descriptor_left_says_nothing_of_the_servers(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files.conf.write_text("nameserver 192.0.2.1\n")
    monkeypatch.setattr(module, "AGAIN", 0.05)
    refused = asyncio.Event()
    real = os.open

    def full(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == str(files.conf):
            refused.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *args, **kwargs)

    async with watching(**files.options) as watch:
        with monkeypatch.context() as patched:  # a mock: a real limit would hit the test itself
            patched.setattr(os, "open", full)
            watch.servers.reread()
            for _ in range(3):
                await asyncio.wait_for(refused.wait(), PATIENCE)
                refused.clear()
            files.conf.write_text("nameserver 192.0.2.2\n")
        await watch.until_default("192.0.2.2")  # by itself
        assert len(watch.told) == 2
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{files.conf} cannot be read: Too many open files"
    ]


async def test_f1_nothing_is_left(files: Files) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    async with watching(**files.options):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert len(asyncio.all_tasks()) == 1


# --- one shot


async def test_f1_read_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLV_CONF", str(files.conf))
    monkeypatch.setattr(module, "UPLINKS", str(files.uplinks))
    files.conf.write_text("nameserver 192.0.2.1\n")
    assert await read_once(Settings()) == ServerView((Server("192.0.2.1"),))
    mine = (Server("192.0.2.53", 5353),)
    assert await read_once(Settings(dns=replace(Settings().dns, servers=mine))) == ServerView(mine)
