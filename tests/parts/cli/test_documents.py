"""Completions and man pages say what the programs take: held against argparse, the settings and the real shells."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from salsa_agent.cli import agent_options as options
from salsa_agent.cli.format.help import filled
from salsa_agent.cli.salsactl import main as ctl
from salsa_agent.config.file import ENTRY_KEYS, KEYS
from salsa_agent.core.settings import Sender, Settings, Site
from salsa_agent.oneshot.relay_config import PROGRAMS
from salsa_agent.oneshot.zone_formats import FORMATS
from salsa_agent.system.logs import LEVELS
from tests.lab.run import PROJECT

COMPLETIONS, MAN = PROJECT / "completions", PROJECT / "man"
PAGES = sorted(path.name for path in MAN.iterdir())


def _agent_parser() -> argparse.ArgumentParser:
    """The parser that `options.parse` makes."""
    found: list[argparse.ArgumentParser] = []

    def seen(self: argparse.ArgumentParser, *_: object) -> argparse.Namespace:
        found.append(self)
        raise SystemExit

    with mock.patch.object(argparse.ArgumentParser, "parse_args", seen), pytest.raises(SystemExit):
        options.parse([])
    return found[0]


def _long(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings if name.startswith("--")}


def _commands() -> dict[str, argparse.ArgumentParser]:
    [action] = [one for one in ctl.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(action.choices)


AGENT, CTL, COMMANDS = _long(_agent_parser()), _long(ctl.parser()), {k: _long(v) for k, v in _commands().items()}


def completed(shell: str, program: str, line: str) -> set[str]:
    """What a real shell offers at the end of `line`; options it was not asked for left out."""
    if shell == "bash":
        words = line.split(" ")
        script = (
            f'. {COMPLETIONS / f"{program}.bash"}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            f'_{program.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        return _lines(["bash", "--norc", "-c", script, "bash", *words])
    script = f"source {COMPLETIONS / f'{program}.fish'}; complete -C {line!r}"
    return {one.split("\t")[0] for one in _lines(["fish", "--no-config", "-c", script])}


def _lines(argv: list[str]) -> set[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=True, env=_environment())
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_of_options_and_commands(shell: str) -> None:
    assert completed(shell, "salsa-agent", "salsa-agent --") == AGENT
    assert completed(shell, "salsactl", "salsactl --") == CTL
    assert completed(shell, "salsactl", "salsactl ") - CTL == set(COMMANDS)
    for command, wanted in COMMANDS.items():
        assert completed(shell, "salsactl", f"salsactl {command} --") == wanted, command
        assert completed(shell, "salsactl", f"salsactl --bus system --json {command} --") == wanted, command
    assert completed(shell, "salsactl", "salsactl --bus ") == {"auto", "system", "session"}
    assert completed(shell, "salsa-agent", "salsa-agent --log-level ") == set(LEVELS)
    assert completed(shell, "salsactl", "salsactl zone --format ") == set(FORMATS)
    assert completed(shell, "salsactl", "salsactl zone --relay ") == set(PROGRAMS)


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    "said", ["a$(touch ran).example:25", "a`touch ran`:25", "a;touch ran:25", "(touch ran)", "$ran"]
)
def test_completion_never_runs_what_the_agent_says(shell: str, said: str, tmp_path: Path, monkeypatch: Any) -> None:
    bad = tmp_path / "salsactl"
    bad.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    bad.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(bad))  # its directory comes first
    monkeypatch.chdir(tmp_path)
    assert completed(shell, "salsactl", "salsactl report-failure ") - {"--bus", "--json", "--help"} == set()
    assert sorted(os.listdir(tmp_path)) == ["salsactl"]
    bad.write_text("#!/bin/sh\necho '[2001:db8::1]:25'\n")
    assert completed(shell, "salsactl", "salsactl report-failure ") >= {"[2001:db8::1]:25"}


# zsh completes at a terminal only: one is made with zpty, and what the functions offer is taken at `compadd`
# The words that are waited for are typed in two pieces, so that the echo of the typing is not taken for them.
_ZSH = """\
zmodload zsh/zpty
zpty shell zsh -f -i
talk() { zpty -w shell "$1" }
talk "PS1= PS2= fpath=($1 \\$fpath); unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -d $3"
talk 'compadd() {
  local -a __hits
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
  builtin compadd -O __hits "$@"
  printf "hi""t:%s\\n" $__hits
}'
talk 'show() { zle complete-word; print; print do""ne:; exit }; zle -N show; bindkey "^X" show; print rea""dy:'
zpty -r shell seen '*ready:*'
zpty -w -n shell "$2"$'\\x18'
zpty -r shell seen '*done:*'
print -r -- $seen
zpty -d shell
"""


def test_completion_in_zsh(tmp_path: Path) -> None:
    for program, line, wanted in (
        ("salsa-agent", "salsa-agent --", AGENT),
        ("salsactl", "salsactl --", CTL),
        ("salsactl", "salsactl ", set(COMMANDS)),
        ("salsactl", "salsactl zone --format ", set(FORMATS)),
        ("salsactl", "salsactl zone --relay ", set(PROGRAMS)),
        *(("salsactl", f"salsactl {command} --", wanted) for command, wanted in COMMANDS.items()),
    ):
        done = subprocess.run(
            ["zsh", "-f", "-c", _ZSH, "zsh", str(COMPLETIONS), line, str(tmp_path / "dump")],
            capture_output=True, text=True, timeout=50, check=False, env=_environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        hits = {one.strip() for one in re.findall(r"hit:([^\r\n]+)", done.stdout)}
        assert {hit for hit in hits if len(hit) > 2} == wanted, (program, line, done)


@pytest.mark.parametrize("said", ["a$(touch ran).example:25", "a`touch ran`:25", "$(touch ran)"])
def test_completion_in_zsh_never_runs_what_the_agent_says(said: str, tmp_path: Path) -> None:
    bad, home = tmp_path / "bin" / "salsactl", tmp_path / "home"
    bad.parent.mkdir()
    home.mkdir()
    bad.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\ncat <<'END'\n{said}\nEND\n")
    bad.chmod(0o755)
    subprocess.run(
        ["zsh", "-f", "-c", _ZSH, "zsh", str(COMPLETIONS), "salsactl report-failure ", str(tmp_path / "dump")],
        capture_output=True, timeout=50, check=False, stdin=subprocess.DEVNULL, cwd=home,
        env=_environment() | {"PATH": f"{bad.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (tmp_path / "asked").exists()
    assert os.listdir(home) == []


# --- man pages


@pytest.mark.parametrize("page", PAGES)
def test_man_page_is_without_warnings(page: str) -> None:
    done = subprocess.run(
        ["groff", "-mandoc", "-ww", "-z", "-Tutf8", MAN / page], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stderr + done.stdout == ""


def _source(page: str) -> str:
    return (MAN / page).read_text().replace("\\(dq", '"').replace("\\:", "")  # \\: is a place to break a line


def _named(page: str) -> set[str]:
    """The options that a page has an entry for."""
    entries = re.findall(r"^\.(?:It|Nm) .*|^\.Fl -version$", _source(page), re.MULTILINE)
    return {f"--{name}" for entry in entries for name in re.findall(r"Fl -([a-z-]+)", entry)}


def test_man_pages_know_every_option_and_command() -> None:
    assert _named("salsa-agent.8") == AGENT
    assert _named("salsactl.1") == CTL.union(*COMMANDS.values())
    section = _source("salsactl.1").partition(".Sh COMMANDS")[2].partition(".Ss")[0]
    assert re.findall(r"^\.It Cm ([a-z-]+)", section, re.MULTILINE) == list(COMMANDS)


def _is_table(held: object) -> bool:
    """Whether these settings are those of one table of the file."""
    return hasattr(held, "_fields")


def _defaults() -> Iterator[tuple[str, object]]:
    """Every key with its default, as the file would have it."""
    default = Settings()
    for table, keys in KEYS.items():
        held = getattr(default, table, None)
        for key in keys:
            value = getattr(held, key) if _is_table(held) else getattr(default, f"{table}_{key}", None)
            if (table, key) == ("static", "relays"):
                value = default.static_relays
            yield f"{table}.{key}", list(value) if isinstance(value, tuple) else value


def test_toml_page_has_every_key_with_its_default() -> None:
    shown = dict(re.findall(r"^\.It Va ([a-z0-9_.]+) No = Li (.+)$", _source("salsa-agent.toml.5"), re.MULTILINE))
    wanted = {
        key: str(value).replace("'", '"').lower() if value not in ("", None) else '""' for key, value in _defaults()
    }
    wanted = {key: value if not _is_word(value) else f'"{value}"' for key, value in wanted.items()}
    wanted["output.directory"] = "$RUNTIME_DIRECTORY"
    assert shown == wanted
    entries = re.findall(r"^\.It Va ([a-z0-9_.]+)$", _source("salsa-agent.toml.5"), re.MULTILINE)
    assert entries == [f"{table}.{key}" for table, keys in ENTRY_KEYS.items() for key in keys]


def _is_word(value: str) -> bool:
    return value.isalpha() and value not in ("true", "false")


def test_settings_have_no_key_that_the_page_check_misses() -> None:
    """What is not in config/keys.py cannot be set, nor is it looked for in the page."""
    in_keys = [f"{table}.{key}" for table, keys in {**KEYS, **ENTRY_KEYS}.items() for key in keys]
    flat = {f"{table}_{key}": f"{table}.{key}" for table, keys in KEYS.items() for key in keys}
    entries = {"sites": ("site", Site._fields), "senders": ("sender", Sender._fields)}
    in_settings: list[str] = []
    for one in fields(Settings):
        held = getattr(Settings(), one.name)
        table, names = entries.get(one.name, (one.name, held._fields if _is_table(held) else ()))
        in_settings += [f"{table}.{name}" for name in names] or [flat.get(one.name, one.name)]
    faults = [f"{key} is in core/settings.py and not in config/keys.py" for key in in_settings if key not in in_keys]
    faults += [f"{key} is in config/keys.py and not in core/settings.py" for key in in_keys if key not in in_settings]
    assert not faults, "\n".join(faults)
    for table, names in entries.values():
        assert list(ENTRY_KEYS[table]) == list(names), f"[[{table}]]: give its keys the same order in both files"


def test_each_command_has_examples_in_its_help() -> None:
    for command in ctl.COMMANDS:
        assert "examples:\n  salsactl" in command.text
        assert max(map(len, command.text.splitlines())) <= 120
        assert Path(PROJECT, "salsa_agent", "cli", "salsactl", f"{command.name.replace('-', '_')}.py").exists()


@pytest.mark.parametrize("columns", [80, 110])
@pytest.mark.parametrize("command", ["", *(command.name for command in ctl.COMMANDS)])
def test_help_fits_the_terminal(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        ctl.main([*([command] if command else []), "--help"])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert [line for line in said.splitlines() if len(line) > columns] == []
    prose = said.partition("examples:")[0]
    assert not [line for line in prose.splitlines() if line.endswith("\\")], "only a command goes on that way"


def test_a_command_of_the_help_that_is_broken_is_still_one() -> None:
    line = """  printf %s\\\\n "one two" three 'four "five" six' | sed -e 's/o/0/' -e 's/five six/seven/'"""
    lines = list(filled(f"A sentence.\n\nexamples:\n{line}\n", 40))
    assert len(lines) > 5
    broken = "\n".join(lines[lines.index("examples:") + 1 :])
    said = [subprocess.check_output(["sh", "-c", script]) for script in (line, broken)]
    assert said[0] == said[1] != b""
