"""The laptop: its link, the agent on it, and a mail program that asks the agent. `demo.stage` sets it up."""

from __future__ import annotations

import asyncio
import json
import smtplib
import sys
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Interface
from typing import Any

from demo.world import RELAYS
from salsa_agent.bus._dbus_next import Message
from salsa_agent.bus.client import Client, plain
from salsa_agent.bus.interface import PATH

LINK = "net0"
PATIENCE = 30.0  # seconds, for what takes milliseconds

Tell = Callable[[str, str], None]


class WentWrong(Exception):
    """The story cannot go on; the message says why."""


class Elsewhere:
    """Everything but the laptop, at the other end of its link."""

    def __init__(self, orders: asyncio.StreamWriter, tell: Tell) -> None:
        self._orders, self._tell = orders, tell
        self._dead = asyncio.Event()

    async def kill(self, relay: str) -> None:
        """Have a relay die; returns when it is dead."""
        self._dead.clear()
        self._orders.write(f"{relay}\n".encode())
        async with asyncio.timeout(PATIENCE):
            await self._dead.wait()

    async def listen(self, stream: asyncio.StreamReader) -> None:
        """Pass on what is to be told."""
        while line := (await stream.readline()).decode():
            word, _, text = line.rstrip("\n").partition("\t")
            if word == "dead":
                self._tell("relay", text)
                self._dead.set()
            else:
                self._tell(word, text)


class Laptop:
    """Use `laptop`. `tell` is given all there is to see."""

    def __init__(self, client: Client, bus: str, elsewhere: Elsewhere, tell: Tell) -> None:
        self._client, self._bus = client, bus
        self._elsewhere = elsewhere
        self._tell = tell
        self._known: dict[str, Any] = {}
        self._told = ""  # the best relay, as BestRelayChanged has it: the last of the signals of a change
        self._owned = False
        self._changed = asyncio.Event()

    # --- the network

    async def join(self, address: IPv4Interface) -> None:
        """Arrive in a network."""
        self._tell("kernel", f"{address.ip} on {LINK}")
        await ip("route", "add", "default", "dev", LINK)  # first, so that the address is the one change to see
        await ip("addr", "add", str(address), "dev", LINK)

    async def leave(self) -> None:
        """Lose the address, and the route with it."""
        self._tell("kernel", f"no address on {LINK}")
        await ip("addr", "flush", "dev", LINK)

    async def kill(self, relay: str) -> None:
        """Elsewhere, a relay dies."""
        await self._elsewhere.kill(relay)

    # --- the agent

    def on_message(self, message: Message) -> None:
        """Show a signal of the agent, and note what it says."""
        if message.path == PATH and message.member == "PropertiesChanged":
            changed = plain(message.body[1])
            self._known |= changed
            self._tell("signal", f"PropertiesChanged {', '.join(_property(*one) for one in changed.items())}")
        elif message.path == PATH and message.member == "BestRelayChanged":
            self._told = str(message.body[0])
            self._tell("signal", "BestRelayChanged {} {} {}".format(*message.body))
        elif message.member == "NameOwnerChanged":
            self._owned = bool(message.body[2])
        self._changed.set()

    async def settled(self, relay: str) -> None:
        """Wait until this is the best relay, nothing is going on, and the agent answers. Raises WentWrong."""
        await self._until(lambda: self._told == relay and self._known["State"] in ("ready", "offline") and self._owned)

    async def _until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise WentWrong(f"the agent has come to nothing but this: {self._known}") from None

    def _is_not(self, relay: str) -> bool:
        return self._told != relay

    async def status(self) -> str:
        """What `salsactl status` prints."""
        argv = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "--bus", self._bus, "status"]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    # --- the mail program

    async def send_letter(self) -> None:
        """Send a letter by way of the best relay; report one that fails, and take the next."""
        while True:
            host, port = self._known["BestRelay"], self._known["BestRelayPort"]
            try:
                await asyncio.to_thread(_deliver, RELAYS[host], port)
            except (OSError, smtplib.SMTPException) as error:
                reason = str(getattr(error, "strerror", None) or error).lower()
                self._tell("mail", f"{host}: {reason}; ReportFailure {host} {port}")
                await self._client.report_failure(host, port, reason)
                await self._until(partial(self._is_not, host))
            else:
                self._tell("mail", f"sent by way of {host}")
                return


async def ip(*args: str) -> None:
    """iproute2's `ip`. Raises WentWrong."""
    process = await asyncio.create_subprocess_exec("ip", *args, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    if process.returncode:
        raise WentWrong(f"ip {' '.join(args)}: {err.decode(errors='replace').strip()}")


def _deliver(address: str, port: int) -> None:
    with smtplib.SMTP(address, port, local_hostname="laptop.example", timeout=5) as relay:
        relay.sendmail("traveller@clear.net.nz", "nanog@merit.edu", "Subject: SALSA\r\n\r\nHi,\r\n")


def _property(name: str, value: Any) -> str:
    """A property as there is room for it: of a list how long it is, of a time nothing."""
    if isinstance(value, list):
        return f"{name} ({len(value)})"
    return name if name == "LastChanged" else f"{name}={json.dumps(value)}"
