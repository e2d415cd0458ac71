"""docs/rules.md: whatever cites a rule cites one that stands there; SECURITY.md: the tests that it names are there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENT = PROJECT / "docs" / "rules.md"
RULES = re.findall(r"^### ([A-H]\d{1,2})\. ", DOCUMENT.read_text(), re.MULTILINE)
CITATION = re.compile(r"(?<![\w.:/#%-])[A-H]\d{1,2}(?![\w-])")
CITING = (
    "salsa_agent",
    "dbus",
    "man",
    "docs",
    "networkmanager",
    "systemd",
    "examples",
    "completions",
    "tests",
    "demo",
    "scripts",
    "conformance",
)
TEXT = {"", ".py", ".md", ".xml", ".conf", ".toml", ".sh", ".service", ".1", ".5", ".8", ".bash", ".fish"}


def cited() -> dict[str, set[str]]:
    """The rules that are cited, each with the files that do so."""
    found: dict[str, set[str]] = {}
    paths = [PROJECT / "README.md", PROJECT / "CHANGELOG.md"]
    paths += [path for part in CITING for path in (PROJECT / part).rglob("*") if path.is_file() and path.suffix in TEXT]
    for path in paths:
        if "__pycache__" in path.parts or path == DOCUMENT:
            continue
        for rule in CITATION.findall(path.read_text()):
            found.setdefault(rule, set()).add(str(path.relative_to(PROJECT)))
    return found


def none_of(faults: Iterable[str]) -> None:
    """Fail with these lines, if there are any; each says what to do."""
    said = "\n".join(faults)
    if said:
        pytest.fail(said, pytrace=False)


def test_the_rules_stand_in_order_and_once() -> None:
    assert len(RULES) > 40, f"docs/rules.md: only {len(RULES)} headings have the form `### A1. Title`"
    for before, rule in pairwise(RULES):
        assert rule != before, f"{rule} stands twice in docs/rules.md: give the second one the next free number"
        in_order = (before[0], int(before[1:])) < (rule[0], int(rule[1:]))
        assert in_order, f"{rule} stands behind {before} in docs/rules.md: move it to its place in the order"


def test_every_rule_that_is_cited_stands_in_the_document() -> None:
    faults = [
        f"{rule} is cited in {', '.join(sorted(files))}, which docs/rules.md does not have: write it, or cite another"
        for rule, files in sorted(cited().items())
        if rule not in RULES
    ]
    none_of(faults)


def test_each_rule_names_its_code_and_its_tests() -> None:
    text = DOCUMENT.read_text()
    faults: list[str] = []
    for rule in RULES:
        section = re.split(r"^##", text.partition(f"\n### {rule}. ")[2], maxsplit=1, flags=re.MULTILINE)[0]
        code, tests = section.partition("\nCode: ")[2].partition("Tests: ")[0], section.partition("Tests: ")[2]
        test = f"def test_{rule.lower()}_"
        for word, folder, names, cites, cure in (
            ("Code", "salsa_agent", code, rf"\b{rule}\b", f"cite {rule} there"),
            ("Tests", "tests", tests, test, f"it has no test `{test}...`: write one"),
        ):
            files = re.findall(r"`(\S+\.py)`", names)
            if not files:
                faults.append(f"{rule}: docs/rules.md has no `{word}:` line with a file below {folder}/: add it")
            for file in files:
                path = PROJECT / folder / file
                if not path.exists():
                    faults.append(f"{rule}: docs/rules.md names {folder}/{file} after `{word}:`, which is not there")
                elif not re.search(cites, path.read_text()):
                    faults.append(f"{folder}/{file} is named for {rule} and does not cite it: {cure}, or take it out")
    none_of(faults)


def test_every_rule_of_the_document_is_cited_by_code_and_by_a_test() -> None:
    found = cited()
    for path in (PROJECT / "tests").rglob("test_*.py"):
        for rule in re.findall(r"^(?:async )?def test_([a-h]\d{1,2})_", path.read_text(), re.MULTILINE):
            found.setdefault(rule.upper(), set()).add(str(path.relative_to(PROJECT)))
    faults = [
        f"{rule} of docs/rules.md is cited nowhere below {part}: {cure}"
        for part, cure in (
            ("salsa_agent/", "cite it where the code carries it out"),
            ("tests/", "write a test that is named after it"),
        )
        for rule in RULES
        if not any(file.startswith(part) for file in found.get(rule, ()))
    ]
    none_of(faults)


def test_nothing_refers_to_a_document_that_is_not_here() -> None:
    """Rules are cited by their names, not as sections of a design that a reader does not have."""
    paths = [path for part in CITING for path in (PROJECT / part).rglob("*") if path.is_file() and path.suffix in TEXT]
    unknown = re.compile(r"design section|\.\./shared")
    faults = [
        f'{path.relative_to(PROJECT)} says "{found[0]}", which no reader has: cite the rule'
        for path in paths
        if path != Path(__file__) and (found := unknown.search(path.read_text(errors="replace")))
    ]
    none_of(faults)


def test_the_document_has_a_link_to_each_of_its_groups() -> None:
    text = DOCUMENT.read_text()
    for heading in re.findall(r"^## (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        assert f"](#{anchor})" in text, f"docs/rules.md: add [{heading}](#{anchor}) to the line `Contents:`"


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (PROJECT / "SECURITY.md").read_text())
    assert len(named) > 40, f"SECURITY.md: only {len(named)} tests have the form `tests/x.py::test_y`"
    faults = [
        f"SECURITY.md names {file}::{test}, which is not there: name the test as it is called now"
        for file, test in named
        if not (PROJECT / file).exists() or not re.search(rf"def {test}\(", (PROJECT / file).read_text())
    ]
    none_of(faults)


def test_every_line_of_the_threat_model_names_a_test() -> None:
    rows = re.findall(r"^\| .*", (PROJECT / "SECURITY.md").read_text(), re.MULTILINE)
    faults = [
        f"SECURITY.md: name the test that holds this line (`tests/x.py::test_y`): {row}"
        for row in rows
        if "`tests/" not in row and not re.search("cannot.*\\| test \\|$", row)
    ]
    none_of(faults)
