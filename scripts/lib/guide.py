"""Beside the agent that ./run starts: passes on what it prints, and tells how to ask it, once it is on a bus.

Arguments: the agent's process id, a directory with the FIFO `stdout` that the agent writes to, the path of salsactl,
then the agent's options. Ends with the agent, and removes the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from salsa_agent.bus.client import CallError, client

OBJECT = "org.salsa.Agent1 /org/salsa/Agent1 org.salsa.Agent1"
PAUSE = 0.2  # seconds between two looks for the agent
SOURCES = {
    "dns": ", as this network's reverse DNS says",
    "link": ", as this link's own configuration says",
    "site": ", from your table of networks",
    "static": ", from your configuration",
}


def given_bus(options: Sequence[str]) -> str:
    """The bus that --bus named, if it did."""
    for option, value in zip(options, [*options[1:], ""], strict=False):
        if option == "--bus" or option.startswith("--bus="):
            return option.partition("=")[2] or value
    return ""


async def pass_on(reader: asyncio.StreamReader, addresses: list[str]) -> None:
    """Print what the agent prints, to its end; the address of a private bus is noted."""
    while line := (await reader.readline()).decode(errors="replace"):
        print(line, end="", flush=True)
        if line.startswith("unix:"):
            addresses.insert(0, line.strip())


async def find(pid: int, addresses: list[str], options: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The bus on which this process owns the name, and its properties there."""
    given = given_bus(options)
    while True:
        for bus in dict.fromkeys(filter(None, [given if ":" in given else "", "system", "session", *addresses])):
            with contextlib.suppress(CallError):
                async with client(bus) as agent:
                    if await agent.owner() == pid:
                        return bus, await agent.properties()
        await asyncio.sleep(PAUSE)


def lines(bus: str, now: dict[str, Any], salsactl: str) -> Iterator[str]:
    """What the person at the terminal is told."""
    where = {"system": "the system bus", "session": "the session bus"}.get(bus, "a bus of its own")
    count = len(now["Addresses"])
    state = f'its state is "{now["State"]}", with {count} of this host\'s addresses to ask about.'
    yield f"salsa-agent runs, on {where}; {state}"
    relay = f"{now['BestRelay']}, port {now['BestRelayPort']}"
    yield (
        f"The relay to use now is {relay}{SOURCES.get(now['BestRelaySource'], '')}."
        if now["BestRelay"]
        else "This network names no relay, and none is configured."
    )
    yield ""
    yield "Ask it from another terminal:"
    if shutil.which("busctl"):
        option = {"system": "--system", "session": "--user"}.get(bus, "--address=" + shlex.quote(bus))
        yield f"  busctl {option} get-property {OBJECT} BestRelay"
        yield f"  busctl {option} get-property {OBJECT} Relays"
    ask = f"{shlex.quote(salsactl)} --bus {shlex.quote(bus)}"
    yield f"  {ask} status"
    yield "Follow its changes:"
    yield f"  {ask} watch"
    yield ""
    yield "Its log follows; Ctrl-C ends it."


async def guide(pid: int, directory: Path, salsactl: str, options: Sequence[str]) -> None:
    """Tell once, and pass on what the agent prints until it ends."""
    addresses: list[str] = []
    reader = asyncio.StreamReader()
    with (directory / "stdout").open("rb") as stdout:  # opens when the agent opens it
        shutil.rmtree(directory)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
        printing = asyncio.create_task(pass_on(reader, addresses))
        finding = asyncio.create_task(find(pid, addresses, options))
        await asyncio.wait((printing, finding), return_when=asyncio.FIRST_COMPLETED)
        if finding.done():
            print("", *lines(*finding.result(), salsactl), "", sep="\n", flush=True)
        else:
            finding.cancel()
        await printing


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with the agent
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(guide(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
