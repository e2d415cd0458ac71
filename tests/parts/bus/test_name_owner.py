"""Which bus, whose name, and what their loss means (rule H3), on real buses."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.bus import name_owner as module
from salsa_agent.bus._dbus_next import Message
from salsa_agent.bus.interface import NAME, PATH, PEER
from salsa_agent.bus.name_owner import BusError, NameOwner, NameRefused, address_of, connect
from salsa_agent.bus.service import Service
from tests.lab.bus import KINDS, NOBODY, PATIENCE, RawClient, system_bus
from tests.lab.busagent import READY, VERSION, Fake, follow, realtime_us, serving


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No bus of this machine is found; private ones go to this directory, whose path is short."""
    tmp_path = Path(tempfile.mkdtemp(prefix="salsa-run-"))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/system")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    shutil.rmtree(tmp_path)


def service() -> Service:
    made = Service(version=VERSION, requests=Fake(), realtime_us=realtime_us)
    made.publish(READY)
    return made


def daemon(member: str) -> Message:
    """A call to the bus itself, about the agent's name."""
    return Message(
        destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus",
        member=member, signature="s", body=[NAME],
    )  # fmt: skip


async def lost(connection: NameOwner) -> str:
    async with asyncio.timeout(PATIENCE):
        return await connection.lost()


async def answers(address: str) -> bool:
    """Whether the agent does, under its name."""
    with await RawClient.open(address) as client:
        head, _ = await client.ask(PATH, PEER, "Ping", destination=NAME)
        return not head.error_name


# --- one bus


async def test_h3_the_name_is_requested_and_owned() -> None:
    with system_bus() as bus:
        connection = await connect(bus.address)
        try:
            await connection.export(service())
            assert not await answers(bus.address)  # connected, yet without the name
            await connection.own_name()
            assert await answers(bus.address)
            assert connection.private_address == ""
            assert connection.description == f"bus at {bus.address}"
        finally:
            await connection.close()
            await connection.close()
        assert not await answers(bus.address)


@pytest.mark.parametrize("bus", ["system", "session", "unix:path=/no/where", "nonsense", "private"])
async def test_h3_no_bus_is_one_line(bus: str) -> None:
    with pytest.raises(BusError) as caught:
        await connect(bus)
    assert str(caught.value).startswith("no ")
    assert str(caught.value).isprintable()


async def test_h3_a_name_that_is_taken_is_one_line_also_under_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    with system_bus() as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        first = await connect("system")
        await first.own_name()
        for kind in ("auto", "system", bus.address):
            second = await connect(kind)
            with pytest.raises(BusError, match=f"the name {NAME} is taken on the "):
                await second.own_name()
            assert second._bus is not None  # nor does it wait in line for it
            waiting = await second._bus.call(daemon("ListQueuedOwners"))
            assert first._bus is not None
            assert waiting is not None
            assert waiting.body == [[first._bus.unique_name]]
            await second.close()
        await first.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_h3_a_refused_name_is_one_line(kind: str) -> None:
    with system_bus(kind, policy=False) as bus:
        connection = await connect(bus.address)
        with pytest.raises(BusError, match=f"refuses the name {NAME}: [ -~]+$") as caught:
            await connection.own_name()
        assert isinstance(caught.value.__cause__, NameRefused)  # which under `auto` moves on
        await connection.close()


async def test_h3_a_bus_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_TIME", 0.2)
    monkeypatch.setattr(module, "CONNECT_TIME", 0.2)
    with system_bus() as bus:
        connection = await connect(bus.address)
        bus.stop()
        with pytest.raises(BusError, match=r"does not answer$"):
            await connection.own_name()
        with pytest.raises(BusError, match=r": it does not answer$"):
            await connect(bus.address)
        await connection.close()
        bus.resume()


async def test_h3_a_bus_that_dies_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with system_bus() as bus:
        connection = await connect(bus.address)
        await connection.own_name()
        waiting = asyncio.ensure_future(lost(connection))
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.kill()
        assert await waiting == f"the bus at {bus.address} is lost: the bus closed it"
        with pytest.raises(BusError, match="is lost"):
            await connection.own_name()
        await connection.close()
    assert not caplog.records


