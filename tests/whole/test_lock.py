"""requirements/*.txt: each library that pyproject.toml asks for stands there in one version, by its files' hashes."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.lab.run import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def wanted(extra: str) -> list[Requirement]:
    """The libraries of the program, with those of this extra."""
    names = list(PYPROJECT["dependencies"])
    for one in PYPROJECT["optional-dependencies"].get(extra, []):
        match = re.fullmatch(r"salsa-agent\[(\w+)\]", one)
        names += PYPROJECT["optional-dependencies"][match[1]] if match else [one]
    return [Requirement(name) for name in names]


@pytest.mark.parametrize("extra", ["run", "test", "fleet", "fuzz"])
def test_the_lock_holds_what_is_wanted_and_nothing_without_a_hash(extra: str) -> None:
    text = (PROJECT / "requirements" / f"{extra}.txt").read_text()
    pinned = {name: version for name, version, _ in PINNED.findall(text)}
    assert PINNED.sub("", text).strip() == "", "each line is a version with its hashes"
    for requirement in wanted(extra):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), f"{requirement}: type ./run lock"
