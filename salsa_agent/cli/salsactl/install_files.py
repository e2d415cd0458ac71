"""`salsactl install-files`: unit, bus policy, manual pages and completion of a program that pip installed."""

from __future__ import annotations

import sysconfig
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from salsa_agent.cli.exit_status import EX_OK
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json, warn

_TEXT = """\
Put the files below DIR that a system needs beside the program: the systemd unit with this program's path in it, the
system user, the D-Bus policy and activation, NetworkManager's dispatcher script, manual pages and completion. For a
program that pip, pipx or uv installed; a package, or ./run install, has placed its own. What is there of the same name
is replaced. The configuration is left alone. DIR is / for this system; it prints what it wrote, and starts nothing.

examples:
  salsactl install-files /
  python3 -m venv /opt/salsa-agent && /opt/salsa-agent/bin/pip install salsa-agent
  /opt/salsa-agent/bin/salsactl install-files /
  systemd-sysusers && systemctl daemon-reload && systemctl reload dbus
  systemctl enable --now salsa-agent
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directory", metavar="DIR", type=_directory, help="the directory to put them below; / is this system"
    )


def _directory(text: str) -> Path:
    if not text:  # a variable that is not set: the directory at hand is not meant
        raise ArgumentTypeError("no directory is named; / is this system")
    return Path(text)


async def _run(given: Namespace) -> int:
    # imported late: no other command needs it, nor the metadata of what is installed
    from salsa_agent.oneshot import own_files

    programs = Path(sysconfig.get_path("scripts"))
    if not given.directory.is_dir():
        raise CommandError(f"{given.directory} is no directory")
    try:
        written = [str(path) for path in own_files.place(given.directory, programs)]
    except own_files.NotPlaced as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from None
    if given.json:
        say_json({"files": written})
    else:
        say("\n".join(written))
    if own_files.hidden_from_the_units(programs):
        warn(f"units see no home directories, so they cannot start {programs}/salsa-agent: install it in /opt, say")
    return EX_OK


COMMAND = Command(
    "install-files", "put unit, policy, manual pages and completion in place", _TEXT, _run, _arguments, asks_agent=False
)
