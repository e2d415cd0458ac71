"""What a command of `salsactl` is, and what several of them need."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from salsa_agent.cli.exit_status import EX_NONE
from salsa_agent.core.senders import MAX_SENDER, entry_for, may_be_sender
from salsa_agent.text import clean, host_port, is_host


class CommandError(Exception):
    """The command cannot do what it was asked; the message is one sentence, `status` the exit status."""

    def __init__(self, message: str, status: int = EX_NONE) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its module defines it, the table in `main` lists it.

    `summary` is its line in the list of commands, `text` its help with examples. `run` is given the parsed arguments,
    `bus` (str) and `json` (bool) among them, and returns the exit status. It may raise CommandError and CallError.
    `asks_agent`: it talks to the agent, so that it takes `--bus`.
    """

    name: str
    summary: str
    text: str
    run: Callable[[Namespace], Awaitable[int]]
    arguments: Callable[[ArgumentParser], None] = lambda _: None
    asks_agent: bool = True


def say(text: str) -> None:
    """Print for who reads standard output, now: it may be a pipe."""
    print(text, flush=True)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON in ASCII; JSON's own escapes leave DEL as it is."""
    say(json.dumps(value).replace("\x7f", "\\u007f"))


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"salsactl: {clean(text)}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Best:
    """The relay to use, as commands print it and hand it on. No host: there is none. `tls` as in rule D10."""

    host: str = ""
    port: int = 0
    source: str = "none"
    tls: str = ""

    @property
    def relay(self) -> tuple[str, int]:
        """What makes a change (rule H1)."""
        return self.host, self.port

    @property
    def text(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return host_port(self.host, self.port)


def best_of(properties: Mapping[str, Any], sender: str | None = None) -> Best:
    """The relay to use, or that of an envelope sender (rule C11). Raises CommandError for a host that is none."""
    found = {
        "host": properties["BestRelay"],
        "port": properties["BestRelayPort"],
        "source": properties["BestRelaySource"],
        "tls": properties["BestRelayTls"],
    }
    own = None if sender is None else sender_entry(properties, sender)
    if own is not None:
        found = {key: own[key] for key in found}
    if found["host"] and not is_host(found["host"]):
        raise CommandError(f"the agent names a host that is none: {found['host']}")
    if found["host"] and not found["port"]:
        raise CommandError(f"the agent names a relay without a port: {found['host']}")
    return Best(**found)


def sender_entry(properties: Mapping[str, Any], sender: str) -> dict[str, Any] | None:
    """The entry of `Senders` that holds for this envelope sender; None: it has the list of all."""
    found = entry_for(sender, [_Patterns(tuple(map(str, one["address"])), one) for one in properties["Senders"]])
    return found.entry if found else None


class _Patterns(NamedTuple):
    address: tuple[str, ...]
    entry: dict[str, Any]


def sender_argument(text: str) -> str:
    """The value of `--sender`, as the method RelayFor takes it. Raises ArgumentTypeError."""
    if not may_be_sender(text):
        raise ArgumentTypeError(
            f"{text!r} is no envelope sender: at most {MAX_SENDER} characters, without control characters"
        )
    return text
