"""The Debian package: built, judged by lintian (`./run deb` fails otherwise), and a life of it on a booted system."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa_agent import __version__
from tests.lab.booted import Booted
from tests.lab.run import PROJECT, run
from tests.lab.site import HOST, RELAY, SERVER, Site

OBJECT = ("org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1")
UNIT = "salsa-agent.service"
# what is no file, what dpkg, the journal and the accounts keep, and what tests beside this one lay below the overlay
NOT_OURS = (
    r"^/(proc|sys|dev|run|tmp|var/(lib/dpkg|log|cache|backups)|root/|etc/(passwd|shadow|group|gshadow)-?$|etc/netns)"
)

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("boot")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("deb") / "tree"
    shutil.copytree(
        PROJECT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
    )
    run("deb", cwd=tree)
    return tree / f"dist/salsa-agent_{__version__}_all.deb"


@pytest.fixture(scope="module")
def newer(package: Path) -> Path:
    """The same package as its own successor."""
    tree = package.parent / "unpacked"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {__version__}", "Version: 99"))
    built = package.parent / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(built)], check=True, timeout=60
    )
    return built


@pytest.fixture(scope="module")
def machine(package: Path, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    files = tmp_path_factory.mktemp("files")
    (files / "root").mkdir(mode=0o700)
    (files / "etc").mkdir()
    shutil.copy(package, files / "root/salsa.deb")
    shutil.copy(newer, files / "root/newer.deb")
    (files / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    with Site() as site, Booted(files) as booted:
        booted.cable("wan0", site, "host0")
        site.plug("host0")
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        booted.run("rm", "-f", "/usr/sbin/policy-rc.d")  # this is a whole system, where services do start
        yield booted


def dpkg(machine: Booted, *argv: str) -> None:
    machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *argv, timeout=120)


def files(machine: Booted) -> set[str]:
    found = machine.run("sh", "-c", f"find / -xdev | grep -vE '{NOT_OURS}'")
    return set(found.splitlines())


def below() -> set[str]:
    """What is on the machine below the overlay, where others may work meanwhile."""
    return set(subprocess.run(["find", "/", "-xdev"], capture_output=True, text=True, timeout=60).stdout.splitlines())


def accounts(machine: Booted) -> str:
    return machine.run("cat", "/etc/passwd", "/etc/group")


def test_deb_needs_no_certain_python_and_no_architecture(package: Path) -> None:
    said = subprocess.run(["dpkg-deb", "-I", str(package)], check=True, capture_output=True, text=True).stdout
    assert "Architecture: all" in said
    assert "python3 (>= 3.11)" in said
    assert "python3 (<<" not in said
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], check=True, capture_output=True, text=True).stdout
    assert "cpython" not in listed
    assert ".so" not in listed


def test_deb_is_installed_upgraded_removed_and_leaves_nothing(machine: Booted) -> None:
    before, people = files(machine), accounts(machine)

    dpkg(machine, "--install", "/root/salsa.deb")
    machine.until(lambda: machine.show(UNIT, "ActiveState") == "active", "the service is started")
    assert machine.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    machine.run("test", "-h", "/etc/systemd/system/dbus-org.salsa.Agent1.service")  # a call may start it
    assert machine.run("busctl", "get-property", *OBJECT, "BestRelay").strip() == f's "{RELAY}"'
    assert machine.run("salsactl", "best").strip() == f"{RELAY}:25"
    assert machine.run("sh", "-c", "ls /usr/lib/salsa-agent/salsa_agent/core/__pycache__").count(".pyc") > 5, "compiled"
    assert "salsa-agent" in accounts(machine)
    first = machine.show(UNIT, "MainPID")

    dpkg(machine, "--install", "/root/newer.deb")
    machine.until(lambda: machine.show(UNIT, "MainPID") not in ("0", first), "the new version is started")
    machine.until(lambda: machine.show(UNIT, "ActiveState") == "active", "the new version is active")
    assert machine.run("busctl", "get-property", *OBJECT, "BestRelay").strip() == f's "{RELAY}"'

    dpkg(machine, "--remove", "salsa-agent")
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert machine.result("busctl", "get-property", *OBJECT, "BestRelay").returncode != 0
    dpkg(machine, "--purge", "salsa-agent")
    assert sorted(files(machine) - before - below()) == []
    assert sorted(before - files(machine)) == []
    assert accounts(machine) == people
    assert "salsa" not in machine.run("ls", "/run")
