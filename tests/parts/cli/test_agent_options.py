"""The command line of `salsa-agent`: what it takes, what it prints, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from salsa_agent import __version__
from salsa_agent.cli import agent_options as options

PATIENCE = 30.0
AGENT = (sys.executable, "-m", "salsa_agent.cli.agent")
SHELL_AGENT = f"{sys.executable} -m salsa_agent.cli.agent"


def agent(*argv: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AGENT, *argv], capture_output=True, text=True, timeout=PATIENCE, check=False, **kwargs)


# --- what it takes


def test_the_defaults() -> None:
    assert options.parse([]) == options.Options(config=None, bus="auto", log_level="info", check_config=False)


def test_all_options() -> None:
    argv = ["--config", "x.toml", "--bus", "session", "--log-level", "debug", "--check-config"]
    assert options.parse(argv) == options.Options(Path("x.toml"), "session", "debug", True)


@pytest.mark.parametrize(
    "bus",
    [
        "auto",
        "system",
        "session",
        "unix:path=/run/bus",
        "unix:abstract=/tmp/x,guid=0123456789abcdef0123456789abcdef",
        "tcp:host=127.0.0.1,port=1;unix:path=/a%20b",
        "unixexec:path=ssh,argv1=host",
        "autolaunch:",
    ],
)
def test_a_bus(bus: str) -> None:
    assert options.parse(["--bus", bus]).bus == bus


@pytest.mark.parametrize(
    "argv",
    [
        ["--bus", "nonsense"],
        ["--bus", ""],
        ["--bus", "/run/bus"],
        ["--bus", "unix:path"],
        ["--bus", "unix:path=/x\n"],
        ["--log-level", "loud"],
        ["--log-level", ""],
        ["--conf", "x"],  # no abbreviations: they break when an option is added
        ["--config"],
        ["--nonsense"],
        ["argument"],
        ["--check-config=yes"],
    ],
)
def test_bad_usage_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options.parse(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("salsa-agent: error: ")


# --- what it prints


def test_version() -> None:
    done = agent("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"salsa-agent {__version__}\n", "")


def test_help_names_every_option_and_status() -> None:
    done = agent("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--config FILE", "--bus auto|system|session|ADDRESS", "--log-level", "--check-config", "--version"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    statuses = re.findall(r"^  (\d+) +\w", done.stdout.partition("exit status:")[2], re.MULTILINE)
    assert statuses == ["0", "2", "69", "78"]


def test_check_config_says_good_or_what_is_bad(tmp_path: Path) -> None:
    file = tmp_path / "salsa.toml"
    file.write_text("smtp.port = 25")
    done = agent("--check-config", "--config", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: the configuration is good\n", "")
    file.write_text("smtp.port = 0")
    done = agent("--check-config", "--config", str(file))
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f": {file}: smtp.port: must be a whole number from 1 to 65535")


def test_check_config_names_all_errors_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "salsa.toml"
    file.write_text("[dns]\ntimeot = 1\nattempts = 9\n")
    more = tmp_path / "salsa.toml.d" / "a.toml"
    more.parent.mkdir()
    more.write_text("[[site]]\nuse = 'only'\nname = 'x'")
    done = agent("--check-config", "--config", str(file))
    assert (done.returncode, done.stdout) == (78, "")
    ends = (
        f": {file}: dns.timeot: unknown key; did you mean dns.timeout?",
        f": {file}: dns.attempts: must be a whole number from 1 to 5",
        f": {more}: site[1].prefix: must be given, or else interface, domain or connection: a site needs a criterion",
    )
    assert [line.endswith(end) for line, end in zip(done.stderr.splitlines(), ends, strict=True)] == [True] * 3
    (line,) = agent("--config", str(file)).stderr.splitlines()  # to run with it: the first of them, on one line
    assert line.endswith(f"{ends[0]} (and 2 more: see salsa-agent --check-config)")


def test_check_config_says_which_files_it_read_or_that_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "salsa.toml"
    file.touch()
    for name in ("b", "a"):
        (tmp_path / "salsa.toml.d").mkdir(exist_ok=True)
        (tmp_path / "salsa.toml.d" / f"{name}.toml").touch()
    done = agent("--check-config", "--config", str(file))
    assert done.stdout == f"{file}, {file}.d/a.toml, {file}.d/b.toml: the configuration is good\n"
    code = (
        "import sys, pathlib; from salsa_agent.config import file; from salsa_agent.cli.agent import main\n"
        "file.DEFAULT_PATH = pathlib.Path('/nonexistent.toml'); sys.exit(main(['--check-config']))"
    )
    none = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (none.returncode, none.stderr) == (0, "")
    assert none.stdout == "there is no /nonexistent.toml, so the defaults hold: the configuration is good\n"


def test_a_bad_configuration_is_status_78_and_one_line_even_if_little_is_logged(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    done = agent("--config", str(absent), "--log-level", "critical")
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"critical: {absent}: no such file")


def test_what_needs_no_libraries_imports_none() -> None:
    code = (
        "import sys; from salsa_agent.cli.agent import main\n"
        "status = main(['--check-config', '--config', '/dev/null'])\n"
        "print(status, [m for m in ('asyncio', 'dbus_next', 'pyroute2', 'dns') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


# --- how it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_loop_runs_is_status_0(number: signal.Signals) -> None:
    code = (
        "import os, sys, time; from salsa_agent.cli.agent import config, main\n"
        "config.load = lambda *_: (os.write(1, b'reading'), time.sleep(600))\n"
        "sys.exit(main([]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(7) == b"reading"  # from now on it hangs in reading its configuration
            process.send_signal(signal.SIGHUP)  # is no end
            process.send_signal(number)
            output = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, output) == (0, (b"", b""))


# each sends the signal where Python does not hand on what a handler raises
SWALLOWED = {
    "as a class is made": "class Field:\n def __set_name__(self, *_): end()\nclass Record:\n field = Field()",
    "as an object goes": "class Object:\n def __del__(self): end()\nObject()",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", SWALLOWED)
def test_a_signal_anywhere_in_the_imports_is_status_0(where: str, number: signal.Signals) -> None:
    """It was status 1 with a traceback, or was lost, where it came while a class was made or an object went."""
    code = (
        "import os, sys, time; from salsa_agent.cli.agent import config, main\n"
        f"def end(): os.kill(os.getpid(), {int(number)}); [None for _ in range(1000)]\n"
        f"config.load = lambda *_: (exec({SWALLOWED[where]!r}, {{'end': end}}), time.sleep(600))\n"
        "sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("streams", [">&-", ">/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "| true"])
@pytest.mark.parametrize("argv", ["--version", "--help", "--check-config --config /dev/null"])
def test_streams_that_are_closed_or_full_are_no_traceback(streams: str, argv: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{SHELL_AGENT} {argv} {streams}"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_an_error_that_nobody_hears_keeps_its_status(streams: str) -> None:
    for argv, status in (("--config /absent", 78), ("--nonsense", 2)):
        done = subprocess.run(["sh", "-c", f"{SHELL_AGENT} {argv} {streams}"], timeout=PATIENCE, check=False)
        assert done.returncode == status


def test_closed_streams_are_held_so_that_no_other_file_gets_their_number() -> None:
    code = (
        "from salsa_agent.cli.agent import main; import os\n"
        "main(['--check-config', '--config', '/dev/null'])\n"
        "links = [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)]\n"
        "raise SystemExit(0 if links == ['/dev/null'] * 3 else 1)"
    )
    script = 'exec "$0" -c "$1" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, sys.executable, code], timeout=PATIENCE, check=False)
    assert done.returncode == 0
