"""The servers of a real systemd-resolved (rule F1), on a bus of its own with the policy that its package ships."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.bus import message as wire
from salsa_agent.bus import system_bus as system
from salsa_agent.bus.message import Header
from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import SearchDomains, Server, ServerView
from salsa_agent.core.settings import Settings
from salsa_agent.nameservers import monitor as module
from salsa_agent.nameservers import resolved as driver
from salsa_agent.nameservers.monitor import read_once
from tests.lab.bus import NOBODY, Bus, RawClient, system_bus
from tests.lab.netns import Netns, veth
from tests.lab.resolved import POLICY, Resolved, resolved
from tests.parts.nameservers.test_monitor import PATIENCE, Files, Watch, watching

HOSTILE = """
<policy context="default"><allow own="*"/><allow send_type="method_call"/></policy>
"""


class Lab:
    """A host with the links `up0` and `up1`, its system bus, its systemd-resolved, its resolv.conf."""

    def __init__(self, space: Netns, far: Netns, bus: Bus, daemon: Resolved, files: Files) -> None:
        self.space = space
        self.far = far
        self.bus = bus
        self.resolved = daemon
        self.files = files
        self.up0, self.up1 = space.index("up0"), space.index("up1")

    @asynccontextmanager
    async def watching(self, **options: Any) -> AsyncIterator[Watch]:
        async with watching(**{**self.files.options, **options}) as watch:
            yield watch

    def following_its_files(self) -> AbstractAsyncContextManager[Watch]:
        """It sends no signal when a domain changes, but writes files."""
        return self.watching(uplinks=str(self.resolved.uplinks), links=(self.up0, self.up1))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Netns() as space, Netns() as far, system_bus(policy=False, extra=POLICY) as bus:
        veth(space, "up0", far, "down0")
        veth(space, "up1", far, "down1")
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        with resolved(space, bus, conf=getattr(request, "param", "FallbackDNS=")) as daemon, space.inside():
            files = Files(tmp_path)
            files.conf.write_text("nameserver 192.0.2.99\n")
            yield Lab(space, far, bus, daemon, files)


def on(index: int, *addresses: str) -> tuple[Server, ...]:
    return tuple(Server(address, ifindex=index) for address in addresses)


async def test_f1_each_link_has_its_own_servers(lab: Lab) -> None:
    """Two links may both have 192.168.1.1."""
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.168.1.1", "2001:db8::53")
    await lab.resolved.set_link_dns(lab.up1, "192.168.1.1")
    async with lab.watching() as watch:
        assert len(watch.told) == 1
        assert watch.now.links == (
            (lab.up0, on(lab.up0, "192.168.1.1", "2001:db8::53")),
            (lab.up1, on(lab.up1, "192.168.1.1")),
        )
        # a link without any, and what belongs to no link: all of them, for there is no global one
        default = on(lab.up0, "192.168.1.1", "2001:db8::53") + on(lab.up1, "192.168.1.1")
        assert watch.now.default == default
        assert watch.now.of_link(4711) == default


async def test_f1_a_change_of_a_links_servers_is_followed(lab: Lab) -> None:
    await lab.resolved.start()
    async with lab.watching() as watch:
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
        await watch.until(lambda view: view.links == ((lab.up0, on(lab.up0, "192.0.2.1")),))
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.2", "192.0.2.1")
        await watch.until(lambda view: view.links == ((lab.up0, on(lab.up0, "192.0.2.2", "192.0.2.1")),))
        await lab.resolved.set_link_dns(lab.up1, "192.0.2.3")
        await watch.until(lambda view: view.of_link(lab.up1) == on(lab.up1, "192.0.2.3"))
        await lab.resolved.manager("RevertLink", "i", lab.up0)
        await watch.until(lambda view: view.links == ((lab.up1, on(lab.up1, "192.0.2.3")),))


@pytest.mark.parametrize("lab", ["DNS=192.0.2.53 192.0.2.54:5353\nFallbackDNS=192.0.2.200"], indirect=True)
async def test_f1_global_servers_where_a_link_has_none(lab: Lab) -> None:
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    async with lab.watching() as watch:
        common = (Server("192.0.2.53"), Server("192.0.2.54", 5353))
        assert watch.told == [ServerView(common, ((lab.up0, on(lab.up0, "192.0.2.1")),), common)]
        behind = tuple(server._replace(fallback=True) for server in common)
        assert watch.now.of_link(lab.up0) == (*on(lab.up0, "192.0.2.1"), *behind)
        assert watch.now.of_link(lab.up1) == common


@pytest.mark.parametrize("lab", ["DNS=fe80::53%up0 192.0.2.53\nFallbackDNS="], indirect=True)
async def test_f1_a_global_link_local_server_is_global(lab: Lab) -> None:
    """It is listed with the index of its link, as that link's own servers are."""
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    async with lab.watching() as watch:
        assert watch.now.links == ((lab.up0, on(lab.up0, "192.0.2.1")),)
        assert watch.now.default == (Server("fe80::53", ifindex=lab.up0), Server("192.0.2.53"))


