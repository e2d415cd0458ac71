"""`salsactl best`: the relay to use now, for scripts."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import aclosing
from typing import Any

from salsa_agent.bus.client import Client, client
from salsa_agent.cli.exit_status import EX_NONE, EX_OK, EX_TEMPFAIL
from salsa_agent.cli.salsactl.command import Command, best_of, say, say_json, sender_argument, sender_entry, warn

_DEFAULT_WAIT = 30.0  # seconds
_MAX_WAIT = 86_400.0
_FIRST_LOOK = 5.0  # seconds that an agent has for its first answer, however short the wait: it may have decided already
_UNDECIDED = ("starting", "resolving")

_TEXT = """\
Print the relay to use now as host:port, an IPv6 address in brackets. Status 1 when there is none.

--wait: right after the network has changed the agent still says what was right before. Wait for its decision, 30
seconds at most if no other number is given. Status 75 if there is none by then.
--sender: the relay for the mail of this envelope sender, as the [[sender]] tables of the configuration say.

examples:
  salsactl best
  salsactl best --wait=10 --sender me@example.net
  swaks --server "$(salsactl best --wait)" --to me@example.org
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", metavar="SECONDS", nargs="?", type=_seconds, const=_DEFAULT_WAIT, help="wait for a decision"
    )
    parser.add_argument("--sender", metavar="ADDRESS", type=sender_argument, help="the relay for this envelope sender")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_WAIT:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {_MAX_WAIT:g}")
    return seconds


async def _run(given: Namespace) -> int:
    async with client(given.bus) as agent:
        properties = await agent.properties() if given.wait is None else await _decided(agent, given.wait, given.sender)
    if properties is None:
        warn("the agent has not decided in time")
        return EX_TEMPFAIL
    best = best_of(properties, given.sender)
    if given.json:
        shown = {"host": best.host, "port": best.port, "source": best.source, "tls": best.tls}
        names = ("BestRelay", "BestRelayPort", "BestRelaySource", "BestRelayTls") if given.sender is None else ()
        say_json({name: properties[name] for name in names} | shown)
    elif best.host:
        say(best.text)
    else:
        warn(f"there is no relay{' for this sender' if given.sender else ''} ({properties['State']})")
    return EX_OK if best.host else EX_NONE


async def _decided(agent: Client, seconds: float, sender: str | None) -> dict[str, Any] | None:
    """The properties once the agent has decided; None: it has not in time. Of a sender also when its list is decided.

    Raises NotRunning when no agent runs at the start.
    """
    last: dict[str, Any] | None = None
    until = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout(max(seconds, _FIRST_LOOK)) as limit, aclosing(agent.follow()) as changes:
            async for last in changes:
                if last is not None and last["State"] not in _UNDECIDED and not _sender_is_pending(last, sender):
                    return last
                limit.reschedule(until)
    except TimeoutError:
        pass
    return last if last is not None and last["State"] not in _UNDECIDED else None


def _sender_is_pending(properties: dict[str, Any], sender: str | None) -> bool:
    """Whether the sender's own relay is not published yet; where it has none in the end, it shows as the same."""
    entry = None if sender is None else sender_entry(properties, sender)
    return entry is not None and not entry["host"]


COMMAND = Command("best", "print the relay to use now", _TEXT, _run, _arguments)
