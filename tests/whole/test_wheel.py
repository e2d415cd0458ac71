"""What `pip install salsa-agent` brings: the wheel's metadata, its commands in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from salsa_agent import __version__
from tests.lab.package import build_dist, versioned
from tests.lab.run import PROJECT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that are under version control, or would be, without what builds leave behind."""
    return versioned(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build_dist(source, "wheel", source.parent / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the wheel, which finds the libraries of the tests' environment."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    site = next(venv.glob("lib/python3*/site-packages"))
    install = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(venv / "bin/python")]
    subprocess.run([*install, "install", "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)
    libraries = next(path for path in map(Path, sys.path) if (path / "dbus_next").is_dir())
    for name in ("dbus_next", "dns", "pyroute2", "spftrace"):
        (site / name).symlink_to(libraries / name)
    yield venv


def test_metadata_is_valid_and_names_the_licence_by_its_expression(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"salsa_agent-{__version__}.dist-info"
        metadata = Metadata.from_email(archive.read(f"{info}/METADATA"), validate=True)
        assert f"{info}/licenses/LICENSE" in archive.namelist()
        names = archive.namelist()
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.version.public == __version__
    assert metadata.description_content_type == "text/markdown"
    assert metadata.classifiers
    assert {name.split("/")[0] for name in names} == {"salsa_agent", info, f"salsa_agent-{__version__}.data"}


def test_metadata_names_the_pythons_that_the_program_runs_on(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"salsa_agent-{__version__}.dist-info/METADATA")
    metadata = Metadata.from_email(text, validate=True)
    named = {one.rpartition(" ")[2] for one in metadata.classifiers or () if one.startswith("Programming Language")}
    assert metadata.requires_python is not None
    for minor in range(9, 17):
        assert (f"3.{minor}" in named) == metadata.requires_python.contains(f"3.{minor}.1"), minor


def test_upper_bounds_are_those_that_a_test_shows_the_reason_of() -> None:
    """dbus-next: tests/parts/bus/test_codec.py; pyroute2: tests/parts/netlink/test_kernel_socket.py; Python: below."""
    asked = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    bounded = {
        one.name for one in map(Requirement, asked["dependencies"])
        if any(specifier.operator not in (">=", "!=") for specifier in one.specifier)
    }  # fmt: skip
    assert bounded == {"dbus-next", "pyroute2"}
    without = (
        "import typing, warnings; warnings.simplefilter('ignore'); vars(typing).pop('no_type_check_decorator', None); "
        "vars(typing).pop('__getattr__', None); import dbus_next"
    )
    said = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60, check=False)
    assert "no_type_check_decorator" in said.stderr, "dbus-next can be imported on Python 3.15: requires-python"


@pytest.mark.parametrize(
    "argv", [["bin/salsa-agent"], ["bin/salsactl"], ["bin/python", "-m", "salsa_agent"]], ids=lambda argv: argv[-1]
)
def test_the_wheel_s_commands_work_in_an_environment_of_their_own(installed: Path, argv: list[str]) -> None:
    done = subprocess.run(
        [str(installed / argv[0]), *argv[1:], "--version"],
        cwd=installed, capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{__version__}\n")
    assert "__main__" not in done.stdout


def test_python_m_is_the_command(installed: Path) -> None:
    argv = [str(installed / "bin/python"), "-m", "salsa_agent", "--help"]
    said = subprocess.run(argv, cwd=installed, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("usage: salsa-agent ")


def install_files(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed / "bin/salsactl"), "install-files", *words],
        cwd="/", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_install_files_places_what_run_install_places_beside_the_program(installed: Path, tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    done = install_files(installed, str(root))
    assert (done.returncode, done.stderr) == (0, "")
    placed = {line.removeprefix(f"{root}/") for line in done.stdout.splitlines()}
    assert placed == {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    staged = subprocess.run(
        ["sh", str(PROJECT / "run"), "install"], check=False, capture_output=True, text=True, timeout=240,
        env={**os.environ, "DESTDIR": str(other), "PREFIX": "/usr/local"},
    )  # fmt: skip
    assert staged.returncode == 0, staged.stderr
    theirs = {str(path.relative_to(other)) for path in other.rglob("*") if not path.is_dir() or path.is_symlink()}
    program = {name for name in theirs if name.startswith(("usr/local/lib/salsa-agent/", "usr/local/bin/"))}
    assert placed == theirs - program
    for name in placed:
        ours, its = (root / name).read_bytes(), (other / name).read_bytes()
        if not name.endswith((".service", ".gz")) or "system-services" in name:
            assert ours == its, name
        assert (root / name).stat().st_mode == (other / name).stat().st_mode, name


def test_install_files_has_the_unit_start_this_program(installed: Path, tmp_path: Path) -> None:
    assert install_files(installed, str(tmp_path)).returncode == 0
    again = install_files(installed, "--json", str(tmp_path))  # an update
    unit = tmp_path / "usr/local/lib/systemd/system/salsa-agent.service"
    assert str(unit) in json.loads(again.stdout)["files"]
    lines = unit.read_text().splitlines()
    assert f"ExecStart={installed}/bin/salsa-agent --bus system" in lines
    assert f"ExecReload={installed}/bin/salsa-agent --check-config" in lines
    assert f"{installed}/bin/salsactl " in unit.with_name("salsa-metrics.service").read_text()


def test_install_files_says_what_is_in_its_way(installed: Path, tmp_path: Path) -> None:
    packaged = tmp_path / "usr/lib/systemd/system/salsa-agent.service"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    refused = install_files(installed, str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr == f"salsactl: a package has its own files here ({packaged}); remove it first\n"
    assert not (tmp_path / "etc").exists()
    missing = install_files(installed, str(tmp_path / "nowhere"))
    assert (missing.returncode, missing.stderr) == (1, f"salsactl: {tmp_path}/nowhere is no directory\n")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "usr").touch()
    failed = install_files(installed, str(blocked))
    assert failed.returncode == 1
    assert failed.stderr.startswith("salsactl: cannot write ")
    checkout = subprocess.run(
        [sys.executable, "-S", "-c", "from salsa_agent.oneshot import own_files as o; from pathlib import Path\n"
         "try: list(o.place(Path('/nowhere'), Path('/x')))\nexcept o.NotPlaced as error: print(error)"],
        cwd=PROJECT, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert checkout.stdout.startswith("this program was not installed by pip; ")


def test_the_source_distribution_is_the_whole_tree(source: Path) -> None:
    archive = build_dist(source, "sdist", source.parent / "dist")
    with tarfile.open(archive) as opened:
        got = {name.partition("/")[2] for name in opened.getnames()}
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    made = {path for path in files if path.startswith(("build/", "salsa_agent.egg-info/"))}
    assert files - made - {".gitignore"} <= got


def test_wheel_and_source_distribution_are_the_same_bytes_each_time(source: Path, tmp_path: Path) -> None:
    """From another directory, with files of another age and mode, under another umask."""
    built: list[dict[str, bytes]] = []
    for number in range(2):
        tree = tmp_path / f"tree{number}"
        shutil.copytree(source, tree, ignore=shutil.ignore_patterns("build", "*.egg-info", "dist"))
        if number:
            for path in tree.rglob("*"):
                os.utime(path, (1e9, 1e9))
                if path.is_file():
                    path.chmod(path.stat().st_mode | 0o060)
        done = subprocess.run(
            ["sh", "run", "dist"], cwd=tree, check=False, capture_output=True, text=True, timeout=240,
            umask=0o077 if number else 0o022, env={**os.environ, "SALSA_VENV": sys.prefix},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        built.append({path.name: path.read_bytes() for path in (tree / "dist").iterdir()})
    assert set(built[0]) == {f"salsa_agent-{__version__}-py3-none-any.whl", f"salsa_agent-{__version__}.tar.gz"}
    assert built[0] == built[1]
