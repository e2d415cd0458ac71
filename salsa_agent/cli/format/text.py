"""Text for a person at a terminal: untrusted words made harmless, colour, tables, times."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from salsa_agent.text import clean, host_port

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# SGR parameters (ECMA-48 8.3.117); the eight colours that every terminal lets its user choose
_SGR = {
    "bold": "1", "dim": "2",
    "ok": "32", "found": "32", "ready": "32",
    "failed": "31", "refused": "31", "degraded": "31",
    "unverified": "33", "pending": "33", "resolving": "33", "starting": "33", "offline": "33",
    "none": "2",
}  # fmt: skip


def relay_text(host: str, port: int) -> str:
    """`host:port`, a literal IPv6 address in brackets; fit for a terminal."""
    return clean(host_port(host, port))


@dataclass(frozen=True, slots=True)
class Page:
    """How to write for this reader: `width` in columns, colour or not."""

    width: int = 80
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Page:
        """For who reads `stream`: colour on a terminal only, where NO_COLOR (no-color.org) or TERM do not forbid it."""
        if not stream.isatty():
            return cls()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(max(40, shutil.get_terminal_size((80, 24)).columns), not plain)

    def paint(self, text: str, style: str) -> str:
        """`text` in a style, or in the colour of a word such as a verdict."""
        sgr = _SGR.get(style.strip())
        return f"\x1b[{sgr}m{text}\x1b[0m" if self.colour and sgr else text

    def bold(self, text: str) -> str:
        """`text` for the eye to find."""
        return self.paint(text, "bold")

    def wrap(self, text: str, indent: int) -> list[str]:
        """`text` broken between words to fit, all lines indented. A word longer than a line stays whole."""
        margin = " " * indent
        return textwrap.wrap(
            text, self.width, initial_indent=margin, subsequent_indent=margin,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def page() -> Page:
    """For who reads standard output."""
    return Page.of(sys.stdout)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: a mark before it, the cells, lines below it. Verdicts and outcomes have a colour."""

    cells: Sequence[str]
    mark: str = " "
    below: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A line across a table."""

    text: str


def table(page: Page, head: Sequence[str], lines: Iterable[Row | Heading], *, last_below: bool = False) -> list[str]:
    """Rows in columns under `head`. Columns that are empty are left out.

    What would not fit the page goes to a line of its own: the first cell to the line above, or with `last_below`
    the last cell of all rows to the line below.
    """
    lines = list(lines)
    rows = [[clean(cell) for cell in line.cells] for line in lines if isinstance(line, Row)]
    used = [any(row[column] for row in rows) for column in range(len(head))]
    widths = [max([len(head[c]), *(len(row[c]) for row in rows)]) if used[c] else 0 for c in range(len(head))]
    shown = [c for c in range(len(head)) if used[c]]
    drop = last_below and 2 + sum(widths[c] + 2 for c in shown) - 2 > page.width
    if drop:
        shown.remove(len(head) - 1)
    elif not last_below and shown[:1] == [0]:
        room = page.width - 2 - sum(widths[c] + 2 for c in shown[1:])
        widths[0] = max([len(head[0]), *(len(row[0]) for row in rows if len(row[0]) <= room)])
    out = [page.bold("  " + "  ".join(head[c].ljust(widths[c]) for c in shown).rstrip())] if rows else []
    for line in lines:
        if isinstance(line, Heading):
            out += [page.paint(text, "dim") for text in page.wrap(clean(line.text), 0)]
            continue
        row = [clean(cell) for cell in line.cells]
        if not drop and shown and len(row[shown[0]]) > widths[shown[0]]:
            out.append(f"{line.mark} {row[shown[0]]}")
            row[shown[0]] = ""
            first = "  "
        else:
            first = f"{line.mark} "
        cells = [row[c].ljust(widths[c]) for c in shown]
        if cells:
            cells[-1] = cells[-1].rstrip()
        out.append((first + "  ".join(page.paint(cell, cell) for cell in cells)).rstrip())
        if drop:
            out += page.wrap(row[-1], 4)
        for text in line.below:
            out += page.wrap(clean(text), 4)
    return out


def span(seconds: float) -> str:
    """A length of time, in the one or two units that matter."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def took(microseconds: int) -> str:
    """How long an answer took."""
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.0f} ms" if microseconds >= 1000 else "<1 ms"
    return f"{microseconds / 1_000_000:.1f} s"


def ago(microseconds: int, now: float) -> str:
    """A past moment (µs, realtime): when, and how long ago."""
    when = microseconds / 1_000_000
    return f"{_stamp(when, '%Y-%m-%d %H:%M:%S')} ({span(now - when)} ago)"


def ahead(microseconds: int, now: float) -> str:
    """A moment to come (µs, realtime): how far off, and when."""
    when = microseconds / 1_000_000
    if when <= now:
        return "now"
    return f"in {span(when - now)} ({_stamp(when, '%H:%M' if when - now < _DAY else '%Y-%m-%d')})"


def _stamp(when: float, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(when))
    except (OverflowError, ValueError, OSError):  # no year of ours
        return f"@{when:.0f}"
