"""`salsactl find`: the relay to use now, found once in this process; needs no agent."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from salsa_agent.cli.exit_status import EX_CONFIG, EX_NONE, EX_OK, EX_TEMPFAIL
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json, sender_argument, warn
from salsa_agent.text import host_port, is_host

if TYPE_CHECKING:
    from salsa_agent.core.model import Publication
    from salsa_agent.core.settings import Settings

FORMATS = ("text", "json", "env", "postfix", "msmtp", "nullmailer")

_DEFAULT_TIMEOUT = 30.0  # seconds
_MAX_TIMEOUT = 86_400.0

_TEXT = """\
Find the relay to use now in this process, once, by the same rules as the agent: ask the reverse tree, speak to the
relays, print the best one. Needs no agent and no D-Bus, and leaves nothing behind: for containers, cron, installers.

Status 0 with a relay; 1 without one, or where all failed and the static relay is printed as the last resort; 75 and
nothing printed if it is not decided in time.

--format: text (host:port), json and env (as the agent's relay.json and relay.env), postfix (a line of main.cf), msmtp
(lines of an account), nullmailer (a line of remotes).

examples:
  salsactl find
  salsactl find --sender me@example.net --format msmtp
  postconf -e "$(salsactl find --format postfix --timeout 10)"
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--sender", metavar="ADDRESS", type=sender_argument, help="the relay for this envelope sender")
    parser.add_argument("--no-verify", action="store_true", help="do not speak to the relays")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=_DEFAULT_TIMEOUT,
        help=f"from the start of this process (default: {_DEFAULT_TIMEOUT:g})",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="how the relay is printed (default: text)")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration (default: /etc/salsa-agent.toml, if it is there)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_TIMEOUT:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {_MAX_TIMEOUT:g}")
    return seconds


async def _run(given: Namespace) -> int:
    # imported late: most commands need none of the libraries
    from dataclasses import replace

    from salsa_agent.config import file as config
    from salsa_agent.oneshot.find import find
    from salsa_agent.system.clock import since_process_start

    try:
        settings = config.load(given.config)
    except config.ConfigError as error:
        raise CommandError(str(error), EX_CONFIG) from None
    if given.no_verify:
        settings = replace(settings, verify=settings.verify._replace(enabled=False))
    form = "json" if given.json else given.format
    left = max(0.0, given.timeout - since_process_start())
    said = await find(settings, left, sender=given.sender or "", everything=form == "json" and given.sender is None)
    if said is None:
        warn(f"not decided within {given.timeout:g} seconds")
        return EX_TEMPFAIL
    if not said.best.host:
        warn(f"there is no relay{' for this sender' if given.sender else ''} ({said.state})")
        return EX_NONE
    if not is_host(said.best.host):
        raise CommandError(f"the best relay's host is none: {said.best.host}")
    _print(form, said, settings)
    return _status(said)


def _status(said: Publication) -> int:
    from salsa_agent.core.delivery import entry_of
    from salsa_agent.core.model import Verdict

    return EX_NONE if entry_of(said.best, said.relays).verdict is Verdict.FAILED else EX_OK


def _print(form: str, said: Publication, settings: Settings) -> None:
    from salsa_agent.cli.format import mail_programs
    from salsa_agent.outputs.relay_files import as_json, contents

    verified = settings.verify.enabled
    match form:
        case "json":
            say_json(as_json(said))
        case "env":
            say(contents(said, verified=verified)["relay.env"].rstrip("\n"))
        case "postfix":
            say(mail_programs.postfix(said, verified=verified).rstrip("\n"))
        case "msmtp":
            say(mail_programs.msmtp(said).rstrip("\n"))
        case "nullmailer":
            say(mail_programs.nullmailer(said).rstrip("\n"))
        case _:
            say(host_port(said.best.host, said.best.port))


COMMAND = Command("find", "find the relay to use now, without an agent", _TEXT, _run, _arguments, asks_agent=False)
