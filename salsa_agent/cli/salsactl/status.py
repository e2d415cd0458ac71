"""`salsactl status`: the list and the evidence, for a person."""

from __future__ import annotations

import time
from argparse import Namespace

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_NONE, EX_OK
from salsa_agent.cli.format import relays as show_relays
from salsa_agent.cli.format.relays import verdict_of_best
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, say, say_json

_TEXT = """\
Show the relay in use, the list it was chosen from, and what the reverse tree said of each address of this host.
A star marks the relay in use. Status 1 when there is none, or it has failed.

examples:
  salsactl status
  salsactl status >/dev/null || echo 'mail cannot leave'
  salsactl status --json | jq -r '.Relays[] | select(.verdict == "failed").host'
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        properties = await agent.properties()
    if given.json:
        say_json(properties)
    else:
        to, now = page(), time.time()
        blocks = [
            show_relays.summary(to, properties, now),
            show_relays.relays(to, properties["Relays"], now, properties),
            show_relays.senders(to, properties["Senders"]),
            show_relays.addresses(to, properties["Addresses"]),
        ]
        say("\n\n".join("\n".join(block) for block in blocks if block))
    return EX_NONE if verdict_of_best(properties) in ("", "failed") else EX_OK


COMMAND = Command("status", "show the relay, the list and the evidence", _TEXT, _run)
