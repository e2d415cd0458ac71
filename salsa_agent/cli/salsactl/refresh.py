"""`salsactl refresh`: ask and verify everything again."""

from __future__ import annotations

from argparse import Namespace

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.salsactl.command import Command, say_json

_TEXT = """\
Have the agent forget cached answers and verdicts, and ask and verify again. Returns when it has decided, or after 20
seconds. For others than root, verdicts younger than 30 seconds stand.

examples:
  salsactl refresh && salsactl best
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        await agent.refresh()
    if given.json:
        say_json({})
    return EX_OK


COMMAND = Command("refresh", "ask and verify everything again", _TEXT, _run)
