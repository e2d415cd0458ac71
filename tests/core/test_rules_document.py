"""docs/rules.md: whatever cites a rule cites one that stands there; SECURITY.md: the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_the_rules_stand_in_order_and_once() -> None:
    assert len(RULES) > 40
    assert sorted(RULES, key=lambda rule: (rule[0], int(rule[1:]))) == RULES
    assert len(set(RULES)) == len(RULES)


def test_every_rule_that_is_cited_stands_in_the_document() -> None:
    assert {rule: sorted(files) for rule, files in cited().items() if rule not in RULES} == {}


def test_each_rule_names_its_code_and_its_tests() -> None:
    text = DOCUMENT.read_text()
    for rule in RULES:
        section = re.split(r"^##", text.partition(f"\n### {rule}. ")[2], maxsplit=1, flags=re.MULTILINE)[0]
        code, _, tests = section.partition("\nCode: ")[2].partition("Tests: ")
        for part, names, cites in (
            ("salsa_agent", code, rf"\b{rule}\b"),
            ("tests", tests, f"def test_{rule.lower()}_"),
        ):
            files = re.findall(r"`(\S+\.py)`", names)
            assert files, (rule, part)
            assert [file for file in files if not re.search(cites, (PROJECT / part / file).read_text())] == [], rule


def test_every_rule_of_the_document_is_cited_by_code_and_by_a_test() -> None:
    found = cited()
    for path in (PROJECT / "tests").rglob("test_*.py"):
        for rule in re.findall(r"^(?:async )?def test_([a-h]\d{1,2})_", path.read_text(), re.MULTILINE):
            found.setdefault(rule.upper(), set()).add(str(path.relative_to(PROJECT)))
    for part in ("salsa_agent/", "tests/"):
        assert [rule for rule in RULES if not any(file.startswith(part) for file in found.get(rule, ()))] == [], part


def test_nothing_refers_to_a_document_that_is_not_here() -> None:
    """Rules are cited by their names, not as sections of a design that a reader does not have."""
    paths = [path for part in CITING for path in (PROJECT / part).rglob("*") if path.is_file() and path.suffix in TEXT]
    found = [str(path) for path in paths if re.search(r"design section|\.\./shared", path.read_text(errors="replace"))]
    assert [path for path in found if not path.endswith(Path(__file__).name)] == []


def test_the_document_has_a_link_to_each_of_its_groups() -> None:
    text = DOCUMENT.read_text()
    for heading in re.findall(r"^## (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        assert f"](#{anchor})" in text


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (PROJECT / "SECURITY.md").read_text())
    assert len(named) > 40
    assert [(f, t) for f, t in named if not re.search(rf"def {t}\(", (PROJECT / f).read_text())] == []


def test_every_line_of_the_threat_model_names_a_test() -> None:
    rows = re.findall(r"^\| .*", (PROJECT / "SECURITY.md").read_text(), re.MULTILINE)
    assert [row for row in rows if "`tests/" not in row and not re.search("cannot.*\\| test \\|$", row)] == []