async def test_h3_a_lost_name_is_one_line() -> None:
    with system_bus() as bus:
        connection = await connect(bus.address)
        await connection.own_name()
        assert connection._bus is not None
        await connection._bus.call(daemon("ReleaseName"))
        assert await lost(connection) == f"the name {NAME} is lost on the bus at {bus.address}"
        await connection.close()


async def test_closing_is_no_loss() -> None:
    with system_bus() as bus:
        connection = await connect(bus.address)
        waiting = asyncio.ensure_future(connection.lost())
        await connection.close()
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


def test_addresses_come_from_where_the_specification_says(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS")
    assert address_of("system") == "unix:path=/var/run/dbus/system_bus_socket"
    assert address_of("session") == ""
    (nowhere / "bus").touch()
    assert address_of("session") == f"unix:path={nowhere}/bus"
    monkeypatch.chdir(nowhere.parent)
    monkeypatch.setenv("XDG_RUNTIME_DIR", nowhere.name)
    assert address_of("session") == "", "a relative path there is to be ignored (XDG Base Directory Specification)"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")
    assert address_of("session") == "unix:path=/x"
    assert address_of("unix:path=/y") == "unix:path=/y"


@pytest.mark.needs("users")
@pytest.mark.parametrize("runtime", ["{}", "/" + "x" * 300, "{}/none"])
def test_h3_a_runtime_directory_that_cannot_be_looked_into_has_no_bus(runtime: str, nowhere: Path) -> None:
    """`su`, `setpriv` and `sudo -E` leave that of their caller: the agent ended with an error of its own."""
    (nowhere / "bus").touch()
    code = (
        "import os; from salsa_agent.bus.name_owner import address_of\n"
        f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); print(repr(address_of('session')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "XDG_RUNTIME_DIR": runtime.format(nowhere)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("''\n", "")


# --- auto


async def test_auto_a_refused_name_moves_on_to_the_next_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    with system_bus(policy=False) as one, system_bus() as two:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", one.address)
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", two.address)
        connection = await connect("auto")
        try:
            assert connection.description == "system bus"
            exported = service()
            await connection.export(exported)
            waiting = asyncio.ensure_future(lost(connection))  # before the name, as the agent does
            await connection.own_name()
            assert connection.description == "session bus"
            with await RawClient.open(two.address) as client:
                await follow(client)
                assert not (await client.ask(PATH, PEER, "Ping", destination=NAME))[0].error_name
                exported.publish(READY.__class__())
                assert (await client.signal("BestRelayChanged"))[1] == ["", 0, "none"]
            one.kill()  # is no concern of ours any more
            await asyncio.sleep(0.05)
            assert not waiting.done()
            two.kill()
            assert (await waiting).startswith("the session bus is lost: ")
        finally:
            await connection.close()


async def test_auto_a_missing_bus_moves_on_and_the_last_is_a_private_one(nowhere: Path) -> None:
    connection = await connect("auto")
    try:
        assert connection.description == "private bus"
        await connection.export(service())
        await connection.own_name()
        assert connection.private_address.startswith(f"unix:path={nowhere}/salsa-agent-")
        assert await answers(connection.private_address)
        [directory] = nowhere.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        await connection.close()
    assert list(nowhere.iterdir()) == []


async def test_auto_where_the_name_is_refused_on_all_others_there_is_the_private_bus(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with system_bus(policy=False) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        connection = await connect("auto")
        await connection.export(service())
        assert connection.private_address == ""
        await connection.own_name()
        assert await answers(connection.private_address)
        await connection.close()
    assert list(nowhere.iterdir()) == []


async def test_auto_without_any_bus_names_them_all(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nothing")
    with pytest.raises(BusError) as caught:
        await connect("auto")
    assert str(caught.value) == (
        "no system bus (unix:path=/no/system: No such file or directory); no session bus (no address is known); "
        "no private bus (dbus-daemon is not installed)"
    )
    assert list(nowhere.iterdir()) == []


async def test_auto_a_bus_that_lets_nobody_in_moves_on(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    with system_bus(extra='<policy context="mandatory"><deny user="root"/></policy>') as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        connection = await connect("auto")
        assert connection.description == "private bus"
        await connection.close()


# --- the private bus


@pytest.mark.parametrize("broken", ["exit 1", "echo nonsense", "echo unix:path=/elsewhere", "kill $$"])
async def test_a_private_bus_that_does_not_start_is_one_line_and_leaves_nothing(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    tools = nowhere / "bin"
    tools.mkdir()
    (tools / "dbus-daemon").write_text(f"#!/bin/sh\n{broken}\n")
    (tools / "dbus-daemon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(BusError, match=r"no private bus \(dbus-daemon did not start\)$"):
        await connect("auto")
    assert list(nowhere.iterdir()) == [tools]


async def test_a_private_bus_is_the_users_alone(nowhere: Path) -> None:
    nowhere.chmod(0o755)
    connection = await connect("auto")
    try:
        [directory] = nowhere.iterdir()
        directory.chmod(0o755)  # even if they could reach it

        with pytest.raises((AssertionError, OSError, EOFError)):
            await RawClient.open(connection.private_address, uid=NOBODY)
    finally:
        await connection.close()


async def test_a_private_bus_in_a_directory_with_an_odd_name(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = nowhere / "a&b <c> d"
    odd.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))
    connection = await connect("auto")
    await connection.own_name()
    await connection.close()
    assert list(odd.iterdir()) == []


@pytest.mark.parametrize("runtime", ["", "/no/where", "relative", "{}/" + "x" * 100])
async def test_a_private_bus_falls_back_to_the_temporary_directory(
    runtime: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime.format(nowhere))
    monkeypatch.setattr("tempfile.tempdir", str(nowhere))
    connection = await connect("auto")
    assert connection.private_address.startswith(f"unix:path={nowhere}/")
    await connection.close()


@pytest.mark.needs("users")
@pytest.mark.parametrize(("owner", "mode"), [(NOBODY, 0o700), (0, 0o777), (0, 0o770)])
async def test_a_private_bus_is_nowhere_where_another_user_could_replace_it(
    owner: int, mode: int, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo` may keep the environment of its user: root's bus was in a directory of that user."""
    runtime, temporary = nowhere / "runtime", nowhere / "temporary"
    for directory in (runtime, temporary):
        directory.mkdir(0o700)
    os.chown(runtime, owner, owner)
    runtime.chmod(mode)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    connection = await connect("auto")
    assert connection.private_address.startswith(f"unix:path={temporary}/")
    await connection.close()


AGENT = """
import asyncio
from salsa_agent.bus.name_owner import connect
async def main():
    connection = await connect("auto")
    print(connection.private_address, flush=True)
    await connection.lost()
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_private_bus_ends_with_the_agent_however_that_ends(nowhere: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(nowhere)},
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        daemons = running(str(nowhere))
        assert address
        assert daemons
        process.send_signal(number)
        process.wait(PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while any(nowhere.iterdir()) or running(str(nowhere)):
                await asyncio.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def running(mark: str) -> list[Any]:
    """Processes whose command line has `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


async def test_the_loss_of_a_private_bus_is_noticed_and_leaves_nothing(nowhere: Path) -> None:
    connection = await connect("auto")
    await connection.own_name()
    for pid in running(f"{nowhere}/"):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dbus-daemon":
            os.kill(int(pid), signal.SIGKILL)
    assert (await lost(connection)).startswith("the private bus is lost: ")
    await connection.close()
    assert list(nowhere.iterdir()) == []


async def test_nothing_is_left_open_by_many_connections(nowhere: Path) -> None:
    connection = await connect("auto")
    await connection.close()
    before, tasks = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
    for _ in range(3):
        connection = await connect("auto")
        await connection.export(service())
        await connection.own_name()
        await connection.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert asyncio.all_tasks() == tasks


async def test_h3_the_bus_is_lost_with_the_connection_that_asks_it_about_callers() -> None:
    """The agent would go on, and refuse every call: nobody could say whose it is."""
    with system_bus() as bus:
        async with serving(bus) as agent:
            own = agent.connection._bus
            assert own is not None
            assert own.beside is not None
            assert own.beside._sock is not None
            own.beside._sock.shutdown(socket.SHUT_RDWR)
            async with asyncio.timeout(PATIENCE):
                assert "is lost" in await agent.connection.lost()
