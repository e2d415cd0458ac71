"""`salsactl doctor`: what is wrong on the way to the relay, with its cure; works with and without an agent."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from salsa_agent.cli.exit_status import EX_CONFIG, EX_NONE, EX_OK
from salsa_agent.cli.format import audit as show
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json, sender_argument

_TEXT = """\
Look at the whole way from the addresses of this host to the relay - the agent, DNS servers, the reverse tree, relays,
ports, mail programs, the configuration, the clock - and say each thing that is wrong with its cure, the worst first.
Speaks to relays, sends nothing; needs no agent, and says so if there is none. Status 1 if there is a fault; warnings
and notes do not count.

examples:
  salsactl doctor
  salsactl doctor --sender me@example.net
  salsactl doctor --json | jq -r '.findings[] | select(.severity == "fault") | .problem'
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--sender", metavar="ADDRESS", type=sender_argument, help="the mail of this envelope sender")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration (default: /etc/salsa-agent.toml, if it is there)"
    )


async def _run(given: Namespace) -> int:
    # imported late: most commands need none of the libraries
    from salsa_agent.config import file as config
    from salsa_agent.oneshot.doctor.examine import as_plain, examine, findings

    try:
        settings = config.load(given.config)
    except config.ConfigError as error:
        raise CommandError(str(error), EX_CONFIG) from None
    found = as_plain(findings(await examine(settings, given.bus, given.sender or "")))
    if given.json:
        say_json({"findings": found})
    else:
        blocks = show.findings(page(), [one | {"change": one["cure"]} for one in found])
        say("\n\n".join("\n".join(block) for block in blocks))
    return EX_NONE if any(one["severity"] == "fault" for one in found) else EX_OK


COMMAND = Command("doctor", "say what is wrong on the way to the relay, and its cure", _TEXT, _run, _arguments)
