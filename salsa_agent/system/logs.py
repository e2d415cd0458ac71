"""The log on standard error: one line for each record, in the journal's form under systemd, and never in the way."""

from __future__ import annotations

import logging
import os
import select
import sys
import traceback
from types import TracebackType

from salsa_agent.text import printable

LEVELS = ("critical", "error", "warning", "info", "debug")

_STDERR = 2
_MAX_LINE = 4000  # bytes; a pipe that polls as writable takes PIPE_BUF (4096) without blocking (pipe(7))
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # sd-daemon(3)
_COLOURS = {"critical": "1;31", "error": "31", "warning": "33", "debug": "2"}

log = logging.getLogger("salsa-agent")


def setup(level: str) -> None:
    """Log to standard error from `level` (one of LEVELS) on; other libraries' records from `warning` on."""
    logging.raiseExceptions = False
    handler = StderrHandler()
    handler.setFormatter(formatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    log.setLevel(level.upper())
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable


def formatter() -> logging.Formatter:
    """The form for what standard error is now: the journal, a terminal, or anything else."""
    if _is_journal():
        return JournalFormatter()
    colour = os.isatty(_STDERR) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return LineFormatter(colour=colour)


def _is_journal() -> bool:
    """Whether standard error is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        stat = os.fstat(_STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class OneLine(logging.Formatter):
    """The text of a record on one line, whatever is in it. An exception is named with its place, and whole at debug."""

    def text(self, record: logging.LogRecord) -> str:
        """The message, and what was raised."""
        try:
            return printable(self._whole(record))
        except Exception as error:  # arguments that do not fit the message, an exception that cannot be printed
            return printable(f"a log record of {record.name} could not be written ({type(error).__name__})")

    def _whole(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({_raised(record.exc_info[1])})"
            if log.isEnabledFor(logging.DEBUG):
                text += " " + "".join(traceback.format_exception(record.exc_info[1]))
        return text


class JournalFormatter(OneLine):
    """The priority in front (sd-daemon(3)); the journal has the time."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelname.lower(), 5)}>{self.text(record)}"


class LineFormatter(OneLine):
    """Time, level and text; the level in colour on a terminal."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        if self._colour and level in _COLOURS:
            level = f"\x1b[{_COLOURS[level]}m{level}\x1b[0m"
        return f"{self.formatTime(record)} {level}: {self.text(record)}"


class StderrHandler(logging.Handler):
    """Writes to descriptor 2 what it takes now. A reader that is gone or asleep costs log lines, never the agent."""

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._lost and self._write(self._report(self._lost)):
            self._lost = 0
        if not self._write(self.format(record)):
            self._lost += 1

    def _report(self, lost: int) -> str:
        return self.format(logging.LogRecord(log.name, logging.WARNING, "", 0, "%d log lines were lost", (lost,), None))

    def _write(self, line: str) -> bool:
        data = line.encode(errors="backslashreplace")
        if len(data) > _MAX_LINE:
            data = data[: _MAX_LINE - 3] + b"..."
        try:
            if self._poll.poll(0) != [(_STDERR, select.POLLOUT)]:
                return False
            os.write(_STDERR, data + b"\n")
        except OSError:
            return False
        return True


def _raised(error: BaseException) -> str:
    """What was raised and where, in short."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_raised(inner) for inner in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f", {os.path.basename(frames[0].filename)}:{frames[0].lineno}" if frames else ""  # noqa: PTH119  # a name
    return f"{type(error).__name__}: {error}{where}"


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("ended by an error of its own", exc_info=(kind, error, trace))


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    if error is not None:
        log.error("an error went unheard", exc_info=(type(error), error, unraisable.exc_traceback))
