"""`salsactl best`: the relay to use now, for scripts."""

from __future__ import annotations

from argparse import Namespace

from salsa_agent.bus.client import client
from salsa_agent.cli.exit_status import EX_NONE, EX_OK
from salsa_agent.cli.format.text import relay_text
from salsa_agent.cli.salsactl.command import Command, best_of, say, say_json, warn

_TEXT = """\
Print the relay to use now as host:port, an IPv6 address in brackets. Status 1 when there is none.

examples:
  salsactl best
  swaks --server "$(salsactl best)" --to me@example.org
"""


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        properties = await agent.properties()
    best = best_of(properties)
    if given.json:
        say_json({name: properties[name] for name in ("BestRelay", "BestRelayPort", "BestRelaySource")} | best)
    elif best["host"]:
        say(relay_text(best["host"], best["port"]))
    else:
        warn(f"there is no relay ({properties['State']})")
    return EX_OK if best["host"] else EX_NONE


COMMAND = Command("best", "print the relay to use now", _TEXT, _run)