@pytest.mark.parametrize("lab", ["FallbackDNS=192.0.2.200"], indirect=True)
async def test_f1_fallback_servers_only_where_no_other_is_known(lab: Lab) -> None:
    await lab.resolved.start()
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.200"),))
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
        await watch.until(lambda view: view.default == on(lab.up0, "192.0.2.1"))


async def test_f1_a_link_that_is_no_default_route_for_names_serves_itself_alone(lab: Lab) -> None:
    """A VPN with split DNS."""
    lab.space.batch(["addr add 10.0.0.2/24 dev up0", "addr add 10.0.1.2/24 dev up1"])
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    await lab.resolved.set_link_dns(lab.up1, "192.0.2.2")
    await lab.resolved.manager("SetLinkDefaultRoute", "ib", lab.up1, "false")
    async with lab.watching() as watch:
        assert watch.now.default == on(lab.up0, "192.0.2.1")
        assert watch.now.of_link(lab.up1) == on(lab.up1, "192.0.2.2")


async def test_f1_where_no_link_is_a_default_route_for_names_all_of_them(lab: Lab) -> None:
    lab.space.batch(["addr add 10.0.0.2/24 dev up0"])
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    await lab.resolved.manager("SetLinkDefaultRoute", "ib", lab.up0, "false")
    async with lab.watching() as watch:
        assert watch.now.default == on(lab.up0, "192.0.2.1")


async def test_f1_without_any_server_those_of_resolv_conf(lab: Lab) -> None:
    await lab.resolved.start()
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.99"),))


async def test_f1_ports_link_local_and_loopback_servers(lab: Lab) -> None:
    await lab.resolved.start()
    await lab.resolved.set_link_dns(
        lab.up0, "192.0.2.1", "192.0.2.2", "fe80::1", "127.0.0.1", ports={"192.0.2.1": 5353, "192.0.2.2": 853}
    )
    async with lab.watching() as watch:
        assert watch.now.of_link(lab.up0) == (
            Server("192.0.2.1", 5353, lab.up0),
            Server("192.0.2.2", 53, lab.up0),  # the agent does not speak DNS over TLS
            Server("fe80::1", 53, lab.up0),
            Server("127.0.0.1"),  # no link leads there
        )


