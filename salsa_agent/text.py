"""Text from outside, made fit for one line of a log or of an error message."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` on one line; controls, line and bidi marks, lone surrogates and their like become `\n`, `\x1b`, ..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def host_port(host: str, port: int) -> str:
    """`host:port`, a literal IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
