"""Asks the NAT of the present network for the external address, for as long as the engine wants it (rule G1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address

from salsa_agent.core.events import DiscoverExternalAddress
from salsa_agent.core.model import Answer, IPAddress, Question
from salsa_agent.nat import natpmp, stun
from salsa_agent.nat.answer import MappedAddress
from salsa_agent.text import host_port

log = logging.getLogger("salsa-agent")


class Nat:
    """Runs one request of the engine at a time and reports to `on_found` which address it found.

    None: there was no answer, or one without an address. A changed answer is reported again. Whether an address is of
    use is for the engine to say. `look_up` answers DNS questions and never raises. `natpmp_waits`, `stun_waits`:
    seconds to wait after each datagram. There is nothing to configure: a request says everything.
    """

    def __init__(
        self,
        on_found: Callable[[DiscoverExternalAddress, IPAddress | None], None],
        look_up: Callable[[Question], Awaitable[Answer]],
        *,
        natpmp_waits: Sequence[float] = natpmp.WAITS,
        stun_waits: Sequence[float] = stun.WAITS,
    ) -> None:
        self._on_found = on_found
        self._look_up = look_up
        self._natpmp_waits = natpmp_waits
        self._stun_waits = stun_waits
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._logged = MappedAddress(None)

    def discover(self, request: DiscoverExternalAddress) -> None:
        """Start on this request; an earlier one is forgotten."""
        self.forget()
        self._task = asyncio.create_task(self._follow(request), name=f"nat {request.method}")

    def forget(self) -> None:
        """Nothing more is reported of the last request."""
        if self._task is not None:
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Forget, and wait until no task and no socket is left."""
        self.forget()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _follow(self, request: DiscoverExternalAddress) -> None:
        last: MappedAddress | None = None

        def report(answer: MappedAddress) -> None:
            nonlocal last
            self._log(request, answer)
            if last is None or last.ip != answer.ip:
                self._on_found(request, answer.ip)
            last = answer

        try:
            if request.method == "stun":
                report(await stun.ask(request, self._look_up, self._stun_waits))
            else:
                await natpmp.follow(IPv4Address(request.gateway), request.ifindex, report, self._natpmp_waits)
        except Exception:  # a bug in the agent that the network found must not end it
            log.exception("%s failed", request.method)
            report(MappedAddress(None, "internal error"))

    def _log(self, request: DiscoverExternalAddress, answer: MappedAddress) -> None:
        """One line for each change, however often the engine asks."""
        if answer != self._logged:
            self._logged = answer
            who = host_port(*request.server) if request.server else f"gateway {request.gateway}"
            log.info("%s: %s says: %s", request.method, who, answer.ip or f"no external address ({answer.reason})")
