"""The resolver with the oldest dnspython that pyproject.toml allows: that of Debian 13, whose package uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.lab.run import PROJECT
from tests.lab.trees import tree

# F2 is about servers and time, not about what is read
RUN = """
import dns.version, pytest, sys
print("dnspython", dns.version.version)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not f2 and not oldest", "tests/parts/resolver"]))
"""


@pytest.mark.timeout(300)
def test_resolver_reads_as_well_with_the_oldest_dnspython(tmp_path: Path) -> None:
    (tmp_path / "dns").symlink_to(tree("build-trixie") / "usr/lib/python3/dist-packages/dns")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=PROJECT, env={**environment, "PYTHONPATH": str(tmp_path)}, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    version = done.stdout.split()[1]
    wanted = map(Requirement, tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"])
    bound = next(str(one.specifier) for one in wanted if one.name == "dnspython")
    assert version.startswith(bound.removeprefix(">=")), f"{bound}, and tested was {version}"
