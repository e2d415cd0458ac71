"""contrib/rpm: built by the real rpmbuild, judged by rpmlint, and a life of the package on a booted system.

That system is this machine's, a Debian, which has rpm beside its own packages; `--nodeps` stands for rpm's database not
knowing what Debian's knows, contrib/rpm/macros.debian for systemd's macros.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa_agent import __version__
from tests.lab.booted import Booted
from tests.lab.package import build_dist, versioned
from tests.lab.run import PROJECT
from tests.lab.site import HOST, RELAY, SERVER, Site

KIT = PROJECT / "contrib/rpm"
SPEC = (KIT / "salsa-agent.spec").read_text()
LOCK = re.findall(r"^(\S+)==(\S+) ", (PROJECT / "requirements/run.txt").read_text(), re.MULTILINE)
UNIT = "salsa-agent.service"
# what an administrator's machine may get: programs, units, policies, documents; no configuration, no state
PLACES = (
    r"/usr/(bin/salsa|lib/(salsa-agent$|salsa-agent/|systemd/system/salsa|sysusers\.d/salsa|NetworkManager/)|share/"
    r"(doc/salsa-agent|licenses/salsa-agent|man/man[158]/salsa|dbus-1/|bash-completion/|zsh/|fish/))"
)

pytestmark = pytest.mark.timeout(300)


def rpm(*argv: object) -> str:
    return subprocess.run(["rpm", *map(str, argv)], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of rpmbuild, with the sources, as the README says."""
    made = tmp_path_factory.mktemp("rpm")
    build_dist(versioned(made / "tree"), "sdist", made / "SOURCES")
    shutil.copy(PROJECT / "systemd/salsa-agent.sysusers.conf", made / "SOURCES")
    cached = PROJECT / os.environ.get("SALSA_CACHE", "build") / "wheels"
    (line,) = re.findall(r"^pip (download .* -r requirements/run\.txt) -d \S+$", (KIT / "README.md").read_text(), re.M)
    if not all(list(cached.glob(f"{name.replace('-', '_')}-{version}-*.whl")) for name, version in LOCK):
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        if subprocess.run([*pip, *line.split(), "-d", str(cached)], check=False, cwd=PROJECT, timeout=120).returncode:
            pytest.skip("needs index: the wheels of the libraries are not to be had")  # in a network namespace none is
    for name, version in LOCK:
        shutil.copy(next(cached.glob(f"{name.replace('-', '_')}-{version}-*.whl")), made / "SOURCES")
    return made


