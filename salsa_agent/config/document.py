"""What one configuration file sets, each value in its form, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from salsa_agent.config.bounds import MOST_ENTRIES, MOST_PARTS, deep_key
from salsa_agent.config.keys import ENTRY_KEYS, KEYS, Forms, unknown_key, unknown_table
from salsa_agent.config.values import WrongEntries
from salsa_agent.text import printable


class Problem(NamedTuple):
    """One thing that is wrong: the file, the key (such as `dns.timeout` or `site[2].prefix`, or none), the reason."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        return printable(": ".join(part for part in self if part))


class Entry(NamedTuple):
    """One `[[site]]` or `[[sender]]`. `number`: from 1, in its file. `values`: of the keys that are in form.

    `given`: the names of all keys that stand there, right or wrong.
    """

    file: str
    table: str
    number: int
    values: Mapping[str, Any]
    given: frozenset[str]

    def key(self, name: str) -> str:
        """A key of this entry, as messages name it."""
        return f"{self.table}[{self.number}].{name}"


class Document(NamedTuple):
    """A file. `values`: by table and key, of those that are in form. `size`: octets."""

    file: str = ""
    values: Mapping[tuple[str, str], Any] = {}
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    size: int = 0


def read(file: str, data: bytes, room: int = MOST_ENTRIES) -> Document:
    """What a file with this content sets. Never raises: what is wrong is among `problems`.

    `room`: once so many are known, of a list only the first wrong entry is told.
    """
    try:
        tables = _toml(data)
    except ValueError as error:
        return Document(file, problems=(Problem(file, "", str(error)),))
    values: dict[tuple[str, str], Any] = {}
    entries: list[Entry] = []
    problems: list[Problem] = []
    for table, content in tables.items():
        if table in KEYS and isinstance(content, dict):
            for key, outcome in _in_form(table, content, KEYS[table]):
                if isinstance(outcome, ValueError):
                    problems += _problems(file, f"{table}.{key}", outcome, room - len(problems))
                else:
                    values[table, key] = outcome
        elif table in ENTRY_KEYS and isinstance(content, list) and len(content) > MOST_ENTRIES:
            problems.append(Problem(file, table, f"more than {MOST_ENTRIES} entries"))
        elif table in ENTRY_KEYS and isinstance(content, list) and all(isinstance(one, dict) for one in content):
            for number, one in enumerate(content, 1):
                entry, wrong = _entry(file, table, number, one)
                entries.append(entry)
                for key, of_key in wrong.items():
                    problems += _problems(file, entry.key(key), of_key, room - len(problems))
        else:
            problems.append(Problem(file, table, _why_no_table(table)))
    return Document(file, values, tuple(entries), tuple(problems))


def _problems(file: str, key: str, error: ValueError, room: int) -> list[Problem]:
    """One for each wrong entry of a list, as far as there is room; at least one."""
    reasons = error.reasons if isinstance(error, WrongEntries) else (str(error),)
    return [Problem(file, key, reason) for reason in reasons[: max(1, room)]]


def _entry(file: str, table: str, number: int, content: Mapping[str, Any]) -> tuple[Entry, dict[str, ValueError]]:
    outcomes = dict(_in_form(table, content, ENTRY_KEYS[table]))
    values = {key: outcome for key, outcome in outcomes.items() if not isinstance(outcome, ValueError)}
    entry = Entry(file, table, number, values, frozenset(content))
    return entry, {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, ValueError)}


def _in_form(table: str, content: Mapping[str, Any], forms: Forms) -> Iterator[tuple[str, Any]]:
    """Each key with its value in its form, or with the ValueError that says what is wrong with it."""
    for key, value in content.items():
        if key not in forms:
            yield key, ValueError(unknown_key(table, key, forms))
            continue
        try:
            yield key, forms[key](value)
        except ValueError as error:
            yield key, error


def _why_no_table(table: str) -> str:
    if table in ENTRY_KEYS:
        return f"must be an array of tables, each under [[{table}]]"
    return "must be a table" if table in KEYS else unknown_table(table)


def _toml(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    if key := deep_key(data):
        raise ValueError(f"has a key with more than {MOST_PARTS} parts: {key}")
    import tomllib  # late: without a file there is nothing to parse

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 (at line {line})") from None
    except RecursionError:
        raise ValueError("not TOML: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not TOML: {error}") from None