async def test_f1_only_links_that_count_are_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have hundreds of links of containers. The overview names those that have a server or a domain."""
    read: list[int] = []
    original = driver.Resolved._link

    async def noted(self: driver.Resolved, index: int) -> dict[str, Any]:
        read.append(index)
        return await original(self, index)

    monkeypatch.setattr(driver.Resolved, "_link", noted)
    for number in range(8):
        veth(lab.space, f"veth{number}", lab.far, f"far{number}")
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up1, "192.0.2.2")
    async with lab.watching(links=(lab.up0,)) as watch:
        assert read == [lab.up0, lab.up1]
        veth(lab.space, "veth8", lab.far, "far8")
        watch.servers.reread()
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))
        assert set(read) == {lab.up0, lab.up1}
        del read[:]
        watch.servers.follow_links((lab.up0, lab.space.index("veth8")))
        async with asyncio.timeout(PATIENCE):
            while len(read) < 3:
                await asyncio.sleep(0.01)
        assert read == [lab.up0, lab.space.index("veth8"), lab.up1]


# --- F1: names that are not the reverse tree's, F4: domains


async def test_f1_names_are_asked_where_systemd_resolved_sends_them(lab: Lab) -> None:
    lab.space.batch(["addr add 10.0.0.2/24 dev up0", "addr add 10.0.1.2/24 dev up1"])
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    await lab.resolved.set_link_dns(lab.up1, "192.0.2.2")
    async with lab.following_its_files() as watch:
        assert watch.now.routes == ()
        await lab.resolved.set_link_domains(lab.up1, "~corp.example", "branch.example")
        await watch.until(lambda view: len(view.routes) == 2)
        for name in ("mail.corp.example", "mail.branch.example"):
            assert watch.now.servers_for(name, lab.up0) == on(lab.up1, "192.0.2.2")
        assert watch.now.servers_for("mail.example", lab.up0) == on(lab.up0, "192.0.2.1")
        await lab.resolved.set_link_domains(lab.up1, "~.")
        await watch.until(lambda view: view.servers_for("mail.example", lab.up0) == on(lab.up1, "192.0.2.2"))
        await lab.resolved.set_link_domains(lab.up1)
        await watch.until(lambda view: view.routes == ())


@pytest.mark.parametrize("lab", ["DNS=192.0.2.53\nDomains=~. corp.example\nFallbackDNS="], indirect=True)
async def test_f1_a_global_routing_domain(lab: Lab) -> None:
    lab.space.batch(["addr add 10.0.0.2/24 dev up0"])
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    async with lab.following_its_files() as watch:
        assert watch.now.servers_for("mail.example", lab.up0) == (Server("192.0.2.53"),)
        await lab.resolved.set_link_domains(lab.up0, "~corp.example")
        both = (*on(lab.up0, "192.0.2.1"), Server("192.0.2.53"))
        await watch.until(lambda view: view.servers_for("mail.corp.example", lab.up0) == both)
        assert watch.domains[-1] == SearchDomains(links=((lab.up0, ("corp.example",)),))  # its own, none of the global


async def test_f1_a_domain_of_a_link_without_servers_routes_nothing(lab: Lab) -> None:
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    await lab.resolved.set_link_domains(lab.up1, "corp.example")
    async with lab.following_its_files() as watch:
        await watch.until_domains(SearchDomains(links=((lab.up1, ("corp.example",)),)))
        assert watch.now.routes == ()
        assert watch.now.servers_for("mail.corp.example", lab.up0) == on(lab.up0, "192.0.2.1")


@pytest.mark.parametrize("lab", ["Domains=global.example\nFallbackDNS="], indirect=True)
async def test_f4_domains_are_the_links_own_where_systemd_resolved_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the global ones nor those of resolv.conf belong to a link."""
    monkeypatch.setattr(module, "RESTART", 0.1)
    lab.files.conf.write_text("nameserver 192.0.2.99\nsearch conf.example\n")
    await lab.resolved.start()
    await lab.resolved.set_link_domains(lab.up0, "Corp.Example", "~branch.example", "~.")
    async with lab.following_its_files() as watch:
        await watch.until_domains(SearchDomains(links=((lab.up0, ("corp.example", "branch.example", ".")),)))
        await lab.resolved.set_link_domains(lab.up0)
        await watch.until_domains(SearchDomains())
        lab.resolved.stop()
        await watch.until_domains(SearchDomains(("conf.example",)))


async def test_f1_a_link_that_goes(lab: Lab) -> None:
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    await lab.resolved.set_link_dns(lab.up1, "192.0.2.2")
    async with lab.watching() as watch:
        lab.space.ip("link", "del", "up0")
        watch.servers.reread()  # as on each network change
        await watch.until(lambda view: view.links == ((lab.up1, on(lab.up1, "192.0.2.2")),))


async def test_f1_stop_and_start_are_followed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART", 0.1)
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.99"),))
        await lab.resolved.start()
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))
        lab.resolved.stop()
        await watch.until(lambda view: view == ServerView((Server("192.0.2.99"),)))
        lab.files.conf.write_text("nameserver 192.0.2.98\n")
        await watch.until(lambda view: view == ServerView((Server("192.0.2.98"),)))
        await lab.resolved.start()
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))


