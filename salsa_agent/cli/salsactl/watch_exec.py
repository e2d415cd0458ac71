"""`watch --exec`: a command run for the relay in use."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress

from salsa_agent.cli.salsactl.command import Best, warn
from salsa_agent.text import clean

_GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class Hook:
    """Runs the words as a command, without a shell, the relay in its environment."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    async def __call__(self, best: Best) -> None:
        """One run to its end. What goes wrong is reported, and does not end the watch."""
        relay = {
            "SALSA_HOST": best.host,
            "SALSA_PORT": str(best.port),
            "SALSA_SOURCE": clean(best.source),
            "SALSA_TLS": clean(best.tls),
        }
        try:
            process = await asyncio.create_subprocess_exec(*self._words, stdin=DEVNULL, env=os.environ | relay)
        except OSError as error:
            warn(f"--exec: {self._words[0]}: {error.strerror}")
            return
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        if status:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            warn(f"--exec: {self._words[0]} {how}")


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
