"""The command `salsa-agent`."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from salsa_agent.cli import agent_options as options
from salsa_agent.cli import exit_status
from salsa_agent.config import file as config
from salsa_agent.config.file import ConfigError
from salsa_agent.system import logs
from salsa_agent.text import printable

log = logging.getLogger("salsa-agent")


def main(argv: list[str] | None = None) -> int:
    """Run the agent in the foreground; the exit status as in `cli.exit_status`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until the event loop takes them over
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is about to be read anyway
    _hold_standard_streams()
    try:
        return _run(argv)
    finally:
        _say("")  # what argparse may have left in the buffers


def _run(argv: list[str] | None) -> int:
    given = options.parse(argv)
    logs.setup(given.log_level)
    if given.check_config:
        return _check_config(given.config)
    try:
        settings = config.load(given.config)
    except ConfigError as error:
        log.critical("%s", error)
        return exit_status.EX_CONFIG
    # imported late: `--help`, `--version` and `--check-config` need neither the event loop nor the libraries
    import asyncio
    import gc

    from salsa_agent.bus.name_owner import BusError
    from salsa_agent.daemon.agent import Agent
    from salsa_agent.system.supervision import PartEnded

    async def whole_run() -> None:
        try:
            await Agent(settings, given.config).run(given.bus, announce=lambda address: _say(f"{address}\n"))
        finally:  # the loop's handlers go with the loop, and a signal that is repeated shall not spoil the status
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    gc.freeze()  # what was imported stays for good: the collector need not go through it in the middle of a round
    try:
        _descriptors_for_a_loop()
    except OSError as error:
        log.critical("no bus can be had: %s", error.strerror)
        return exit_status.EX_UNAVAILABLE
    try:
        asyncio.run(whole_run())
    except BusError as error:
        log.critical("%s", error)
        return exit_status.EX_UNAVAILABLE
    except PartEnded as error:
        log.critical("%s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return exit_status.EX_SOFTWARE
    return exit_status.EX_OK


def _check_config(path: Path | None) -> int:
    """All that is wrong with the configuration, a line each; or that it is good, and which files it consists of."""
    checked = config.check(path)
    for problem in checked.problems:
        log.critical("%s", problem)
    if checked.problems:
        return exit_status.EX_CONFIG
    files = ", ".join(printable(str(file)) for file in checked.files)
    none = f"there is no {config.DEFAULT_PATH}, so the defaults hold"
    _say(f"{files or none}: the configuration is good\n")
    return exit_status.EX_OK


def _descriptors_for_a_loop() -> None:
    """Raises OSError where there are too few: an event loop that could not be made has its say when it goes."""
    with select.epoll():
        for end in socket.socketpair():
            end.close()


def _end(_number: int, _frame: object) -> NoReturn:
    """At once: nothing is to be undone yet, and what a handler raises may be lost, or become another error."""
    os._exit(exit_status.EX_OK)


def _hold_standard_streams() -> None:
    """Open on /dev/null what came closed of descriptors 0-2, or a socket would get its number, and log lines."""
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        null = os.dup(null)
    os.close(null)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # Python saw it closed; before 3.11.3 argparse stumbles over that
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _say(text: str) -> None:
    """Write to standard output at once; where nobody reads it, nothing is wrong."""
    for stream, words in ((sys.stdout, text), (sys.stderr, "")):
        try:
            stream.write(words)
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nor at the interpreter's last flush


if __name__ == "__main__":
    sys.exit(main())
