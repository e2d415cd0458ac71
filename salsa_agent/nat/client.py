"""Learns from a NAT which address the outside sees (rule G1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from salsa_agent.config.values import STUN_PORT, relay
from salsa_agent.core.events import LearnOutside
from salsa_agent.core.model import IPAddress
from salsa_agent.nat import natpmp, stun
from salsa_agent.nat.answer import Statement
from salsa_agent.resolver.resolver import Resolver

log = logging.getLogger("salsa-agent")


class Nat:
    """Does what the engine wishes to learn, one wish at a time, and tells `on_learned` what came of it.

    None: there was no answer, or one without an address. A changed answer is told again. Whether an address is of use
    is for the engine to say. `natpmp_waits`, `stun_waits`: seconds after each request.
    """

    def __init__(
        self,
        on_learned: Callable[[LearnOutside, IPAddress | None], None],
        resolver: Resolver,
        *,
        natpmp_waits: Sequence[float] = natpmp.WAITS,
        stun_waits: Sequence[float] = stun.WAITS,
    ) -> None:
        self._on_learned = on_learned
        self._resolver = resolver
        self._natpmp_waits = natpmp_waits
        self._stun_waits = stun_waits
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._logged = Statement(None)

    def learn(self, wish: LearnOutside) -> None:
        """Start on this wish; an earlier one is forgotten."""
        self.forget()
        self._task = asyncio.create_task(self._follow(wish), name=f"nat {wish.method}")

    def forget(self) -> None:
        """Nothing more is told of the last wish."""
        if self._task is not None:
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Forget, and wait until no task and no socket is left."""
        self.forget()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _follow(self, wish: LearnOutside) -> None:
        last: Statement | None = None

        def tell(said: Statement) -> None:
            nonlocal last
            self._log(wish, said)
            if last is None or last.ip != said.ip:
                self._on_learned(wish, said.ip)
            last = said

        try:
            if wish.method == "stun":
                host, port = relay(wish.server)
                tell(await stun.ask(wish, host, port or STUN_PORT, self._resolver, self._stun_waits))
            else:
                await natpmp.follow(IPv4Address(wish.gateway), wish.ifindex, tell, self._natpmp_waits)
        except Exception:  # a defect of ours that the network found must not end the agent
            log.exception("%s failed", wish.method)
            tell(Statement(None, "internal error"))

    def _log(self, wish: LearnOutside, said: Statement) -> None:
        """One line for each change, however often the engine wishes."""
        if said != self._logged:
            self._logged = said
            who = wish.server or f"gateway {wish.gateway}"
            log.info("%s: %s says: %s", wish.method, who, said.ip or f"no outside address ({said.reason})")
