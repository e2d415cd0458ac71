"""The command line of `salsa-agent`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from salsa_agent import __version__
from salsa_agent.config.file import DEFAULT_PATH
from salsa_agent.system.logs import LEVELS

# "transport:key=value,...", several separated by ";" (D-Bus Specification, "Server Addresses")
_PAIR = r"[^\s,;=:]+=[^\s,;=]*"
_ONE = rf"[a-z][a-z0-9-]*:({_PAIR}(,{_PAIR})*)?"
_BUS_ADDRESS = re.compile(rf"{_ONE}(;{_ONE})*;?", re.ASCII)

_DESCRIPTION = """\
Finds the mail relay that the network at hand publishes in its reverse DNS
tree, checks that it answers, and says so on D-Bus. Runs in the foreground and
logs to standard error.
"""

_EPILOG = """\
examples:
  salsa-agent                                  on the system bus if there is one
  salsa-agent --bus session --log-level debug  for a look at every question
  salsa-agent --check-config --config my.toml  before a reload
  kill -HUP PID                                read the configuration again

exit status:
  0   ended by SIGTERM or SIGINT
  2   bad usage
  69  no bus, or the name org.salsa.Agent1 is taken, refused or lost
  78  bad configuration; one line names the file, the key and the reason
"""


class Options(NamedTuple):
    """What the command line says. `config` None: the default file, which may be absent."""

    config: Path | None
    bus: str
    log_level: str
    check_config: bool


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        """Text that nobody takes is no error: the library itself has it so from Python 3.11.3 on."""
        with suppress(OSError, AttributeError):
            super()._print_message(message, file)


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line. Raises SystemExit: 2 for bad usage, 0 after `--help` and `--version`."""
    parser = _Parser(
        prog="salsa-agent",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"the configuration file, read before *.toml in FILE.d (default: {DEFAULT_PATH}, if it exists)",
    )
    parser.add_argument(
        "--bus",
        metavar="auto|system|session|ADDRESS",
        type=bus,
        default="auto",
        help="the bus to publish on (default: auto: the system bus, else the session bus, else a private one, whose "
        "address is printed on standard output)",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="what to log (default: info)")
    parser.add_argument("--check-config", action="store_true", help="say all that is wrong with the configuration, end")
    parser.add_argument("--version", action="version", version=f"salsa-agent {__version__}")
    return Options(**vars(parser.parse_args(argv)))


def bus(text: str) -> str:
    """The value of `--bus`: a word or a D-Bus address. Raises argparse.ArgumentTypeError."""
    if text in ("auto", "system", "session") or _BUS_ADDRESS.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError("must be auto, system, session or a D-Bus address such as unix:path=/run/bus")
