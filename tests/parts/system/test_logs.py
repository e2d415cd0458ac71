"""The log, written by a process of its own to what standard error may be: a pipe, a file, a terminal, the journal."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.system import logs

UNHURRIED = examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATIENCE = 30.0
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} (critical|error|warning|info|debug): (.*)")

HEAD = """
import logging, sys
from salsa_agent.system import logs
logs.setup({level!r})
log = logging.getLogger("salsa-agent")
"""


def start(
    code: str, *, level: str = "debug", env: Mapping[str, str] | None = None, **kwargs: Any
) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if name not in ("JOURNAL_STREAM", "NO_COLOR", "TERM")}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-c", HEAD.format(level=level) + code], env=clean | dict(env or {}), **kwargs
    )
    return process


def lines(code: str, *, level: str = "debug", env: Mapping[str, str] | None = None) -> list[str]:
    """What the code logs to a pipe."""
    with start(code, level=level, env=env, stderr=subprocess.PIPE) as process:
        output = process.communicate(timeout=PATIENCE)[1]
    return output.decode().splitlines(keepends=False)


def texts(code: str, *, level: str = "debug") -> list[tuple[str, str]]:
    """Level and text of the lines that the code logs."""
    matches = [PLAIN.fullmatch(line) for line in lines(code, level=level)]
    assert all(matches)
    return [(match[1], match[2]) for match in matches if match]


ALL = 'for level in (50, 40, 30, 20, 10): log.log(level, "a %s", "b")'


@pytest.mark.parametrize(("level", "count"), list(zip(logs.LEVELS, range(1, 6), strict=True)))
def test_the_levels(level: str, count: int) -> None:
    assert texts(ALL, level=level) == [(name, "a b") for name in logs.LEVELS[:count]]


def test_other_libraries_are_heard_from_warning_on() -> None:
    code = 'logging.getLogger("asyncio").info("x"); logging.getLogger("asyncio").warning("y")'
    assert texts(code) == [("warning", "y")]


def test_under_the_journal_lines_have_a_priority_and_no_time() -> None:
    read, write = os.pipe()
    there = os.fstat(write)
    with open(read, "rb") as reader:
        with open(write, "wb") as writer:
            env = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
            with start(ALL, env=env, stderr=writer) as process:
                assert process.wait(PATIENCE) == 0
        assert reader.read() == b"<2>a b\n<3>a b\n<4>a b\n<6>a b\n<7>a b\n"


def test_a_journal_that_is_somewhere_else_does_not_count() -> None:
    assert PLAIN.fullmatch(lines('log.info("x")', env={"JOURNAL_STREAM": "1:2"})[0])


def on_a_terminal(code: str, **env: str) -> str:
    ours, theirs = pty.openpty()
    try:
        with start(code, env=env, stderr=theirs) as process:
            assert process.wait(PATIENCE) == 0
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_colour_is_for_terminals_that_want_it() -> None:
    code = 'log.error("x"); log.info("y")'
    assert "\x1b[31merror\x1b[0m: x" in on_a_terminal(code, TERM="xterm")
    assert " info: y" in on_a_terminal(code, TERM="xterm")
    for env in ({"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}):
        assert "\x1b" not in on_a_terminal(code, **env)
    assert "\x1b" not in "".join(lines(code))


def test_control_characters_never_reach_the_log() -> None:
    hostile = "a\x00\x1b[2J\r\n<0>b\x7f\x85\x9b\u2028\u202e\ud800\t"
    assert texts(f"log.info('%s', {hostile!r})") == [("info", r"a\x00\x1b[2J\r\n<0>b\x7f\x85\x9b\u2028\u202e\ud800\t")]


@UNHURRIED
@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_any_text_is_one_printable_line(text: str) -> None:
    record = logging.LogRecord("salsa-agent", logging.INFO, "", 0, "%s", (text,), None)
    assert logs.JournalFormatter().format(record).isprintable()
    assert logs.LineFormatter(colour=False).format(record).isprintable()


RAISING = """
def inner(): raise ValueError("one\\ntwo")
try: inner()
except ValueError: log.exception("it failed")
"""


def test_an_exception_is_one_line_and_a_traceback_only_at_debug() -> None:
    ((level, text),) = texts(RAISING, level="info")
    assert level == "error"
    assert re.fullmatch(r"it failed \(ValueError: one\\ntwo, <string>:\d+\)", text)
    ((_, text),) = texts(RAISING, level="debug")
    assert "Traceback (most recent call last):\\n" in text


def test_an_uncaught_exception_is_one_line_and_status_1() -> None:
    with start("raise RuntimeError('x')", level="info", stderr=subprocess.PIPE) as process:
        output = process.communicate(timeout=PATIENCE)[1].decode()
        assert process.returncode == 1
    assert re.fullmatch(r"\S+ critical: ended by an error of its own \(RuntimeError: x, <string>:\d+\)\n", output)


def test_a_group_of_exceptions_names_each() -> None:
    code = "raise ExceptionGroup('g', [ValueError('x'), OSError('y')])"
    ((_, text),) = texts(code, level="info")
    assert text == "ended by an error of its own (ValueError: x; OSError: y)"


def test_an_error_in_a_finalizer_and_in_a_lost_task_is_one_line() -> None:
    code = """
import asyncio, gc
class A:
    def __del__(self): raise ValueError("x")
A()
async def main():
    async def fail(): raise KeyError("y")
    task = asyncio.create_task(fail())
    await asyncio.sleep(0); await asyncio.sleep(0)
    del task
    gc.collect()
asyncio.run(main())
"""
    (_, first), (level, second) = texts(code, level="info")
    assert first.startswith("an error went unheard (ValueError: x")
    assert level == "error"
    assert "KeyError: 'y'" in second


def test_a_record_that_does_not_fit_its_message_is_no_traceback() -> None:
    assert texts('log.info("%d", "x")') == [("info", "a log record of salsa-agent could not be written (TypeError)")]


def test_a_long_line_is_cut() -> None:
    (line,) = lines('log.info("x" * 100_000)')
    assert len(line) == 4000
    assert line.endswith("xxx...")


MANY = """
for i in range(20_000): log.info("line %d", i)
print("done", flush=True)
sys.stdin.readline()
log.info("last")
"""


def test_a_reader_that_sleeps_holds_nothing_up_and_learns_what_it_missed() -> None:
    with start(MANY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        assert select.select([process.stdout], [], [], PATIENCE)[0], "it hangs"
        assert process.stdout.readline() == b"done\n"
        os.set_blocking(process.stderr.fileno(), False)
        before = process.stderr.read().decode().splitlines()
        assert all(PLAIN.fullmatch(line) for line in before)
        os.set_blocking(process.stderr.fileno(), True)
        after = process.communicate(b"\n", timeout=PATIENCE)[1].decode().splitlines()
    assert after[0].endswith(f"warning: {20_000 - len(before)} log lines were lost")
    assert after[1].endswith("info: last")


def test_a_reader_that_is_gone_does_not_end_the_agent() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as writer, start(ALL + "\nprint('alive')", stderr=writer, stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=PATIENCE)[0] == b"alive\n"
        assert process.returncode == 0


def test_a_full_disk_does_not_end_the_agent() -> None:
    with (
        open("/dev/full", "wb") as full,
        start(ALL + "\nprint('alive')", stderr=full, stdout=subprocess.PIPE) as process,
    ):
        assert process.communicate(timeout=PATIENCE)[0] == b"alive\n"
        assert process.returncode == 0


def test_a_file_takes_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file, start(ALL, stderr=file) as process:
        assert process.wait(PATIENCE) == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 5
