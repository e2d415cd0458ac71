"""`salsactl metrics`: the agent's state and counters, as OpenMetrics text or for node_exporter's textfile collector."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from salsa_agent.bus.client import NotRunning, client
from salsa_agent.cli.exit_status import EX_OK, EX_USAGE
from salsa_agent.cli.format import metrics
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json

_MODE = 0o644  # node_exporter has a user of its own

_TEXT = """\
Print the agent's state and counters as OpenMetrics text.

--textfile writes them to FILE in the text format of Prometheus instead, for the textfile collector of node_exporter,
which does not take OpenMetrics. The file is replaced as a whole. It has salsa_up, too, which is 0 (and alone) when no
agent runs; the status is 69 then.

examples:
  salsactl metrics
  salsactl metrics --textfile /var/lib/prometheus/node-exporter/salsa.prom
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--textfile", metavar="FILE", type=Path, help="write FILE, for node_exporter's textfile collector"
    )


async def _run(given: Namespace) -> int:
    if given.textfile and given.json:
        raise CommandError("--textfile has a form of its own; give it without --json", EX_USAGE)
    try:
        async with client(given.bus) as agent:
            properties = await agent.properties()
    except NotRunning:
        if given.textfile:
            _replace(given.textfile, metrics.prometheus(metrics.down()))
        raise
    if given.textfile:
        _replace(given.textfile, metrics.prometheus(metrics.up(properties)))
    elif given.json:
        say_json(
            {
                "State": properties["State"],
                "relays": metrics.verdicts(properties),
                "Statistics": properties.get("Statistics", {}),
            }
        )
    else:
        say(metrics.openmetrics(metrics.families(properties)).rstrip("\n"))
    return EX_OK


def _replace(path: Path, text: str) -> None:
    """Put the file in place by rename: who reads it sees the old one or this one. Raises CommandError."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")  # no *.prom, so that the collector never reads it
    try:
        new.unlink(missing_ok=True)  # left by a run that was killed: in a container the next has the same number
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW), "w") as file:
            os.fchmod(file.fileno(), _MODE)  # whatever the umask
            file.write(text)
        new.replace(path)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                new.unlink()
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


COMMAND = Command("metrics", "state and counters as OpenMetrics text", _TEXT, _run, _arguments)
