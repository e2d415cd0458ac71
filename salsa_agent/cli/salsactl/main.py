"""The command `salsactl`: talks to the agent on the bus."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from salsa_agent import __version__
from salsa_agent.bus.client import CallError, NotRunning
from salsa_agent.bus.private_bus import private_buses
from salsa_agent.cli.exit_status import EX_NONE, EX_SOFTWARE, EX_UNAVAILABLE, EX_USAGE
from salsa_agent.cli.format.help import Help
from salsa_agent.cli.salsactl import audit as ctl_audit
from salsa_agent.cli.salsactl import best as ctl_best
from salsa_agent.cli.salsactl import check as ctl_check
from salsa_agent.cli.salsactl import doctor as ctl_doctor
from salsa_agent.cli.salsactl import explain as ctl_explain
from salsa_agent.cli.salsactl import find as ctl_find
from salsa_agent.cli.salsactl import install_files as ctl_install_files
from salsa_agent.cli.salsactl import lookup as ctl_lookup
from salsa_agent.cli.salsactl import metrics as ctl_metrics
from salsa_agent.cli.salsactl import refresh as ctl_refresh
from salsa_agent.cli.salsactl import report_failure as ctl_report_failure
from salsa_agent.cli.salsactl import send_test as ctl_send_test
from salsa_agent.cli.salsactl import site as ctl_site
from salsa_agent.cli.salsactl import status as ctl_status
from salsa_agent.cli.salsactl import watch as ctl_watch
from salsa_agent.cli.salsactl import zone as ctl_zone
from salsa_agent.cli.salsactl.command import CommandError, warn
from salsa_agent.system.supervision import PartEnded, defect

COMMANDS = (
    ctl_status.COMMAND,
    ctl_best.COMMAND,
    ctl_watch.COMMAND,
    ctl_refresh.COMMAND,
    ctl_explain.COMMAND,
    ctl_lookup.COMMAND,
    ctl_report_failure.COMMAND,
    ctl_check.COMMAND,
    ctl_metrics.COMMAND,
    ctl_doctor.COMMAND,
    ctl_send_test.COMMAND,
    ctl_find.COMMAND,
    ctl_site.COMMAND,
    ctl_zone.COMMAND,
    ctl_audit.COMMAND,
    ctl_install_files.COMMAND,
)
"""Every command, in the order of the help."""

_ADVICE = (
    "start it (systemctl start salsa-agent), or, for one with a private bus, name the address that it printed at its "
    "start: --bus unix:path=..."
)
_SIGNALLED = 128  # what a shell adds to the signal's number
_SIGINT, _SIGPIPE = 2, 13

_EXIT = """\
exit status: 0 done; 1 there is no relay, it has failed, audit or doctor found faults, or the agent refused; 2 usage;
69 no agent runs; 70 a defect of its own; 75 not decided in time; 78 bad configuration; check has its own, 0 to 3
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status as in `cli.exit_status`."""
    _complete_streams()
    logging.basicConfig(handlers=[_Warn()])
    try:
        given = parser().parse_args(argv)
    except SystemExit as ended:
        if ended.code == EX_USAGE and _is_check(sys.argv[1:] if argv is None else argv):
            ctl_check.report(ctl_check.UNKNOWN, "bad usage")  # to a monitor, 2 would mean CRITICAL
            return ctl_check.UNKNOWN
        raise
    try:
        status = asyncio.run(given.run(given))
        sys.stdout.flush()
    except NotRunning as error:
        warn(f"{error}; {_advice(given.bus)}")
        return EX_UNAVAILABLE
    except CallError as error:
        warn(str(error))
        return EX_NONE
    except CommandError as error:
        warn(str(error))
        return error.status
    except KeyboardInterrupt:
        return _SIGNALLED + _SIGINT
    except BrokenPipeError:  # the reader of standard output has gone
        _discard_output()
        return _SIGNALLED + _SIGPIPE
    except OSError as error:
        _discard_output()
        warn(f"cannot write: {error.strerror}")
        return EX_NONE
    except PartEnded as error:
        warn(str(error))
        return EX_SOFTWARE
    except Exception as error:
        warn(defect(given.command, error))
        return EX_SOFTWARE
    return int(status)


def _is_check(argv: list[str]) -> bool:
    """Whether a bad command line is one of `check`: by its command, or where it has none, by any of its words."""
    words = iter(argv)
    for word in words:
        if word == "--bus":
            next(words, None)
        elif not word.startswith("-"):
            return word == ctl_check.COMMAND.name
    return ctl_check.COMMAND.name in argv


class _Warn(logging.Handler):
    """What the parts of the agent and the libraries log, as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            error = record.exc_info[1] if record.exc_info else None
            said = f" ({type(error).__name__}: {error})" if error is not None else ""
            warn(f"{record.getMessage()}{said}")


def _advice(bus: str) -> str:
    """What to do where no agent was found on this bus: a private one of this user's is named."""
    private = [address for address in private_buses() if address != bus]
    if private:
        return f"you have one on a bus of its own: {' or '.join(f'--bus {address}' for address in private)}"
    return _ADVICE


def parser() -> ArgumentParser:
    """The command line. Options for all commands may stand before or after the command."""
    top = ArgumentParser(
        prog="salsactl",
        description="Ask salsa-agent for the mail relay to use on the network at hand, and why it is that one.",
        epilog=_EXIT,
        formatter_class=Help,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"salsactl {__version__}")
    _for_all(top)
    top.set_defaults(bus="auto", json=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.text,
            formatter_class=Help,
            allow_abbrev=False,
        )
        command.arguments(sub)
        _for_all(sub, bus=command.asks_agent)
        sub.set_defaults(run=command.run, command=command.name)
    return top


def _for_all(parser: ArgumentParser, *, bus: bool = True) -> None:
    if bus:
        parser.add_argument(
            "--bus",
            type=_bus,
            default=SUPPRESS,  # or a command's default would undo an option in front of the command
            metavar="auto|system|session|ADDRESS",
            help="the bus the agent is on (default: auto, the system bus if it knows the agent, else the session bus)",
        )
    parser.add_argument("--json", action="store_true", default=SUPPRESS, help="print the values as JSON")


def _bus(text: str) -> str:
    if text in ("auto", "system", "session") or ":" in text:
        return text
    raise ArgumentTypeError(f"{text!r} is neither auto, system, session nor an address such as unix:path=/run/bus")


def _complete_streams() -> None:
    """Standard output and error are there, though closed by who called, and take any text, though not of UTF-8."""
    if sys.stdout is None or sys.stderr is None:
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - until the end of the process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _discard_output() -> None:
    """Drop what is still buffered: nobody reads it, and Python would report that at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
