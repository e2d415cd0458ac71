"""Help texts within the width of the terminal, 80 columns where there is none."""

from __future__ import annotations

import textwrap
from argparse import HelpFormatter
from collections.abc import Iterator


class Help(HelpFormatter):
    """Paragraphs are filled; a line that begins with `--` begins one. Indented lines are commands, and stay such."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in filled(text, width - len(indent)))


def filled(text: str, width: int) -> Iterator[str]:
    """The lines of a text of that form, each of at most `width` columns where its words let that be."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if paragraph and (not line or line.startswith((" ", "--"))):
            yield from textwrap.wrap(" ".join(paragraph), width, break_long_words=False, break_on_hyphens=False)
            paragraph = []
        if line.startswith(" "):
            yield from _command(line, width)
        elif line:
            paragraph.append(line)
        else:
            yield ""


def _command(line: str, width: int) -> Iterator[str]:
    """A command over several lines, as a shell reads it: the line ends with a backslash, outside of quotes."""
    while len(line) > width:
        places = [place for place in _spaces(line) if place <= width - 2 and line[:place].strip()]
        if not places:
            break
        yield f"{line[: places[-1]]} \\"
        line = f"      {line[places[-1] + 1 :]}"
    yield line


def _spaces(line: str) -> Iterator[int]:
    """The places of spaces between the words of a command."""
    quote = ""
    for place, letter in enumerate(line):
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        elif letter == " " and not quote:
            yield place
