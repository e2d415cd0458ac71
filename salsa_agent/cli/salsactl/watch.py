"""`salsactl watch`: the relay now, and each change; with a command or a notification for it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import stat
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import aclosing

from salsa_agent.bus.client import NotRunning, client
from salsa_agent.cli.exit_status import EX_USAGE
from salsa_agent.cli.format.events import Properties, event_line, events
from salsa_agent.cli.salsactl.command import (
    Best,
    Command,
    CommandError,
    best_of,
    say,
    say_json,
    sender_argument,
    warn,
)
from salsa_agent.cli.salsactl.watch_exec import Hook
from salsa_agent.cli.salsactl.watch_latest import Latest
from salsa_agent.cli.salsactl.watch_notify import Notifier

_SIGNALLED = 128  # what a shell adds to the signal's number

_TEXT = """\
Print the relay in use as host:port ("none" when there is none), then a line for each change, until interrupted. Goes on
when the agent is restarted.

--sender: the relay for the mail of this envelope sender, as the [[sender]] tables of the configuration say.
--exec runs CMD for each change, and for the relay at the start, with SALSA_HOST, SALSA_PORT, SALSA_SOURCE and SALSA_TLS
in its environment (empty, 0, none and empty when there is no relay). CMD is split into words as a shell does, and run
without one. Runs do not overlap: while one lasts, of the changes that come only the last one is kept.
--events prints a line for each change of state, relay, list and verdict instead (with --json an object for each).
--notify shows a notification on the desktop when the domain of a relay is used for the first time.

examples:
  salsactl watch
  salsactl watch --exec '/usr/local/bin/relay-changed --verbose'
  salsactl watch --exec 'sh -c "echo $SALSA_HOST >/tmp/relay"'
  salsactl watch --events
  salsactl watch --json | jq --unbuffered -r .source
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--exec", metavar="CMD", type=_words, help="run CMD for each change")
    parser.add_argument("--sender", metavar="ADDRESS", type=sender_argument, help="the relay for this envelope sender")
    parser.add_argument("--events", action="store_true", help="a line for each change of state, list and verdict")
    parser.add_argument("--notify", action="store_true", help="notify when a relay's domain is used for the first time")


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {str(error).lower()}") from None
    if not words:
        raise ArgumentTypeError("no command")
    return words


async def _run(given: Namespace) -> int:
    if given.exec and shutil.which(given.exec[0]) is None:
        raise CommandError(f"--exec: no such command: {given.exec[0]}", EX_USAGE)
    workers = [Latest(Hook(given.exec))] if given.exec else []
    if given.notify:
        workers.append(Latest(Notifier()))
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        loop.remove_reader(sys.stdout)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end, signal.SIGTERM)
    if _is_pipe():  # a pipe whose reader has gone shows as readable: end now, not at the next change
        loop.add_reader(sys.stdout, end, signal.SIGPIPE)
    try:
        await _watch(given, workers)
    except asyncio.CancelledError:
        if not ended_by:  # SIGINT is the caller's
            raise
        return _SIGNALLED + ended_by[0]
    finally:
        for worker in workers:
            await worker.close()
    raise AssertionError("following has no end of its own")


async def _watch(given: Namespace, workers: list[Latest]) -> None:
    """Follow the agent until cancelled. Raises NotRunning: none runs at the start, or the bus is gone."""
    last: Best | None = None
    seen: Properties = {}
    async with client(given.bus) as agent, aclosing(agent.follow()) as changes:
        try:
            async for properties in changes:
                if properties is None:
                    warn("the agent is gone; waiting for it to come back")
                    continue
                best = best_of(properties, given.sender)
                if given.events:
                    for event in events(seen, properties):
                        say_json(event) if given.json else say(event_line(event))
                    seen = properties
                if properties["State"] == "starting" or (last and last.relay == best.relay):
                    continue
                last = best
                if not given.events:
                    _print(best, as_json=given.json)
                for worker in workers:
                    worker.give(best)
        except NotRunning:
            for worker in workers:  # the last line gets its run
                await worker.idle()
            raise


def _print(best: Best, *, as_json: bool) -> None:
    if as_json:
        say_json({"host": best.host, "port": best.port, "source": best.source})
    else:
        say(best.text if best.host else "none")


def _is_pipe() -> bool:
    return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)


COMMAND = Command("watch", "print the relay, and each change", _TEXT, _run, _arguments)
