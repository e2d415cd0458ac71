"""What the reader sees, and at what pace."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import Callable

from salsa_agent.cli.format.text import Page

INDENT = 10
STYLES = {"kernel": "unverified", "dns": "found", "relay": "dim", "signal": "bold", "mail": "found"}


class Narrator:
    """Prints to standard output."""

    def __init__(self, page: Page, pace: float, alone: Callable[[], None]) -> None:
        """`pace`: 1 to be read along, 0 for no time to read. `alone` is called when nobody reads any more."""
        self._page = page
        self._pace = pace
        self._alone = alone

    async def say(self, text: str) -> None:
        """A paragraph, and the time to read it."""
        lines = textwrap.wrap(text, min(self._page.width, 80) - 1)
        self._print("\n".join(["", *map(self._page.bold, lines), ""]))
        await self.pause(len(text) / 30)

    def event(self, word: str, text: str) -> None:
        """Something that happened just now."""
        margin = " " * INDENT
        lines = textwrap.wrap(
            text, min(self._page.width, 80) - 1, initial_indent=margin, subsequent_indent=margin + "  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        lines = [line.replace("\xa0", " ") for line in lines]
        head = f"{word:>{INDENT - 2}}"
        lines[0] = self._page.paint(head, STYLES.get(word, word)) + lines[0][len(head) :]
        self._print("\n".join(lines))

    def show(self, text: str) -> None:
        """What a command printed."""
        self._print(textwrap.indent(text, "  ").rstrip("\n"))

    async def pause(self, seconds: float) -> None:
        """Time to look; also for what has happened, but was not told yet."""
        await asyncio.sleep(max(0.05, seconds * self._pace))

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the next words go there
            self._alone()
