"""`salsactl status`: the list and the evidence, for a person."""

from __future__ import annotations

import time
from argparse import Namespace

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.format import relays as show_relays
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, say, say_json

_TEXT = """\
Show the relay in use, the list it was chosen from, and what the reverse tree said of each address of this host.
A star marks the relay in use.

examples:
  salsactl status
  salsactl status --json | jq -r '.Relays[] | select(.verdict == "failed").host'
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        properties = await agent.properties()
    if given.json:
        say_json(properties)
        return EX_OK
    to, now = page(), time.time()
    blocks = [
        show_relays.summary(to, properties, now),
        show_relays.relays(to, properties["Relays"], now, properties),
        show_relays.addresses(to, properties["Addresses"]),
    ]
    say("\n\n".join("\n".join(block) for block in blocks if block))
    return EX_OK


COMMAND = Command("status", "show the relay, the list and the evidence", _TEXT, _run)
