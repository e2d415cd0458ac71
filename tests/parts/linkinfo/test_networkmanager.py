"""The connections of a real NetworkManager (rule F4), on a bus of its own with the policy that its package ships."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa_agent.bus.system_bus import SystemBus, Unavailable
from salsa_agent.core.model import Link, LinkInfo, SearchDomains
from salsa_agent.core.settings import Settings, Site
from salsa_agent.linkinfo import monitor as module
from salsa_agent.linkinfo import networkmanager as driver
from salsa_agent.linkinfo.monitor import LinkInfoMonitor
from salsa_agent.linkinfo.networkmanager import Connection
from tests.lab.bus import Bus, system_bus
from tests.lab.netns import Netns, veth
from tests.lab.networkmanager import POLICY, NetworkManager, networkmanager

PATIENCE = 30.0
OFFICE, HOME = "0f3c62aa-9b1e-4d5a-8b9b-2f0f0a4a5c11", "7d1a6f0e-3c55-4b0c-9a51-5b9d6b8f2c22"
BY_CONNECTION = Settings(sites=(Site("office", connection=("Office",)),))
BY_DOMAIN = Settings(sites=(Site("office", domain=("corp.example",)),))


class Watch:
    """A monitor, and what it told."""

    def __init__(self, bus: SystemBus, settings: Settings) -> None:
        self.told: list[tuple[LinkInfo, ...]] = []
        self._news = asyncio.Event()
        self.monitor = LinkInfoMonitor(self._on_infos, bus)
        self.monitor.configure(settings)

    def _on_infos(self, infos: tuple[LinkInfo, ...]) -> None:
        self.told.append(infos)
        self._news.set()

    async def until(self, condition: Callable[[tuple[LinkInfo, ...]], bool]) -> None:
        """Wait until what was told last is so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (self.told and condition(self.told[-1])):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"it never came; told: {self.told}")

    async def until_told(self, *infos: LinkInfo) -> None:
        await self.until(lambda told: told == infos)


@asynccontextmanager
async def watching(address: str, links: list[Link], settings: Settings = BY_CONNECTION) -> AsyncIterator[Watch]:
    """A monitor that runs, on a bus at this address."""
    bus = SystemBus(address)
    watch = Watch(bus, settings)
    watch.monitor.follow_links(links)
    watch.monitor.set_domains(SearchDomains())
    tasks = [asyncio.create_task(bus.run()), asyncio.create_task(watch.monitor.run())]
    try:
        yield watch
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


# --- the real one


