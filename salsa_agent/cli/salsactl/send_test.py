"""`salsactl send-test`: one letter by way of the relay in use, as proof."""

from __future__ import annotations

import getpass
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_NONE, EX_OK
from salsa_agent.cli.salsactl.command import Best, Command, CommandError, best_of, say, say_json, warn
from salsa_agent.text import clean

if TYPE_CHECKING:
    from salsa_agent.oneshot.send_test import Outcome

_TEXT = """\
Send one test letter by way of the relay in use, as a mail program would: with TLS from the first octet or STARTTLS
where the relay has it, without a password. Shows each of its answers, and the id under which it queued the letter. Asks
before it sends, unless --yes is given. Status 1 if the relay does not take it.

examples:
  salsactl send-test --to postmaster@example.net
  salsactl send-test --from me@example.net --to me@example.net --yes
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--to", metavar="ADDRESS", type=_address, required=True, help="who gets it")
    parser.add_argument(
        "--from", metavar="ADDRESS", type=_address, dest="sender", help="the sender, which may have a relay of its own"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before sending")


def _address(text: str) -> str:
    from salsa_agent.oneshot.send_test import address_error

    error = address_error(text)
    if error:
        raise ArgumentTypeError(f"{text!r} is no address to send to or from: {error}")
    return text


async def _run(given: Namespace) -> int:
    from salsa_agent.oneshot.send_test import Transaction, send

    sender = given.sender or _own_address()
    async with client(given.bus) as agent:
        best = best_of(await agent.properties(), sender)
    if not best.host:
        raise CommandError("there is no relay to send by; see salsactl status")
    if not given.yes and not _agreed(f"Send a test letter from {sender} to {given.to} by way of {best.text}?"):
        warn("nothing was sent")
        return EX_NONE
    outcome = send(Transaction(best.host, best.port, best.tls, sender, given.to))
    if given.json:
        say_json(_plain(outcome, best, sender, given.to))
    else:
        _show(outcome, best)
    return EX_OK if outcome.accepted else EX_NONE


def _own_address() -> str:
    """As mail programs make one: the user at this host."""
    from salsa_agent.oneshot.send_test import address_error

    try:
        address = f"{getpass.getuser()}@{socket.getfqdn()}"
    except (OSError, KeyError):
        address = ""
    if address_error(address):
        raise CommandError("this host has no name that a sender's address can have: give one with --from")
    return address


def _agreed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin is not None and sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(outcome: Outcome, best: Best) -> None:
    for reply in outcome.replies:
        say(f"{reply.command:9} {reply.code} {clean(reply.text)}")
    for note in outcome.notes:
        warn(f"{best.text}: {note}")
    if outcome.accepted:
        named = f", queue id {outcome.queue_id}" if outcome.queue_id else ""
        say(f"{best.text} has taken the letter{named}.")
    else:
        warn(f"{best.text} has not taken the letter: {outcome.error}")


def _plain(outcome: Outcome, best: Best, sender: str, to: str) -> dict[str, object]:
    return {
        "host": best.host,
        "port": best.port,
        "source": best.source,
        "tls": best.tls,
        "from": sender,
        "to": to,
        "accepted": outcome.accepted,
        "queue_id": outcome.queue_id,
        "error": outcome.error,
        "notes": outcome.notes,
        "replies": [reply._asdict() for reply in outcome.replies],
    }


COMMAND = Command("send-test", "send a test letter by way of the relay in use", _TEXT, _run, _arguments)
