"""What is built of this tree, for tests that install it: the Debian package, the wheel, the source distribution."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from salsa_agent import __version__
from tests.lab.booted import Booted
from tests.lab.run import PROJECT, run

# A package asks for the libraries of the release on which it was built: from 13 none goes onto 12 (docs/packagers.md).
FOR_12 = platform.freedesktop_os_release().get("VERSION_CODENAME") != "trixie"


def copy_project(tree: Path) -> None:
    """The project, without its tests (debian/tests are the package's)."""
    beside = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")

    def ignored(where: str, names: list[str]) -> set[str]:
        return beside(where, names) | ({"tests"} if where == str(PROJECT) else set())

    shutil.copytree(PROJECT, tree, ignore=ignored)


def debian_package(factory: pytest.TempPathFactory) -> Path:
    """The package that `./run deb` builds, in a copy of the tree; one build for all processes of this run."""
    common = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    directory = factory.getbasetemp().parent / f"deb-{common}" if common else factory.getbasetemp() / "deb"
    directory.mkdir(exist_ok=True)
    built = directory / f"tree/dist/salsa-agent_{__version__}_all.deb"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            shutil.rmtree(directory / "tree", ignore_errors=True)
            copy_project(directory / "tree")
            run("deb", cwd=directory / "tree")
    return built


def lay_out(root: Path) -> None:
    """Below /root of a machine to be booted: the project, and what it needs to install itself without a network."""
    root.mkdir(mode=0o700, exist_ok=True)
    copy_project(root / "project")
    (root / "venv/bin").mkdir(parents=True)
    (root / "venv/bin/python").symlink_to("/usr/bin/python3")
    for libraries in (PROJECT / "build").glob("libraries-*"):
        shutil.copytree(libraries, root / "cache" / libraries.name)


def in_checkout(machine: Booted, verb: str) -> subprocess.CompletedProcess[str]:
    """`./run VERB` in the project of `lay_out`."""
    words = f"cd /root/project && SALSA_VENV=/root/venv SALSA_CACHE=/root/cache exec ./run {verb}"
    return machine.result("sh", "-c", words, timeout=240)


def origins(machine: Booted) -> dict[str, str]:
    """From which directory the installed commands take each of their libraries."""
    found: set[tuple[str, ...]] = set()
    for command in ("salsa-agent", "salsactl"):
        launcher = machine.run("cat", f"/usr/bin/{command}")
        assert launcher.startswith("#!/usr/bin/python3 -IS\n")
        path = launcher.partition("from salsa_agent")[0]
        words = f"{path}\nimport dbus_next, dns, pyroute2, spftrace, salsa_agent\n"
        words += "for module in dbus_next, dns, pyroute2, spftrace, salsa_agent: print(*module.__path__)"
        found.add(tuple(machine.run("python3", "-IS", "-W", "ignore", "-c", words).split()))
    assert len(found) == 1
    return {Path(path).name: str(Path(path).parent) for path in found.pop()}


def versioned(tree: Path) -> Path:
    """A copy of the files that are under version control, or would be, without what builds leave behind."""
    tree.mkdir()
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((PROJECT / name).read_bytes())
            (tree / name).chmod((PROJECT / name).stat().st_mode & 0o755)
    return tree


def build_dist(tree: Path, kind: str, to: Path) -> Path:
    """Build a `wheel` or an `sdist` with the tests' own setuptools; its file."""
    words = f"from setuptools.build_meta import build_{kind} as build; import sys; print(build(sys.argv[1]))"
    to.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", words, str(to)], cwd=tree, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]
