"""The configuration files: which there are, and the settings in them, or all that is wrong with them.

`/etc/salsa-agent.toml` (or the file of `--config`), then its drop-ins: `*.toml` in the directory of the same name with
`.d` behind it, in byte order of their names. See salsa-agent.toml(5).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from salsa_agent.config.assemble import assemble, runtime_directory
from salsa_agent.config.bounds import MOST_BYTES, MOST_BYTES_IN_ALL, MOST_ENTRIES
from salsa_agent.config.document import Document, Problem, read
from salsa_agent.config.keys import ENTRY_KEYS, KEYS
from salsa_agent.core.settings import Settings
from salsa_agent.system.files import read_file

__all__ = [
    "DEFAULT_PATH", "ENTRY_KEYS", "KEYS", "Checked", "ConfigError", "check", "load", "parse", "runtime_directory",
]  # fmt: skip

DEFAULT_PATH = Path("/etc/salsa-agent.toml")
_PIPE_TIME = 1.0  # seconds until the end of a pipe, as in `--config <(command)`
_SUFFIX = b".toml"


class ConfigError(Exception):
    """The configuration is bad. The message is one line with the file, the key and the reason of the first problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = f" (and {len(problems) - 1} more: see salsa-agent --check-config)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems


class Checked(NamedTuple):
    """What came of reading the configuration. `files`: those that were read, in that order."""

    files: tuple[Path, ...]
    settings: Settings
    problems: tuple[Problem, ...]


def load(path: Path | None) -> Settings:
    """The settings in the file `path` and its drop-ins; None: those of the default file, which may be absent.

    Raises ConfigError.
    """
    checked = check(path)
    if checked.problems:
        raise ConfigError(checked.problems)
    return checked.settings


def check(path: Path | None) -> Checked:
    """Read the same, and find everything that is wrong."""
    main = path or DEFAULT_PATH
    directory = main.with_name(f"{main.name}.d") if main.name else main
    drop_ins, problems = _drop_ins(directory)
    documents, left = list[Document](), MOST_BYTES_IN_ALL
    for file in (main, *drop_ins):
        documents.append(_document(file, left, MOST_ENTRIES - sum(len(document.problems) for document in documents)))
        left -= documents[-1].size
    if path is None and documents[0] == _absent(main):
        del documents[0]
    settings, wrong = assemble([*documents, Document(problems=problems)], os.environ)
    return Checked(
        tuple(Path(document.file) for document in documents),
        settings,
        tuple(problem if problem.file else problem._replace(file=str(main)) for problem in wrong),
    )


def parse(data: bytes, environ: Mapping[str, str]) -> Settings:
    """The settings that one file with this content stands for. Raises ValueError with the key and the reason."""
    settings, problems = assemble([read("", data)], environ)
    if problems:
        raise ValueError(str(problems[0]))
    return settings


def _drop_ins(directory: Path) -> tuple[list[Path], tuple[Problem, ...]]:
    """The drop-ins that are there, dotfiles left out."""
    try:
        names = os.listdir(os.fsencode(directory))  # noqa: PTH208  # bytes: the order is that of bytes
    except FileNotFoundError:
        return [], ()
    except NotADirectoryError:
        if not os.path.lexists(directory):
            return [], ()
        return [], (Problem(str(directory), "", "is not a directory"),)
    except OSError as error:
        return [], (Problem(str(directory), "", f"cannot be read: {error.strerror}"),)
    chosen = sorted(name for name in names if name.endswith(_SUFFIX) and not name.startswith(b"."))
    return [directory / os.fsdecode(name) for name in chosen], ()


def _document(path: Path, left: int, room: int) -> Document:
    """What is in one file; that it cannot be read is a problem, too. `left`: how many bytes may be read.

    `room`: as `read` has it.
    """
    try:
        data = read_file(path, MOST_BYTES, pipe=_PIPE_TIME)
    except FileNotFoundError:
        return _absent(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Document(str(path), problems=(Problem(str(path), "", f"cannot be read: {reason}"),))
    if len(data) > MOST_BYTES:
        return Document(str(path), problems=(Problem(str(path), "", f"longer than {MOST_BYTES >> 10} KiB"),))
    if len(data) > left:
        reason = f"longer than {MOST_BYTES_IN_ALL >> 10} KiB together with the files before it"
        return Document(str(path), problems=(Problem(str(path), "", reason),))
    return read(str(path), data, room)._replace(size=len(data))


def _absent(path: Path) -> Document:
    return Document(str(path), problems=(Problem(str(path), "", "no such file"),))
