"""The core passes the test vectors that are made from the rules, and the vectors keep to their format."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.core.test_rules_document import RULES
from tests.core.vectors import FOLDER, Run, Vector, comparable, in_any_order, vectors

ALL = list(vectors())
README = (FOLDER / "README.md").read_text()
KEYS = {"name", "rule", "host", "config", "zones", "authenticated", "relays", "link_relays", "expect"}
COVERED = [f"{group}{number}" for group, last in (("A", 4), ("B", 7), ("C", 9)) for number in range(1, last + 1)]


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['rule']}: {v['name']}") for _, v in ALL])
def test_conformance(vector: Vector) -> None:
    expected = in_any_order(vector["expect"])
    assert comparable(Run(vector).result(), expected) == expected


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_the_second_implementation_passes_every_vector(path: Path) -> None:
    """`salsa.pl` needs nothing but perl, which every Debian has, and knows nothing of what is expected."""
    done = subprocess.run(["perl", FOLDER / "salsa.pl", path], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    results = {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}
    wrong = {}
    for vector in json.loads(path.read_text()):
        expected = in_any_order(vector["expect"])
        result = comparable(results[vector["name"]], expected)
        if result != expected:
            wrong[vector["name"]] = (result, expected)
    assert wrong == {}


def test_there_are_vectors_for_every_rule_of_addresses_ladder_list_and_best_relay() -> None:
    assert {vector["rule"] for _, vector in ALL} == {*COVERED, "D2", "D3", "D4"} <= set(RULES)
    assert len(ALL) >= 150


def test_every_vector_has_a_name_of_its_own_and_stands_in_the_file_of_its_rule() -> None:
    names = [vector["name"] for _, vector in ALL]
    assert len(set(names)) == len(names)
    assert all(file.split("-")[0] == vector["rule"][0].lower() for file, vector in ALL)


def test_vectors_keep_to_the_format_that_the_readme_documents() -> None:
    for _, vector in ALL:
        assert {"name", "rule", "host", "expect"} <= vector.keys() <= KEYS
        assert vector["expect"]
    used = {key for _, vector in ALL for part in (vector, vector["expect"], vector.get("config", {})) for key in part}
    documented = set(re.findall(r"`([a-z_]+(?:\.[a-z0-9_]+)?)`", README))
    assert used - documented == set()