class Lab:
    """A host with the links `up0` and `up1`, its system bus, its NetworkManager."""

    def __init__(self, space: Netns, bus: Bus, daemon: NetworkManager) -> None:
        self.bus, self.daemon = bus, daemon
        self.up0, self.up1 = space.index("up0"), space.index("up1")
        self.links = [Link(self.up0, "up0", True), Link(self.up1, "up1", True)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Netns() as space, Netns() as far, system_bus(policy=False, extra=POLICY) as bus:
        veth(space, "up0", far, "down0")
        veth(space, "up1", far, "down1")
        with networkmanager(space, bus) as daemon:
            daemon.profile("Office", OFFICE, "up0", "10.0.0.2/24")
            daemon.profile("Caf\N{LATIN SMALL LETTER E WITH ACUTE}", HOME, "up0", "10.0.1.2/24", autoconnect=False)
            yield Lab(space, bus, daemon)


async def test_f4_the_connection_of_a_link_is_followed(lab: Lab) -> None:
    async with watching(lab.bus.address, lab.links) as watch:
        await watch.until_told()  # it is not there yet, and nobody starts it
        await lab.daemon.start()
        await watch.until_told(LinkInfo(lab.up0, (), "Office", OFFICE))
        assert await lab.daemon.nmcli("connection", "up", HOME)
        await watch.until_told(LinkInfo(lab.up0, (), "Caf\N{LATIN SMALL LETTER E WITH ACUTE}", HOME))
        assert await lab.daemon.nmcli("connection", "modify", HOME, "connection.id", "Home")
        await watch.until_told(LinkInfo(lab.up0, (), "Home", HOME))
        assert await lab.daemon.nmcli("device", "disconnect", "up0")
        await watch.until_told()


async def test_f4_a_restart_of_networkmanager_is_no_change(lab: Lab) -> None:
    """An upgrade restarts it; it leaves its links as they are, and takes them up again."""
    await lab.daemon.start()
    async with watching(lab.bus.address, lab.links) as watch:
        office = (LinkInfo(lab.up0, (), "Office", OFFICE),)
        await watch.until(lambda told: told == office)
        before = len(watch.told)
        lab.daemon.stop()
        await lab.daemon.start()
        await lab.daemon.until(lambda: lab.daemon.nmcli("--get-values", "GENERAL.STATE", "connection", "show", OFFICE))
        await asyncio.sleep(module.RESTART)  # what it said before is void now
        assert watch.told[before:] == []
        assert watch.told[-1] == office


async def test_f4_networkmanager_that_dies_is_dropped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART", 0.2)
    await lab.daemon.start()
    async with watching(lab.bus.address, lab.links) as watch:
        await watch.until_told(LinkInfo(lab.up0, (), "Office", OFFICE))
        lab.daemon.kill()
        await watch.until_told()


async def test_f4_without_a_site_that_asks_for_it_nothing_is_read(lab: Lab) -> None:
    await lab.daemon.start()
    async with watching(lab.bus.address, lab.links, BY_DOMAIN) as watch:
        await watch.until_told()
        watch.monitor.set_domains(SearchDomains(("corp.example",)))
        domains = ("corp.example",)
        await watch.until_told(LinkInfo(lab.up0, domains), LinkInfo(lab.up1, domains))
        watch.monitor.configure(BY_CONNECTION)
        await watch.until_told(LinkInfo(lab.up0, (), "Office", OFFICE))
        watch.monitor.configure(Settings())
        await watch.until_told()


async def test_f4_no_bus_is_nothing_known(tmp_path: Path) -> None:
    async with watching(f"unix:path={tmp_path}/none", [Link(2, "up0", True)]) as watch:
        await watch.until_told()


# --- who is believed


class Impostor:
    """A fake of NetworkManager: the real one never says odd things."""

    def __init__(self, objects: dict[str, Any], *, by_name: Any = None, devices: Any = None) -> None:
        self.objects, self.by_name, self.devices = objects, by_name, devices
        self.called: list[str] = []

    def follow(self, *_: object, **__: object) -> None:
        pass

    def owner(self, name: str) -> str:
        return ":1.1"

    async def call(self, name: str, path: str, interface: str, member: str, signature: str = "", *args: Any) -> Any:
        self.called.append(f"{member} {path}")
        if member == "GetDeviceByIpIface":
            if self.by_name is None:
                raise Unavailable("no such device", f"{driver.NAME}.UnknownDevice")
            return [self.by_name]
        if member == "GetDevices":
            return [self.devices]
        if path not in self.objects:
            raise Unavailable("no such object", "org.freedesktop.DBus.Error.UnknownObject")
        return [self.objects[path]]


def reader(fake: Impostor) -> driver.NetworkManager:
    return driver.NetworkManager(fake, lambda: None, lambda: None)  # type: ignore[arg-type]  # stands in for the bus


UP0, UP1 = (2, "up0"), (3, "up1")
ACTIVE = {"Id": "Office", "Uuid": OFFICE, "Devices": ["/other"]}


async def test_f4_a_device_is_found_by_its_interface_or_ip_interface() -> None:
    objects = {
        driver.PATH: {},
        "/modem": {"Interface": "cdc-wdm0", "IpInterface": "up0", "ActiveConnection": "/a"},
        "/card": {"Interface": "up1", "IpInterface": "ppp0", "ActiveConnection": "/a"},
        "/a": ACTIVE,
    }
    office = Connection("Office", OFFICE)
    nm = reader(Impostor(objects, devices=["/gone", "/modem", 7, "/card"]))
    assert await nm.read((UP0, UP1, (4, "up2"))) == {2: office, 3: office}
    assert await reader(Impostor(objects, by_name="/modem", devices=[])).read((UP0, UP1)) == {2: office}


async def test_f4_no_active_connection() -> None:
    device = {"Interface": "up0", "ActiveConnection": "/"}
    nm = reader(Impostor({driver.PATH: {}, "/d": device, "/": ACTIVE}, by_name="/d"))
    assert (await nm.read((UP0,)), nm.complaints) == ({}, [])
    nm = reader(Impostor({driver.PATH: {}, "/d": {**device, "ActiveConnection": "/gone"}}, by_name="/d"))
    assert (await nm.read((UP0,)), nm.complaints) == ({}, [])


async def test_f4_only_devices_of_links_that_count_are_read() -> None:
    fake = Impostor({driver.PATH: {}, "/d": {"Interface": "up0", "ActiveConnection": "/a"}, "/a": ACTIVE}, by_name="/d")
    await reader(fake).read((UP0,))
    assert fake.called == [f"GetAll {driver.PATH}", f"GetDeviceByIpIface {driver.PATH}", "GetAll /d", "GetAll /a"]


async def test_f4_what_has_the_wrong_type_is_dropped_and_said() -> None:
    device = {"Interface": "up0", "ActiveConnection": "/a"}
    for active, found, complaint in (
        ({"Id": 7, "Uuid": OFFICE}, {2: Connection("", OFFICE)}, "the Id of the connection on up0"),
        ({"Id": "x\x1b[2J", "Uuid": OFFICE}, {2: Connection("", OFFICE)}, "the Id of the connection on up0"),
        ({"Id": "x" * 1000, "Uuid": OFFICE}, {2: Connection("", OFFICE)}, "the Id of the connection on up0"),
        ({"Id": "Office", "Uuid": [1]}, {2: Connection("Office", "")}, "the Uuid of the connection on up0"),
        ({}, {}, "the Id of the connection on up0"),
    ):
        nm = reader(Impostor({driver.PATH: {}, "/d": device, "/a": active}, by_name="/d"))
        assert await nm.read((UP0,)) == found
        assert nm.complaints[0].startswith(complaint)
    nm = reader(Impostor({driver.PATH: {}, "/d": {**device, "ActiveConnection": 7}}, by_name="/d"))
    assert (await nm.read((UP0,)), nm.complaints) == ({}, ["the active connection of up0 is no path"])


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
DEVICES = st.fixed_dictionaries(
    {}, optional={"Interface": st.just("up0") | ODD, "IpInterface": ODD, "ActiveConnection": st.just("/a") | ODD}
)


@given(
    ODD | st.just({}), DEVICES | ODD, ODD | st.fixed_dictionaries({"Id": ODD, "Uuid": ODD}), ODD | st.just("/d"), ODD
)
def test_f4_odd_values_do_no_harm(manager: Any, device: Any, active: Any, by_name: Any, devices: Any) -> None:
    fake = Impostor({driver.PATH: manager, "/d": device, "/a": active}, by_name=by_name, devices=devices)
    with suppress(Unavailable):
        for connection in asyncio.run(reader(fake).read((UP0, UP1))).values():
            assert all(isinstance(text, str) and text.isprintable() for text in connection)


async def test_f4_one_that_does_not_answer_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it said last stands; it is asked again; one line says so."""
    monkeypatch.setattr(module, "READ_TIME", 0.1)
    monkeypatch.setattr(module, "AGAIN", 0.05)
    hanging = False

    async def read(self: driver.NetworkManager, links: Any) -> dict[int, Connection]:
        if hanging:
            await asyncio.Event().wait()
        return {2: Connection("Office", OFFICE)}

    monkeypatch.setattr(driver.NetworkManager, "read", read)
    monkeypatch.setattr(driver.NetworkManager, "owner", ":1.1")
    with system_bus(policy=False) as bus:
        async with watching(bus.address, [Link(2, "up0", True)]) as watch:
            await watch.until_told(LinkInfo(2, (), "Office", OFFICE))
            hanging = True
            watch.monitor.set_domains(SearchDomains())
            watch.monitor.reread()
            async with asyncio.timeout(PATIENCE):
                while not caplog.records:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            assert watch.told == [(LinkInfo(2, (), "Office", OFFICE),)]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "NetworkManager does not say which connections are active: no answer"
    ]