def build(top: Path, *options: str) -> Path:
    """Build the package by the README's commands for a Debian, without a network; its file."""
    (block,) = re.findall(r"^```sh debian\n(.*?)\n```$", (KIT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    words = ["unshare", "--net", "sh", "-euc", f'{block} "$@"', "sh", "--define", f"_topdir {top}", *options]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(top)}
    done = subprocess.run(
        words, cwd=top / "tree", env=environment, check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Path(re.findall(r"^Wrote: (.*\.noarch\.rpm)$", done.stdout, re.MULTILINE)[-1])


@pytest.fixture(scope="module")
def package(top: Path) -> Path:
    return build(top)


@pytest.fixture(scope="module")
def newer(top: Path, package: Path) -> Path:
    return build(top, "--define", "dist .newer")


def test_spec_has_the_version_and_the_libraries_of_the_lock() -> None:
    assert re.findall(r"^Version: +(.*)$", SPEC, re.MULTILINE) == [__version__]
    assert re.findall(r"^Source\d+: +(\S+)-(\S+)-py3-none-any\.whl$", SPEC, re.MULTILINE) == [
        (name.replace("-", "_"), version) for name, version in LOCK
    ]
    assert re.findall(r"^Provides: +bundled\(python3dist\((\S+)\)\) = (\S+)$", SPEC, re.MULTILINE) == LOCK


@pytest.mark.needs("namespaces")
def test_rpm_has_what_it_should_and_nothing_beside(package: Path) -> None:
    files = rpm("-qpl", package).splitlines()
    assert [file for file in files if not re.match(PLACES, file)] == []
    for file in (
        "bin/salsa-agent", "bin/salsactl", "lib/systemd/system/salsa-agent.service", "lib/sysusers.d/salsa-agent.conf",
        "share/dbus-1/system.d/org.salsa.Agent1.conf", "share/dbus-1/system-services/org.salsa.Agent1.service",
        "share/man/man1/salsactl.1.gz", "share/man/man5/salsa-agent.toml.5.gz", "share/man/man8/salsa-agent.8.gz",
        "share/bash-completion/completions/salsactl", "share/zsh/site-functions/_salsactl",
        "share/fish/vendor_completions.d/salsactl.fish", "lib/NetworkManager/dispatcher.d/no-wait.d/90-salsa-agent",
    ):  # fmt: skip
        assert f"/usr/{file}" in files
    scripts = rpm("-qp", "--scripts", package)
    order = [
        "preinstall",
        "systemd-sysusers",
        "u salsa-agent",
        "postinstall",
        "preset",
        "preuninstall",
        "disable --now",
    ]
    places = [scripts.index(word) for word in [*order, "postuninstall", "try-restart"]]
    assert places == sorted(places), scripts
    assert not re.search("%[a-z{]", scripts), "every macro is known"
    assert "/usr/bin/python3\n" in rpm("-qp", "--requires", package)


@pytest.mark.needs("namespaces")
def test_rpmlint_finds_no_fault(package: Path) -> None:
    argv = ["rpmlint", "--config", str(KIT / "rpmlint.toml"), str(KIT / "salsa-agent.spec"), str(package)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert re.search(r"1 packages and 1 specfiles checked; 0 errors, 0 warnings", done.stdout), done.stdout


@pytest.fixture(scope="module")
def machine(package: Path, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    files = tmp_path_factory.mktemp("files")
    (files / "root").mkdir(mode=0o700)
    (files / "etc").mkdir()
    shutil.copy(package, files / "root/salsa.rpm")
    shutil.copy(newer, files / "root/newer.rpm")
    (files / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    with Site() as site, Booted(files) as booted:
        booted.cable("wan0", site, "rpm0")
        site.plug("rpm0")
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        yield booted


@pytest.mark.needs("boot")
def test_rpm_is_installed_upgraded_and_removed(machine: Booted) -> None:
    install = ["rpm", "--nodeps"]
    if machine.result(*install, "--force-debian", "--version").returncode == 0:  # Debian 12 asks for it
        install.append("--force-debian")
    machine.run(*install, "--install", "/root/salsa.rpm", timeout=120)
    machine.run("systemctl", "start", UNIT)  # Fedora starts no service by itself, nor does this
    machine.until(lambda: machine.result("salsactl", "best").stdout == f"{RELAY}:25\n", "there is a relay")
    assert machine.show(UNIT, "NRestarts") == "0", "the bus knew the user when the service was started"
    first = machine.show(UNIT, "MainPID")
    assert "salsactl(1)" in machine.run("sh", "-c", "man -P cat salsactl | head -n 1 | tr A-Z a-z")

    machine.run(*install, "--upgrade", "/root/newer.rpm", timeout=120)
    machine.until(lambda: machine.show(UNIT, "MainPID") not in ("0", first), "the new version is started")
    machine.until(lambda: machine.result("salsactl", "best").stdout == f"{RELAY}:25\n", "there is a relay again")
    assert machine.run("rpm", "--query", "salsa-agent").strip() == f"salsa-agent-{__version__}-1.newer.noarch"

    listed = machine.run("rpm", "--query", "--list", "salsa-agent").splitlines()
    machine.run(*install, "--erase", "salsa-agent", timeout=120)
    assert machine.show(UNIT, "ActiveState") == "inactive"
    machine.run("systemctl", "daemon-reload")
    assert machine.show(UNIT, "LoadState") == "not-found"
    left = machine.run(
        "sh", "-c", 'while read -r file; do [ ! -e "$file" ] || echo "$file"; done', input="\n".join(listed)
    )
    ours = [file for file in left.splitlines() if "salsa" in file]
    assert (len(listed) > 100, ours) == (True, [])
