"""The core passes the test vectors that are made from the rules, and the vectors keep to their format."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.core.test_draft import DRAFT
from tests.core.test_rules_document import RULES
from tests.core.vectors import CORE, FOLDER, Vector, comparable, differences, in_any_order, vectors

KEY_WORD = re.compile(r"\*\*(?:MUST|SHOULD|MAY|RECOMMENDED|SHALL|REQUIRED)")

EVERY = list(vectors())
DECISIONS = [(file, vector) for file, vector in EVERY if "host" in vector]  # the others: tests/parts/smtp, .../resolver
README = (FOLDER / "README.md").read_text()
KEYS = {
    "name", "rule", "host", "config", "zones", "ttl", "authenticated", "relays", "link_relays", "silent", "nat",
    "fleet", "expect", "steps",
}  # fmt: skip
COVERED = [f"{group}{number}" for group, last in (("A", 4), ("B", 8), ("C", 9)) for number in range(1, last + 1)]


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['rule']}: {v['name']}") for _, v in DECISIONS])
def test_conformance(vector: Vector) -> None:
    assert differences(vector) == []


@pytest.mark.parametrize("path", [FOLDER / f"{name}.json" for name in CORE], ids=lambda path: path.stem)
def test_the_second_implementation_passes_every_vector_that_it_claims(path: Path) -> None:
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


def test_the_readme_says_which_vectors_the_second_implementation_claims() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)\.json` \|.*\| (yes|no) \|$", README, re.MULTILINE))
    assert rows.keys() == {file for file, _ in EVERY}
    assert {name for name, claimed in rows.items() if claimed == "yes"} == set(CORE)


def test_there_are_vectors_for_every_rule_of_addresses_ladder_list_and_best_relay() -> None:
    rules = {vector["rule"] for _, vector in EVERY}
    assert {
        *COVERED,
        "C11",
        "D1",
        "D2",
        "D3",
        "D4",
        "D5",
        "D6",
        "D7",
        "D9",
        "D10",
        "E1",
        "E2",
        "E5",
        "E6",
        "F1",
    } <= rules
    assert rules <= set(RULES)
    assert len(EVERY) >= 390


def test_every_vector_has_a_name_of_its_own_and_stands_in_the_file_of_its_rule() -> None:
    names = [vector["name"] for _, vector in EVERY]
    assert len(set(names)) == len(names)
    for file, vector in EVERY:
        assert file == "f-answers" or file.split("-")[0] == vector["rule"][0].lower(), vector["name"]


def test_vectors_keep_to_the_format_that_the_readme_documents() -> None:
    for _, vector in DECISIONS:
        assert {"name", "rule", "host"} <= vector.keys() <= KEYS
        assert vector.get("expect") or vector.get("steps")
    parts = [
        part
        for _, vector in EVERY
        for whole in (vector, *vector.get("steps", ()))
        for part in (whole, whole.get("expect", {}), whole.get("config", {}))
    ]
    documented = set(re.findall(r"`([a-z_]+(?:\.[a-z0-9_]+)?)`", README))
    assert {key for part in parts for key in part} - documented == set()


# --- the draft


def sentences() -> dict[str, str]:
    """The normative sentences of the draft, by their numbers."""
    body = DRAFT.partition("{mainmatter}")[2].partition("<reference")[0]
    text = re.sub(r"^~~~$.*?^~~~$|^\|.*?$|^The key words .*?\n\n", "\n\n", body, flags=re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n|\n(?=\* |\d\. |:)", text):
        for sentence in re.split(r"(?<=\.)\s+(?=[A-Z*])", " ".join(paragraph.split())):
            *_, last = KEY_WORD.split(sentence)
            if last == sentence:
                continue
            assert re.search(r"\(S\d+\)", last), f"a normative sentence without a number: {sentence}"
            for number in re.findall(r"\(S(\d+)\)", sentence):
                assert found.setdefault(f"S{number}", sentence) == sentence, f"S{number} stands twice"
    return found


def test_every_normative_sentence_of_the_draft_has_a_number_of_its_own_and_vectors() -> None:
    found = sentences()
    mapped: dict[str, list[str]] = json.loads((FOLDER / "sentences.json").read_text())
    assert found.keys() == mapped.keys()
    names = {vector["name"] for _, vector in EVERY}
    for sentence, tested_by in mapped.items():
        assert tested_by, sentence
        assert set(tested_by) <= names, sentence
    assert len(found) == 93


def test_every_number_that_the_draft_cites_is_that_of_a_sentence() -> None:
    body = DRAFT.partition("{mainmatter}")[2].partition("<reference")[0]
    cited = {number for group in re.findall(r"\((S\d+(?:, S\d+)*)\)", body) for number in group.split(", ")}
    assert cited == sentences().keys()
