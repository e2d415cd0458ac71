"""Whether a relay answers as one should: its addresses raced, and the verdict (rules D1, D7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from salsa_agent.core.events import Check
from salsa_agent.core.model import SUBMISSIONS_PORT, CheckResult, IPAddress, RelayKey, demanded_tls
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.smtp.conversation import Demands
from salsa_agent.smtp.relay_check import RelayCheck

if TYPE_CHECKING:
    import ssl


class Verifier:
    """Speaks to relays. A conversation keeps the settings that it began with."""

    def __init__(self, settings: Verify) -> None:
        self._settings = settings
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def configure(self, settings: Settings) -> None:
        """Take other settings over; the CA store is read again."""
        self._settings = settings.verify
        self._contexts = {}

    @asynccontextmanager
    async def conversations(self, check: Check) -> AsyncIterator[RelayCheck]:
        """Speak to a relay: the block begins when the verdict is known (`result`), and leaving it waits for QUITs.

        The verdict comes within `verify.timeout`, the rest is over then, too. Raises nothing but CancelledError, which
        ends all conversations at once; nothing of them is left after the block.
        """
        settings = self._settings
        demands = Demands(check.key.host, check.implicit_tls, check.tls, settings.recipient, self._context)
        speaking = RelayCheck(check, demands, settings.timeout)
        try:
            await speaking.run()
            yield speaking
            await speaking.finish()
        finally:
            await speaking.abort()

    async def check(self, key: RelayKey, addresses: tuple[IPAddress, ...], srv: str = "") -> CheckResult:
        """The verdict on one relay under the settings alone, once all conversations are over; for single runs.

        `srv`: the service of the network's SRV records that names it (B8); empty: none.
        """
        implicit = key.port == SUBMISSIONS_PORT or srv == "submissions"
        check = Check(0, key, addresses, implicit_tls=implicit, tls=demanded_tls(self._settings.tls, srv))
        async with self.conversations(check) as speaking:
            return speaking.result

    def _context(self, checked: bool) -> ssl.SSLContext:
        from salsa_agent.smtp import tls  # only where TLS is used: it is not free

        if checked not in self._contexts:
            self._contexts[checked] = tls.checked() if checked else tls.unchecked()
        return self._contexts[checked]
