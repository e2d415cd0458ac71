"""The system bus as a client sees it: other services' methods and signals. No service is ever activated by it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from salsa_agent.bus._dbus_next import Message, MessageFlag, MessageType
from salsa_agent.bus.client import plain
from salsa_agent.bus.connection import BusConnection, BusGone
from salsa_agent.bus.message import Header
from salsa_agent.bus.name_owner import DAEMON, BusError, address_of, open_bus
from salsa_agent.text import clean

CALL_TIME = 2.0  # seconds
TRIES = (0.2, 1.0, 5.0)  # seconds until the next try to connect; after the last one a hint is waited for
HINTS = 1.0  # seconds between two hints that are heeded

NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"

log = logging.getLogger("salsa-agent.bus")


class Unavailable(Exception):
    """A service did not give what it was asked for; the message is one line. `error`: the name of a D-Bus error."""

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


@dataclass(slots=True)
class _Followed:
    """A service that is followed: who it is now, and what of it is of use."""

    interface: str
    member: str
    on_signal: Callable[[list[Any]], None]
    on_owner: Callable[[], None]
    arg0: tuple[str, ...] = ()
    owner: str = ""


class SystemBus:
    """A connection to the system bus for as long as there is one; made again when it comes back.

    A bus that is not there is tried a few times, and again after a `hint`.
    """

    def __init__(self, address: str = "") -> None:
        """`address`: empty is that of the system bus, at the time it is connected to."""
        self._address = address
        self._followed: dict[str, _Followed] = {}
        self._bus: BusConnection | None = None
        self._hint = asyncio.Event()
        self._hint.set()
        self._settled = asyncio.Event()

    @property
    def address(self) -> str:
        """Where it is looked for."""
        return self._address or address_of("system")

    def follow(
        self,
        name: str,
        interface: str,
        member: str,
        on_signal: Callable[[list[Any]], None],
        on_owner: Callable[[], None] = lambda: None,
        *,
        arg0: tuple[str, ...] = (),
    ) -> None:
        """Before `run`: tell the arguments of this signal of the owner of `name`, and when the owner is another.

        A signal that anybody else sends is not heard. `arg0`: only signals with one of these as their first argument.
        """
        self._followed[name] = _Followed(interface, member, on_signal, on_owner, arg0)

    def owner(self, name: str) -> str:
        """The unique name of who owns a followed name; empty: nobody, or no bus."""
        return self._followed[name].owner

    def hint(self) -> None:
        """Something changed: the bus may be there now."""
        self._hint.set()

    async def settled(self, most: float) -> None:
        """Wait until the owners are known, or there is no bus, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                await self._settled.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._hint.wait()
            for pause in (*TRIES, HINTS):
                self._hint.clear()
                if await self._session():
                    self._hint.set()  # it was there: maybe it only restarts
                    break
                self._settled.set()
                await asyncio.sleep(pause)
            else:
                continue
            await asyncio.sleep(TRIES[0])

    async def _session(self) -> bool:
        """One connection, to its end; False if there was none to be had."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        bus: BusConnection | None = None
        try:
            bus = await open_bus(self.address)
            bus.router.signal_filter = self._is_followed
            bus.router.serve = lambda *_: None  # nobody has a reason to call
            bus.on_end = lambda why: None if ended.done() else ended.set_result(why)
            bus.router.add_message_handler(self._on_message)
            self._bus = bus
            await self._subscribe()
            self._settled.set()
            log.debug("the system bus is there")
            log.debug("the system bus is gone: %s", clean(await ended))
        except (BusError, Unavailable) as error:
            log.debug("no system bus: %s", error)
            return False
        finally:
            self._bus = None
            if bus is not None:
                bus.disconnect()
                for name in self._followed:
                    self._own(name, "")
        return True

    async def _subscribe(self) -> None:
        for name, one in self._followed.items():
            await self._add_match(f"sender='{DAEMON}',member='NameOwnerChanged',arg0='{name}'")
            rule = f"sender='{name}',interface='{one.interface}',member='{one.member}'"
            for match in [f"{rule},arg0='{arg}'" for arg in one.arg0] or [rule]:
                await self._add_match(match)
            try:
                (owner,) = await self._call(DAEMON, "/org/freedesktop/DBus", DAEMON, "GetNameOwner", "s", name)
            except Unavailable as error:
                if error.error != NO_OWNER:
                    raise
                owner = ""
            self._own(name, owner)

    async def _add_match(self, rule: str) -> None:
        await self._call(DAEMON, "/org/freedesktop/DBus", DAEMON, "AddMatch", "s", f"type='signal',{rule}")

    def _own(self, name: str, owner: str) -> None:
        one = self._followed[name]
        if one.owner != owner:
            one.owner = owner
            one.on_owner()

    # --- signals

    def _is_followed(self, head: Header) -> bool:
        """Anybody may send us a signal of any name; only the sender is vouched for by the bus."""
        return head.sender == DAEMON or any(one.owner == head.sender for one in self._followed.values())

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.sender == DAEMON:
            if message.member == "NameOwnerChanged" and message.signature == "sss":
                name, _, owner = message.body
                if name in self._followed:
                    self._own(name, owner)
            return
        for one in self._followed.values():
            if (one.owner, one.interface, one.member) == (message.sender, message.interface, message.member):
                one.on_signal(plain(message.body))

    # --- calls

    async def call(self, name: str, path: str, interface: str, member: str, signature: str = "", *args: Any) -> Any:
        """Call a method of a followed service, if it runs; the values of the reply. Raises Unavailable."""
        owner = self.owner(name)
        if not owner:
            raise Unavailable(f"{name} is not on the system bus")
        return await self._call(owner, path, interface, member, signature, *args)

    async def _call(self, to: str, path: str, interface: str, member: str, signature: str = "", *args: Any) -> Any:
        if self._bus is None:
            raise Unavailable("no system bus")
        try:
            message = Message(
                destination=to,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(args),
                flags=MessageFlag.NO_AUTOSTART,
            )
            async with asyncio.timeout(CALL_TIME):
                reply = await self._bus.call(message)
        except (TypeError, ValueError) as error:  # what a service gave, such as an object's path, is not valid
            raise Unavailable(f"{member}: it cannot be called") from error
        except TimeoutError as error:
            raise Unavailable(f"{member}: no answer in {CALL_TIME:g} s") from error
        except BusGone as error:
            raise Unavailable("the system bus is lost") from error
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            name = clean(str(reply.error_name)) if reply is not None else ""
            raise Unavailable(f"{member}: {name}", name)
        return plain(reply.body)
