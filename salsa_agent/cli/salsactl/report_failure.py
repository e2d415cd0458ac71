"""`salsactl report-failure`: the agent's verdict is wrong, this relay does not do."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from ipaddress import IPv6Address

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.salsactl.command import Command, say_json

_DEFAULT_PORT = 25

_TEXT = """\
Report that a relay did not take mail: the agent uses the next one at once and verifies this one again later.
Port 25 if none is given. Not more than 6 reports an hour are believed of one user, of root all.

examples:
  salsactl report-failure mx1.example.net
  salsactl report-failure [2001:db8::25]:587 'refuses mail from my domain'
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("relay", metavar="HOST[:PORT]", type=relay, help="a relay of the list")
    parser.add_argument("reason", metavar="REASON", nargs="?", default="", type=_text, help="what went wrong")


def relay(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[literal]`, `[literal]:port`, or an IPv6 literal without brackets."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_v6(host) or (rest and not rest.startswith(":")):
            raise ArgumentTypeError(f"{text!r} is no relay")
        port = rest[1:] if rest else str(_DEFAULT_PORT)
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text and not _is_v6(text):
        raise ArgumentTypeError(f"{text!r} is no relay")
    else:
        port = str(_DEFAULT_PORT)
    if not host or not _text(host):
        raise ArgumentTypeError(f"{text!r} names no host")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ArgumentTypeError(f"{text!r}: the port is a number from 1 to 65535")
    return host, int(port)


def _is_v6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _text(text: str) -> str:
    """What a D-Bus string can hold: no bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError(f"{text!r} is no UTF-8 text") from None
    return text


async def _run(given: Namespace) -> int:
    host, port = given.relay
    async with client(given.bus) as agent:
        await agent.report_failure(host, port, given.reason)
    if given.json:
        say_json({})
    return EX_OK


COMMAND = Command("report-failure", "report that a relay did not take mail", _TEXT, _run, _arguments)
