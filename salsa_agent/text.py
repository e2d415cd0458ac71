"""Text that comes from outside or goes there: made fit for a line of a log, D-Bus, a terminal; hosts with ports."""

from __future__ import annotations

import re

_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,254}", re.ASCII)
_MAX_SANITIZED = 200  # rule D1: a reason has at most 200 characters
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_BRACKETED = re.compile(r"\[([^\[\]]*:[^\[\]]*)\](?::(.*))?", re.DOTALL)


def printable(text: str) -> str:
    r"""`text` on one line, nothing lost: what is not printable is escaped as `\n`, `\x1b`, `\u2028`, ..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clean(value: object) -> str:
    """Text from outside for D-Bus or a terminal: a question mark for each character that is not printable.

    NUL and lone surrogates, which no D-Bus string can hold, are among those.
    """
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def sanitize(text: str) -> str:
    """Text from the network as printable ASCII, at most 200 characters (rule D1)."""
    safe = "".join(c if " " <= c <= "~" else "?" for c in text[: _MAX_SANITIZED + 1])
    return safe if len(safe) <= _MAX_SANITIZED else safe[: _MAX_SANITIZED - 3] + "..."


def is_host(text: str) -> bool:
    """Whether this can be a host name or an address literal: nothing that a shell or a mail program reads as more."""
    return _HOST.fullmatch(text) is not None


def host_port(host: str, port: int) -> str:
    """`host:port`, a literal IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int | None]:
    """Host and port of `host`, `host:port`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:port` (None: no port).

    What the host is, is not looked at. Raises ValueError for a port that is none.
    """
    port: str | None
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed.groups()
    elif text.count(":") == 1:
        host, port = text.split(":")
    else:
        host, port = text, None
    if port is None:
        return host, None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("the port must be a number from 1 to 65535")
    return host, int(port)
