"""What a command of `salsactl` is, and what several of them need."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from salsa_agent.cli.exit_status import EX_NONE
from salsa_agent.text import clean


class CommandError(Exception):
    """The command cannot do what it was asked; the message is one sentence, `status` the exit status."""

    def __init__(self, message: str, status: int = EX_NONE) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its module defines it, the table in `ctl` lists it.

    `summary` is its line in the list of commands, `text` its help with examples. `run` is given the parsed arguments,
    `bus` (str) and `json` (bool) among them, and returns the exit status. It may raise CommandError and CallError.
    """

    name: str
    summary: str
    text: str
    run: Callable[[Namespace], Awaitable[int]]
    arguments: Callable[[ArgumentParser], None] = lambda _: None


def say(text: str) -> None:
    """Print for who reads standard output, now: it may be a pipe."""
    print(text, flush=True)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON in ASCII; JSON's own escapes leave DEL as it is."""
    say(json.dumps(value).replace("\x7f", "\\u007f"))


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"salsactl: {clean(text)}", file=sys.stderr, flush=True)


def best_of(properties: dict[str, Any]) -> dict[str, Any]:
    """The best relay as `best` and `watch` print it: `host`, `port` and `source`."""
    return {
        "host": properties["BestRelay"],
        "port": properties["BestRelayPort"],
        "source": properties["BestRelaySource"],
    }
