"""How large a configuration may be: more than anybody writes, and no more than the agent can hold.

A file that a program wrote may be wrong in any way, and is read at SIGHUP by an agent that has 128 MiB.
"""

from __future__ import annotations

import re

MOST_BYTES = 1 << 18  # of one file
MOST_BYTES_IN_ALL = 1 << 20  # of a file and its drop-ins
MOST_ENTRIES = 1000  # of one list; of all [[site]], and of all [[sender]]
MOST_RELAYS = 4000  # of all lists together; 3 KiB each
MOST_TEXT = 320  # characters of a pattern; a mail address has at most 254
MOST_PARTS = 3  # of a key: those that mean something have two

_NOT_BARE = re.compile(rb"""\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*""", re.DOTALL)
_PART = rb"[A-Za-z0-9_\"-]+"
_DEEP_KEY = re.compile(rb"(?<![A-Za-z0-9_\"-])%b(?:[ \t]*\.[ \t]*%b){%d}" % (_PART, _PART, MOST_PARTS))
_MOST_SHOWN = 100  # characters of a key


def deep_key(text: bytes) -> str:
    """The beginning of a key with more parts than are read, such as `a.b.c.d`; empty: the TOML file has none.

    tomllib takes a time that grows as the square of their number.
    """
    found = _DEEP_KEY.search(_NOT_BARE.sub(_bare, text))
    return found[0].decode("ascii")[:_MOST_SHOWN] if found else ""


def _bare(match: re.Match[bytes]) -> bytes:
    """A comment is nothing, and a string a part of a key: its own name where that is plain, whatever else it is."""
    if match[0].startswith(b"#"):
        return b""
    return b'"%b"' % (match[0][1:-1] if re.fullmatch(rb"[A-Za-z0-9_-]*", match[0][1:-1]) else b"")
