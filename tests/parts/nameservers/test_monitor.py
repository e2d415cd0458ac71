"""Which servers are asked (rule F1) where there is no systemd-resolved: the configured ones, else resolv.conf's."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.core.model import SearchDomains, Server, ServerView
from salsa_agent.core.settings import Dns, Settings, Site
from salsa_agent.nameservers import file_watch, listed
from salsa_agent.nameservers import monitor as module
from salsa_agent.nameservers.monitor import NameserverMonitor, read_once
from tests.lab.netns import Netns, veth

PATIENCE = 30.0
LOCAL_HOST = (Server("127.0.0.1"), Server("::1"))


class Watch:
    """A monitor and what it told."""

    def __init__(self, **options: Any) -> None:
        self.told: list[ServerView] = []
        self.news = asyncio.Event()
        self.domains: list[SearchDomains] = []
        self.servers = NameserverMonitor(self.on_view, self.on_domains, **options)

    def on_view(self, view: ServerView) -> None:
        self.told.append(view)
        self.news.set()

    def on_domains(self, domains: SearchDomains) -> None:
        self.domains.append(domains)
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

    async def until_domains(self, domains: SearchDomains) -> None:
        """Wait until these were told last."""
        await self.until(lambda _: self.domains[-1:] == [domains])

    async def until_default(self, *addresses: str) -> None:
        await self.until(lambda view: tuple(server.address for server in view.default) == addresses)


@asynccontextmanager
async def watching(settings: Settings | None = None, **options: Any) -> AsyncIterator[Watch]:
    """A running monitor, which has told its first view."""
    links = options.pop("links", ())
    watch = Watch(**options)
    watch.servers.configure(settings or Settings())
    watch.servers.follow_links(links)
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
    def options(self) -> dict[str, Any]:
        return {"resolv_conf": str(self.conf), "uplinks": str(self.uplinks)}

    def listed(self) -> tuple[Server, ...]:
        return listed.read(**self.options).servers


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
    async with watching(Settings(dns=Dns(servers=mine)), **files.options) as watch:
        assert watch.told == [ServerView(mine)]
        watch.servers.configure(Settings())
        await watch.until_default("192.0.2.1")
        watch.servers.configure(Settings(dns=Dns(servers=mine[:1])))
        assert watch.now == ServerView(mine[:1])  # at once: a round that runs for the new settings asks them


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


@pytest.mark.parametrize(
    "text", ["options use-vc\nnameserver 192.0.2.1\n", "nameserver 192.0.2.1\noptions edns0 use-vc\n"]
)
def test_f2_use_vc_asks_the_servers_over_tcp(files: Files, text: str) -> None:
    files.conf.write_text(text)
    assert files.listed() == (Server("192.0.2.1", tcp=True),)
    files.conf.write_text("options use-vc\n")
    assert files.listed() == tuple(server._replace(tcp=True) for server in LOCAL_HOST)
    files.conf.write_text("options use-vc\nnameserver 127.0.0.53\n")
    files.uplinks.write_text("nameserver 192.0.2.7\n")
    assert files.listed() == (Server("192.0.2.7", tcp=True),)


def test_f1_of_a_huge_file_the_last_line_may_be_half_a_server(files: Files) -> None:
    line = "nameserver 192.0.2.1\n"
    rest = "#" * (listed.MAX_FILE - 2 * len(line) + 1) + "\n"
    files.conf.write_text(line + rest + "nameserver 192.0.2.10\n" * 10)
    assert files.listed() == (Server("192.0.2.1"),)  # what is read of the next line ends with 192.0.2


# --- F4: the domains of links


async def test_f4_without_systemd_resolved_the_search_list_is_every_links(files: Files) -> None:
    files.conf.write_text("nameserver 192.0.2.1\nsearch Corp.Example. lan\n")
    async with watching(**files.options) as watch:
        assert watch.domains == [SearchDomains(("corp.example", "lan"))]
        assert watch.domains[-1].of_link(4711) == ("corp.example", "lan")
        files.conf.write_text("nameserver 192.0.2.1\nsearch corp.example\ndomain branch.example more\n")
        await watch.until_domains(SearchDomains(("branch.example",)))
        files.conf.write_text("nameserver 192.0.2.1\nsearch .\n")
        await watch.until_domains(SearchDomains((".",)))
        assert len(watch.told) == 1  # the servers are the same


async def test_f4_the_search_list_is_read_beside_configured_servers_where_a_site_asks_for_a_domain(
    files: Files,
) -> None:
    files.conf.write_text("nameserver 192.0.2.1\nsearch corp.example\n")
    mine = (Server("192.0.2.53"),)
    async with watching(Settings(dns=Dns(servers=mine)), **files.options) as watch:
        await watch.until_domains(SearchDomains())
        site = Site("office", domain=("corp.example",))
        watch.servers.configure(Settings(dns=Dns(servers=mine), sites=(site,)))
        await watch.until_domains(SearchDomains(("corp.example",)))
        assert watch.told == [ServerView(mine)]


async def test_f4_the_search_list_is_read_beside_configured_servers_by_whoever_wants_everything(files: Files) -> None:
    files.conf.write_text("nameserver 192.0.2.1\nsearch corp.example\n")
    async with watching(Settings(dns=Dns(servers=(Server("192.0.2.53"),))), everything=True, **files.options) as watch:
        await watch.until_domains(SearchDomains(("corp.example",)))


# --- followed


async def test_e3_without_inotify_the_files_are_read_from_time_to_time(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoInotify:
        """The user's inotify instances are used up (fs.inotify.max_user_instances)."""

        def inotify_init1(self, flags: int) -> int:
            ctypes.set_errno(errno.EMFILE)
            return -1

        def inotify_rm_watch(self, fd: int, watch: int) -> int:
            return -1

    monkeypatch.setattr(file_watch, "_libc", NoInotify())
    monkeypatch.setattr(module, "AGAIN", 0.05)
    files.conf.write_text("nameserver 192.0.2.1\n")
    async with watching(**files.options) as watch:
        files.conf.write_text("nameserver 192.0.2.2\n")
        await watch.until_default("192.0.2.2")
        monkeypatch.setattr(module, "AGAIN", 3600.0)
        await asyncio.sleep(0.2)
        files.conf.write_text("nameserver 192.0.2.3\n")
        watch.servers.reread()  # at a refresh, a retry, a network change
        await watch.until_default("192.0.2.3")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"inotify: Too many open files: changes of {files.conf}, {files.uplinks}, {tmp_path}/no-bus are noticed late"
    ]


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

    real = listed.read

    def counted(*paths: str) -> listed.Listed:
        nonlocal readings
        readings += 1
        return real(*paths)

    monkeypatch.setattr(listed, "read", counted)
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
        if str(path) == str(files.conf):
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
    assert await read_once(Settings(dns=Dns(servers=mine))) == ServerView(mine)
