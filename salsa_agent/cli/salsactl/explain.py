"""`salsactl explain`: why this relay and not that one."""

from __future__ import annotations

import time
from argparse import Namespace

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.format import questions as show_questions
from salsa_agent.cli.format import relays as show_relays
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, say, say_json

_TEXT = """\
Show why the relay in use is that one: for each address of this host the names asked in the reverse tree, with server,
outcome, time and TTL (a star marks the level that decided), every relay that was left out and the rule that did it
(salsactl(1) lists the rules), and the list that remained.

examples:
  salsactl explain
  salsactl explain --json | jq '.dropped'
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        found = await agent.explain()
        if given.json:
            say_json(found)
            return EX_OK
        properties = await agent.properties()
    to, now = page(), time.time()
    asked = found.get("questions", [])
    blocks = [
        show_relays.summary(to, properties, now),
        [] if asked else ["No question was asked."],
        *show_questions.questions(to, asked, properties["Addresses"]),
        show_questions.dropped(to, found.get("dropped", [])),
        show_relays.relays(to, properties["Relays"], now, properties),
        show_relays.senders(to, properties["Senders"]),
    ]
    say("\n\n".join("\n".join(block) for block in blocks if block))
    return EX_OK


COMMAND = Command("explain", "show why this relay and not that one", _TEXT, _run)
