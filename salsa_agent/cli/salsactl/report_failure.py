"""`salsactl report-failure`: the agent's verdict is wrong, this relay does not take mail."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from salsa_agent.bus.client import CallError, Client, NotRunning, client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.format.text import relay_text
from salsa_agent.cli.salsactl.command import Command, CommandError, say_json
from salsa_agent.config.values import relay

_DEFAULT_PORT = 25

_TEXT = """\
Report that a relay did not take mail: the agent uses the next one at once and verifies this one again later.
Port 25 if none is given. Of one user at most 6 reports an hour are accepted, of one relay at most 6; of root all.

examples:
  salsactl report-failure mx1.example.net
  salsactl report-failure [2001:db8::25]:587 'refuses mail from my domain'
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("relay", metavar="HOST[:PORT]", type=_relay, help="a relay of the list")
    parser.add_argument("reason", metavar="REASON", nargs="?", default="", type=_text, help="what went wrong")


def _relay(text: str) -> tuple[str, int]:
    """A relay in a form of `static.relays`, with its port."""
    try:
        host, port = relay(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return host, port or _DEFAULT_PORT


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
        try:
            await agent.report_failure(host, port, given.reason)
        except NotRunning:
            raise
        except CallError as error:
            raise CommandError(f"{relay_text(host, port)}: {error}{await _list(agent, (host, port))}") from None
    if given.json:
        say_json({})
    return EX_OK


async def _list(agent: Client, reported: tuple[str, int]) -> str:
    """The list, where the relay is not in it: another port may have been meant."""
    listed = [(one["host"], one["port"]) for one in (await agent.properties())["Relays"]]
    if reported in listed:
        return ""
    return f" The list: {', '.join(relay_text(*one) for one in listed) or 'empty'}."


COMMAND = Command("report-failure", "report that a relay did not take mail", _TEXT, _run, _arguments)