async def test_f1_a_restart_is_no_change(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what it was told of unmanaged links; a network change would throw every verdict away."""
    monkeypatch.setattr(module, "RESTART", PATIENCE)
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    async with lab.watching() as watch:
        lab.resolved.stop()
        watch.servers.reread()
        await lab.resolved.start()
        await lab.resolved.set_link_dns(lab.up1, "192.0.2.2")
        await watch.until(lambda view: view.of_link(lab.up1) == on(lab.up1, "192.0.2.2"))
        assert all(view.of_link(lab.up0) == on(lab.up0, "192.0.2.1") for view in watch.told)
        assert len(watch.told) == 2


async def test_f1_one_that_does_not_answer_is_not_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "READ_TIME", 0.3)
    monkeypatch.setattr(module, "AGAIN", 0.2)
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    assert lab.resolved.process
    lab.resolved.process.send_signal(signal.SIGSTOP)
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.99"),))  # resolv.conf, until it says something
        lab.resolved.process.send_signal(signal.SIGCONT)
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))
        lab.resolved.process.send_signal(signal.SIGSTOP)
        watch.servers.reread()
        lab.files.conf.write_text("nameserver 192.0.2.98\n")
        await asyncio.sleep(1)  # several readings
        assert watch.now.of_link(lab.up0) == on(lab.up0, "192.0.2.1")  # what it said last
        lab.resolved.process.send_signal(signal.SIGCONT)
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.2")
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.2"))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert set(warnings) == {"systemd-resolved does not say which servers it uses: no answer"}
    assert len(warnings) == 2


async def test_f1_it_is_never_activated(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    started = tmp_path / "started"
    (lab.bus.directory / "services" / "resolve1.service").write_text(
        f"[D-BUS Service]\nName={driver.NAME}\nExec=/usr/bin/touch {started}\n"
    )
    await lab.bus.busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")
    listing = await lab.bus.busctl("list", "--activatable")
    assert driver.NAME in listing.out
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.99"),))
        for _ in range(5):
            watch.servers.reread()
            await asyncio.sleep(0.05)
        assert await read_once(Settings())
    assert not started.exists()
    await lab.bus.busctl("call", "--expect-reply=no", driver.NAME, driver.PATH, "org.freedesktop.DBus.Peer", "Ping")
    async with asyncio.timeout(PATIENCE):
        while not started.exists():  # a plain call does
            await asyncio.sleep(0.02)


async def test_f1_a_bus_that_comes_goes_and_comes_back(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is looked for where it will be; nothing is polled."""
    monkeypatch.setattr(module, "RESTART", 0.1)
    monkeypatch.setattr(system, "TRIES", (0.05,))
    monkeypatch.setattr(system, "HINTS", 0.05)
    place = tmp_path / "run" / "bus"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={place}")
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    async with lab.watching() as watch:
        assert watch.now == ServerView((Server("192.0.2.99"),))
        await asyncio.sleep(0.5)  # all its tries are over
        place.parent.mkdir()
        place.symlink_to(lab.bus.address.partition("path=")[2].partition(",")[0])
        await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))
        lab.bus.kill()
        await watch.until(lambda view: view == ServerView((Server("192.0.2.99"),)))
        with system_bus(policy=False, extra=POLICY) as second:
            lab.resolved.stop()
            place.unlink()
            place.symlink_to(second.address.partition("path=")[2].partition(",")[0])
            lab.resolved._bus = second
            await lab.resolved.start()
            await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "192.0.2.1"))
            lab.resolved.stop()


async def test_f1_a_stopped_bus_is_not_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIME", 0.3)
    lab.bus.stop()
    try:
        async with lab.watching() as watch:
            assert watch.now == ServerView((Server("192.0.2.99"),))
    finally:
        lab.bus.resume()


async def test_f1_read_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.resolved.start()
    await lab.resolved.set_link_dns(lab.up0, "192.0.2.1")
    view = await read_once(Settings())
    assert view.of_link(lab.up0) == on(lab.up0, "192.0.2.1")
    assert len(asyncio.all_tasks()) == 1


