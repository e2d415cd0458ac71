"""Sets up the laptop and the world around it, and takes them away, however the demo ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from demo.laptop import LINK, Elsewhere, Laptop, Tell, WentWrong, ip
from demo.world import HOME, NAME_SERVER
from salsa_agent.bus._dbus_next import Message
from salsa_agent.bus.client import CallError, Client
from salsa_agent.bus.interface import NAME, PATH
from salsa_agent.bus.name_owner import DAEMON, BusError, open_bus
from salsa_agent.bus.private_bus import PrivateBus, PrivateBusFailed

FAR_END = "down0"
CONFIG = f'[static]\nrelays = ["{HOME}"]\n[dns]\nservers = ["{NAME_SERVER}"]\n'


@asynccontextmanager
async def laptop(tell: Tell) -> AsyncIterator[Laptop]:
    """The laptop and the world around it; all of it is gone at the end of the block. Raises WentWrong."""
    try:
        bus = await PrivateBus.start()
    except PrivateBusFailed as error:
        raise WentWrong(f"no bus: {error}") from error
    try:
        async with _elsewhere(tell) as elsewhere:
            await ip("link", "set", "lo", "up")
            await ip("link", "set", LINK, "up")
            connection = await open_bus(bus.address)
            try:
                one = Laptop(Client(connection, "the bus of the demo"), bus.address, elsewhere, tell)
                connection.router.signal_filter = lambda _: True  # nobody else is on this bus
                connection.router.add_message_handler(one.on_message)
                for rule in (f"path='{PATH}'", f"member='NameOwnerChanged',arg0='{NAME}'"):
                    await connection.call(_match(f"type='signal',{rule}"))
                async with _agent(bus.address):
                    yield one
            finally:
                connection.disconnect()
    except (BusError, CallError, OSError) as error:
        raise WentWrong(str(error) or type(error).__name__) from error
    finally:
        await bus.close()


@asynccontextmanager
async def _elsewhere(tell: Tell) -> AsyncIterator[Elsewhere]:
    argv = ["unshare", "--net", sys.executable, "-m", "demo.elsewhere", FAR_END]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, process_group=0)
    orders, said = process.stdin, process.stdout
    assert orders
    assert said
    listening: asyncio.Task[None] | None = None
    try:
        await said.readline()  # it is in its namespace
        await ip("link", "add", LINK, "type", "veth", "peer", "name", FAR_END, "netns", str(process.pid))
        orders.write(b"\n")
        if not await said.readline():
            raise WentWrong("the other end of the link did not come up")
        one = Elsewhere(orders, tell)
        listening = asyncio.create_task(one.listen(said))
        yield one
    finally:
        orders.close()  # its end
        await _ended(process)
        if listening:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@asynccontextmanager
async def _agent(bus: str) -> AsyncIterator[None]:
    """The agent itself. It ends with its bus, and that with this process, even by SIGKILL."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RUNTIME_DIRECTORY", "NOTIFY_SOCKET")}
    environment["DBUS_SYSTEM_BUS_ADDRESS"] = bus  # of the machine's own it shall see nothing
    with _unnamed_file(CONFIG) as config:
        argv = [sys.executable, "-m", "salsa_agent.cli.agent"]
        process = await asyncio.create_subprocess_exec(
            *argv, "--bus", bus, "--config", f"/proc/self/fd/{config}", "--log-level", "warning",
            env=environment, pass_fds=[config], process_group=0,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    # asyncio.timeout does not work in a task that is being cancelled, up to Python 3.11.3
    end = asyncio.create_task(process.wait())
    await asyncio.wait({end}, timeout=5)
    if not end.done():
        process.kill()
    await end


@contextmanager
def _unnamed_file(text: str) -> Iterator[int]:
    """A file that no directory knows, so that none can stay behind."""
    fd = os.memfd_create("salsa-agent.toml")
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


def _match(rule: str) -> Message:
    return Message(
        destination=DAEMON,
        path="/org/freedesktop/DBus",
        interface=DAEMON,
        member="AddMatch",
        signature="s",
        body=[rule],
    )
