"""docs/rules.md and docs/architecture.md as maps of the code: no module that they should show is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.core.test_rules_document import CITATION, DOCUMENT, PROJECT, RULES

PACKAGE = PROJECT / "salsa_agent"
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text()
USERS = ("cli", "oneshot")  # they use rules that the modules of the agent carry out


def cited_at_first(path: Path) -> set[str]:
    """The rules in the first line of a module's docstring. Of "C1 to C5" these two: the others may be elsewhere."""
    return set(CITATION.findall((ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]))


ABOUT = {
    name: cited_at_first(path)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and (name := path.relative_to(PACKAGE)).parts[0] not in USERS
}


def code_of(rule: str) -> set[str]:
    """The modules that docs/rules.md names for a rule."""
    section = DOCUMENT.read_text().partition(f"\n### {rule}. ")[2].partition("\n##")[0]
    return set(re.findall(r"`(\S+\.py)`", section.partition("\nCode: ")[2].partition("Tests: ")[0]))


@pytest.mark.parametrize("rule", RULES)
def test_a_module_that_is_about_a_rule_stands_with_it(rule: str) -> None:
    about = {str(name) for name, rules in ABOUT.items() if rule in rules}
    assert about - code_of(rule) == set(), f"add them to the modules of {rule} in docs/rules.md"


def test_the_table_of_the_core_has_each_of_its_modules_and_packages() -> None:
    parts = {path.name for path in (PACKAGE / "core").glob("*.py")} - {"__init__.py"}
    parts |= {f"{path.parent.name}/" for path in (PACKAGE / "core").glob("*/__init__.py")}
    table = ARCHITECTURE.partition("| file in `core/` |")[2].partition("\n\n")[0]
    shown = {name for row in table.splitlines() for name in re.findall(r"`([a-z0-9_]+(?:\.py|/))`", row.split("|")[1])}
    assert shown == parts


def test_the_tree_of_packages_has_each_of_them() -> None:
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    tree = ARCHITECTURE.partition("\nsalsa_agent/\n")[2].partition("```")[0]
    assert set(re.findall(r"^  ([a-z]+/) ", tree, re.MULTILINE)) == packages