async def test_f1_its_own_uplinks_stand_for_its_stub_without_a_bus(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that systemd-resolved writes itself, the link-local server with its zone included."""
    await lab.resolved.start()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    async with watching(resolv_conf=str(lab.resolved.stub), uplinks=str(lab.resolved.uplinks)) as watch:
        await watch.until(lambda view: view.default == (Server("127.0.0.53", trust_ad=True),))  # it knows none
        await lab.resolved.set_link_dns(lab.up0, "192.0.2.1", "fe80::1")
        await watch.until(lambda view: view.default == (Server("192.0.2.1"), Server("fe80::1", ifindex=lab.up0)))


async def test_f1_many_changes_are_few_readings(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    original = driver.Resolved.read

    async def counted(self: driver.Resolved, links: Set[int] = frozenset()) -> driver.ResolvedState:
        nonlocal readings
        readings += 1
        return await original(self, links)

    await lab.resolved.start()
    client = await RawClient.open(lab.bus.address)
    with client:
        octets = b"".join(
            client.frame(driver.PATH, f"{driver.NAME}.Manager", "SetLinkDNS", "ia(iay)", lab.up0,
                         [[2, bytes((10, 0, number >> 8, number & 255))]], destination=driver.NAME)
            for number in range(100)
        )  # fmt: skip
        monkeypatch.setattr(driver.Resolved, "read", counted)
        async with lab.watching() as watch:
            await client.send(octets)
            await watch.until(lambda view: view.of_link(lab.up0) == on(lab.up0, "10.0.0.99"))
    assert readings < 50


# --- who is believed


LINK = frozenset((2,))


class Impostor:
    """A fake of systemd-resolved: the real one never says odd things."""

    def __init__(self, manager: Any, link: Any, path: Any = "/link") -> None:
        self.answers = {driver.PATH: manager, "/link": link}
        self.path = path
        self.name = ":1.1"

    def follow(self, *_: object) -> None:
        pass

    def owner(self, name: str) -> str:
        return self.name

    async def call(self, name: str, path: str, interface: str, member: str, signature: str = "", *args: Any) -> Any:
        if member == "GetLink":
            return self.path if isinstance(self.path, list) else [self.path]
        return [self.answers[path]]


def impostor(*answers: Any) -> driver.Resolved:
    return driver.Resolved(Impostor(*answers), lambda: None)  # type: ignore[arg-type]  # stands in for it


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=17),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
PROPERTIES = st.dictionaries(
    st.sampled_from(["DNS", "DNSEx", "FallbackDNS", "FallbackDNSEx", "DefaultRoute", "Domains"]),
    ODD
    | st.lists(st.tuples(st.integers(0, 3), st.sampled_from([2, 10]), st.binary(max_size=16)))
    | st.lists(st.tuples(st.integers(0, 3), st.text(), st.booleans()) | st.tuples(st.text(), st.booleans()))
    | st.lists(st.tuples(ODD, ODD, ODD, ODD, ODD) | st.tuples(st.just(0), st.just(2), st.just(b"1234"), ODD, ODD)),
)


@given(PROPERTIES | ODD, PROPERTIES | ODD)
def test_f1_odd_values_do_no_harm(manager: Any, link: Any) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0")])
        try:
            state = asyncio.run(impostor(manager, link).read(LINK))
        except Unavailable:
            assert not isinstance(manager, dict) or not isinstance(link, dict)
            return
    view = state.view
    for _, domain in [*((index, one) for index, of in state.domains for one in of)]:
        assert domain == "." or (domain == domain.lower() and domain.isprintable() and not domain.endswith("."))
    of_routes = (one for route in view.routes for one in route.servers)
    for server in [*view.default, *view.common, *of_routes, *(one for _, servers in view.links for one in servers)]:
        assert isinstance(server, Server)
        assert 0 < server.port < 65536
        assert socket.inet_pton(socket.AF_INET6 if ":" in server.address else socket.AF_INET, server.address)


@pytest.mark.parametrize("path", [[], [7], [None], [["/link"]]])
async def test_f1_an_odd_path_of_a_link_is_no_answer(path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0")])
    with pytest.raises(Unavailable):
        await impostor({"DNS": []}, {}, path).read(LINK)


async def test_f1_a_server_given_by_its_port_for_dns_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent speaks plain DNS. Newer releases of systemd-resolved keep that port, this one takes it for none."""
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    view = (await impostor({"DNSEx": [[0, 2, b"\xc0\x00\x02\x35", 853, "dns.example"]]}, {}).read()).view
    assert view == ServerView((Server("192.0.2.53", 53),), common=(Server("192.0.2.53", 53),))


async def test_f1_a_link_with_other_scopes_alone_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has LLMNR before it has an address that DNS is for, and denies to be a default route until then."""
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0"), (3, "up1")])
    manager = {"DNS": [[2, 2, b"\xc0\x00\x02\x01"]]}
    link = {"DNS": [[2, b"\xc0\x00\x02\x01"]], "ScopesMask": 0b11000, "DefaultRoute": False}
    state = await impostor(manager, link).read(LINK)
    assert state.view.default == on(2, "192.0.2.1")
    assert driver._takes_any_name(link)
    assert not driver._takes_any_name({**link, "ScopesMask": 1})


async def test_f1_another_owner_has_other_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0")])
    fake = Impostor({"DNS": []}, {"DNS": [[2, b"\xc0\x00\x02\x01"]]})
    reader = driver.Resolved(fake, lambda: None)  # type: ignore[arg-type]  # stands in for it
    assert (await reader.read(LINK)).view.of_link(2) == on(2, "192.0.2.1")
    fake.answers, fake.path = {driver.PATH: {}, "/2": {"DNS": [[2, b"\xc0\x00\x02\x02"]]}}, "/2"
    reader._on_owner()
    assert (await reader.read(LINK)).view.of_link(2) == on(2, "192.0.2.2")


async def test_f1_a_restart_in_mid_reading_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restarting(Impostor):
        async def call(self, *args: Any) -> Any:
            self.name += "0"
            return await super().call(*args)

    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0")])
    with pytest.raises(Unavailable):
        await driver.Resolved(Restarting({}, {}), lambda: None).read(LINK)  # type: ignore[arg-type]  # stands in for it


async def test_f1_what_cannot_be_called_is_no_answer(lab: Lab) -> None:
    await lab.resolved.start()
    bus = SystemBus()
    bus.follow(driver.NAME, driver.PROPERTIES, "PropertiesChanged", lambda _: None)
    task = asyncio.create_task(bus.run())
    try:
        await bus.settled(PATIENCE)
        for path in ("", "no path", "/\0", "/\ud800"):
            with pytest.raises(Unavailable):
                await bus.call(driver.NAME, path, driver.PROPERTIES, "GetAll", "s", "x")
        assert await bus.call(driver.NAME, driver.PATH, driver.PROPERTIES, "GetAll", "s", f"{driver.NAME}.Manager")
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_f1_dns_where_dnsex_is_not_there_and_bad_entries_cost_no_good_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "up0")])
    manager = {"DNS": [[0, 2, b"\xc0\x00\x02\x35"], [0, 2, b"\xc0\x00\x02"], [0, 99, b"1234"], 7]}
    link = {"DNS": [[2, b"\xc0\x00\x02\x01"], [10], [10, b"\xfe\x80" + bytes(14)]]}
    view = (await impostor(manager, link).read(LINK)).view
    common = (Server("192.0.2.53"),)
    assert view == ServerView(common, ((2, on(2, "192.0.2.1", "fe80::")),), common)


@pytest.mark.needs("users")
async def test_f1_signals_of_others_are_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may send a signal of any name straight to us."""
    heard: list[str] = []
    with system_bus(policy=False, extra=HOSTILE) as bus:
        following = SystemBus(bus.address)
        following.follow("com.example.Real", "com.example.Face", "Changed", lambda body: heard.append(body[0]))
        following.follow("com.example.Other", "com.example.Face", "Changed", lambda body: heard.append("other"))
        task = asyncio.create_task(following.run())
        try:
            await following.settled(PATIENCE)
            real, nobody = await RawClient.open(bus.address), await RawClient.open(bus.address, uid=NOBODY)
            with real, nobody:
                await real.ask("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su",
                               "com.example.Real", 4)  # fmt: skip
                async with asyncio.timeout(PATIENCE):
                    while following.owner("com.example.Real") != real.name:
                        await asyncio.sleep(0.01)
                assert following._is_followed(Header(wire.SIGNAL, 0, 1, True, sender=real.name))
                assert not following._is_followed(Header(wire.SIGNAL, 0, 1, True, sender=nobody.name))
                me = following._bus.unique_name if following._bus else ""
                for _ in range(3):
                    await nobody.call("/", "com.example.Face", "Changed", "s", "forged", kind=4, destination=me)
                    await nobody.call("/", "org.freedesktop.DBus", "NameOwnerChanged", "sss",
                                      "com.example.Real", real.name, nobody.name, kind=4, destination=me)  # fmt: skip
                await nobody.ask("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")
                await real.call("/", "com.example.Face", "Changed", "s", "true", kind=4)
                async with asyncio.timeout(PATIENCE):
                    while not heard:
                        await asyncio.sleep(0.01)
            assert heard == ["true"]
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_f1_calls_to_us_are_not_answered() -> None:
    """Answers would pile up for callers that read none."""
    with system_bus(policy=False, extra=HOSTILE) as bus:
        following = SystemBus(bus.address)
        task = asyncio.create_task(following.run())
        try:
            await following.settled(PATIENCE)
            assert following._bus
            done = await bus.run(
                ["dbus-send", "--system", "--print-reply", "--reply-timeout=300",
                 f"--dest={following._bus.unique_name}", "/", "org.freedesktop.DBus.Introspectable.Introspect"]
            )  # fmt: skip
            assert "NoReply" in done.err
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_f1_nothing_is_left(lab: Lab) -> None:
    await lab.resolved.start()
    before = sorted(os.listdir("/proc/self/fd"))
    async with lab.watching():
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert len(asyncio.all_tasks()) == 1
