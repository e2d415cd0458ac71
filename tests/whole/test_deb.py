"""The Debian package: built, judged by lintian (`./run deb` fails otherwise), and a life of it on a booted system."""

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
from tests.lab.package import copy_project, debian_package, in_checkout, lay_out, origins
from tests.lab.run import PROJECT
from tests.lab.site import HOST, RELAY, SERVER, Site

OBJECT = ("org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1")
UNIT = "salsa-agent.service"
# what is no file, what dpkg, the journal and the accounts keep, and what tests beside this one lay below the overlay
NOT_OURS = (
    r"^/(proc|sys|dev|run|tmp|root/|var/(lib/dpkg|log|cache|backups|tmp)|"
    r"etc/(passwd|shadow|group|gshadow)-?$|etc/netns)"
)
# all files, without looking into those directories; names are printed without what is no UTF-8
PRUNED = r"\( -path /proc -o -path /tmp -o -path /root -o -path /run -o -path /var/log \) -prune"
FIND = f"find / -xdev {PRUNED} -o -print | iconv -c -f UTF-8 -t UTF-8"

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("boot")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian_package(tmp_path_factory)


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as its own successor."""
    tree = tmp_path_factory.mktemp("newer") / "unpacked"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {__version__}", "Version: 99"))
    built = tree.parent / "newer.deb"
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
    shutil.copy(package.with_name(f"salsa-agent-desktop_{__version__}_all.deb"), files / "root/desktop.deb")
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
    found = machine.run("sh", "-c", f"{FIND} | grep -avE '{NOT_OURS}'", timeout=120)
    return set(found.splitlines())


def below() -> set[str]:
    """What is on the machine below the overlay, where others may work meanwhile."""
    # names of files are bytes: somebody's tests may have made some that are no UTF-8
    return set(subprocess.run(["sh", "-c", FIND], capture_output=True, timeout=120).stdout.decode().splitlines())


def accounts(machine: Booted) -> str:
    return machine.run("cat", "/etc/passwd", "/etc/group")


def test_deb_needs_no_certain_python_and_no_architecture(package: Path) -> None:
    said = subprocess.run(["dpkg-deb", "-I", str(package)], check=True, capture_output=True, text=True).stdout
    assert "Architecture: all" in said
    assert "python3 (>= 3.11)" in said
    assert "python3 (<<" not in said
    libraries = [one for one in said.split("Depends: ")[1].split("\n")[0].split(", ") if one.startswith("python3-")]
    assert libraries[:2] == ["python3-dbus-next (>= 0.2.3)", "python3-dbus-next (<< 0.2.4~)"], "the version is pinned"
    assert all(one.startswith("python3-dnspython (>= ") for one in libraries[2:])
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], check=True, capture_output=True, text=True).stdout
    assert "cpython" not in listed
    assert ".so" not in listed


def test_deb_is_built_without_a_network_and_to_the_same_bytes(package: Path, tmp_path: Path) -> None:
    tree = tmp_path / "elsewhere"
    copy_project(tree)
    build = "umask 077; exec unshare --net ./run deb"
    environment = {**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build"), "TZ": "Asia/Tokyo"}
    subprocess.run(["sh", "-c", build], cwd=tree, check=True, env=environment, timeout=240)
    assert (tree / "dist" / package.name).read_bytes() == package.read_bytes()


def test_deb_brings_tests_that_are_there() -> None:
    """tests/whole/test_deb_releases.py runs them."""
    directory = PROJECT / "debian/tests"
    named = re.findall(r"^Tests: (.*)$", (directory / "control").read_text(), re.MULTILINE)
    assert {path.name for path in directory.iterdir() if os.access(path, os.X_OK)} == set(named)


def test_deb_has_what_the_readme_links_to(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], check=True, capture_output=True, text=True).stdout
    links = re.findall(r"\]\(([^):#]+)[^):]*\)", (PROJECT / "README.md").read_text())
    assert "docs/laptop.md" in links
    for link in links:
        assert f" ./usr/share/doc/salsa-agent/{link}\n" in listed, link
    assert " ./usr/share/doc/salsa-agent/examples/tray.py\n" in listed


def test_deb_of_the_desktop_starts_tray_and_notifications_with_the_session(machine: Booted) -> None:
    before, people = files(machine), accounts(machine)
    dpkg(machine, "--install", "/root/salsa.deb", "/root/desktop.deb")
    assert machine.run("systemctl", "--global", "is-enabled", "salsa-notify.service").strip() == "enabled"
    places = {
        "tray.py": "/usr/libexec/salsa-agent-desktop/tray",
        "notify.py": "/usr/libexec/salsa-agent-desktop/notify",
        "icons/salsa-relay-ok.svg": "/usr/share/icons/hicolor/scalable/status/salsa-relay-ok.svg",
    }
    for name, place in places.items():
        assert machine.run("cat", place) == (PROJECT / "examples" / name).read_text()
    started = machine.run("grep", "-h", "^Exec", "/etc/xdg/autostart/salsa-tray.desktop").strip().partition("=")[2]
    assert started == places["tray.py"]
    assert "there is no display" in machine.result("env", "-u", "DISPLAY", started, timeout=60).stdout
    assert f"ExecStart={places['notify.py']}" in machine.run("cat", "/usr/lib/systemd/user/salsa-notify.service")
    theme = (
        "import gi; gi.require_version('Gtk', '3.0'); from gi.repository import Gtk; "
        "t = Gtk.IconTheme(); t.set_custom_theme('hicolor'); print(t.has_icon('salsa-relay-failed'))"
    )
    assert machine.run("python3", "-c", theme, timeout=60).strip().endswith("True")
    dpkg(machine, "--purge", "salsa-agent-desktop", "salsa-agent")
    assert sorted(files(machine) - before - below()) == []
    assert accounts(machine) == people


def test_deb_is_installed_upgraded_removed_and_leaves_nothing(machine: Booted) -> None:
    before, people = files(machine), accounts(machine)

    dpkg(machine, "--install", "/root/salsa.deb")
    machine.until(lambda: machine.show(UNIT, "ActiveState") == "active", "the service is started")
    assert machine.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert machine.show("salsa-metrics.timer", "ActiveState") == "inactive"
    assert machine.run("systemctl", "is-enabled", "salsa-metrics.timer", check=False).strip() == "disabled"
    machine.run("test", "-h", "/etc/systemd/system/dbus-org.salsa.Agent1.service")  # a call may start it
    assert machine.run("busctl", "get-property", *OBJECT, "BestRelay").strip() == f's "{RELAY}"'
    assert machine.run("salsactl", "best").strip() == f"{RELAY}:25"
    assert machine.run("sh", "-c", "ls /usr/lib/salsa-agent/salsa_agent/core/__pycache__").count(".pyc") > 5, "compiled"
    assert "salsa-agent" in accounts(machine)
    assert machine.show(UNIT, "NRestarts") == "0", "the bus knew the user when the service was started"
    for command in ("salsa-agent", "salsactl"):
        assert machine.run("head", "-n", "1", f"/usr/bin/{command}") == "#!/usr/bin/python3 -IS\n"
    assert origins(machine)["dbus_next"] == "/usr/lib/python3/dist-packages"
    assert origins(machine)["pyroute2"] == "/usr/lib/salsa-agent"
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


def test_deb_purge_spares_an_account_that_it_did_not_make(machine: Booted) -> None:
    """Somebody of that name lost the account."""
    machine.run("useradd", "--comment", "Sal S. Agent", "--shell", "/bin/sh", "salsa-agent")
    try:
        people = accounts(machine)
        dpkg(machine, "--install", "/root/salsa.deb")
        dpkg(machine, "--purge", "salsa-agent")
        assert accounts(machine) == people
    finally:
        machine.run("userdel", "salsa-agent")


def test_deb_purge_does_not_fail_where_the_user_cannot_be_removed(machine: Booted) -> None:
    dpkg(machine, "--install", "/root/salsa.deb")
    machine.run("systemd-run", "--unit=held", "--property=User=salsa-agent", "sleep", "600")
    try:
        machine.until(lambda: "sleep" in machine.run("ps", "-u", "salsa-agent", check=False), "somebody is this user")
        said = machine.run("dpkg", "--purge", "salsa-agent", timeout=120)
        assert "its user is left; to remove it, type: userdel salsa-agent" in said
    finally:
        machine.run("systemctl", "stop", "held.service")
    machine.run("userdel", "salsa-agent")


@pytest.fixture(scope="module")
def checkout(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A machine with the package at hand and a copy of the project, whose libraries are there: it has no network."""
    files = tmp_path_factory.mktemp("checkout")
    lay_out(files / "root")
    shutil.copy(package, files / "root/salsa.deb")
    with Booted(files) as booted:
        booted.run("rm", "-f", "/usr/sbin/policy-rc.d")
        yield booted


def salsa(machine: Booted) -> str:
    """What is installed (others may work below the overlay, and have names like ours in /etc/netns)."""
    return machine.run("find", "/usr", "/etc/dbus-1", "/etc/systemd", "-path", "*salsa*")


def active(machine: Booted) -> bool:
    return machine.show(UNIT, "ActiveState") == "active"


def test_install_starts_an_agent_that_runs_again_and_spares_the_package(checkout: Booted) -> None:
    people = accounts(checkout)
    done = in_checkout(checkout, "install")
    assert (done.returncode, "systemctl enable --now salsa-agent" in done.stdout) == (0, True), done.stdout
    checkout.run("systemctl", "enable", "--now", UNIT)
    first = checkout.show(UNIT, "MainPID")
    assert first != "0"

    done = in_checkout(checkout, "install")
    assert (done.returncode, "was started again" in done.stdout) == (0, True), done.stdout
    checkout.until(lambda: active(checkout) and checkout.show(UNIT, "MainPID") not in ("0", first), "the new one runs")

    said = checkout.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/root/salsa.deb", timeout=120)
    assert "remove it with './run uninstall'" in said
    before = salsa(checkout)
    done = in_checkout(checkout, "install")
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "remove it first: apt-get purge salsa-agent" in done.stdout
    assert salsa(checkout) == before

    done = in_checkout(checkout, "uninstall")
    assert (done.returncode, "keeps its user and its service" in done.stdout) == (0, True), done.stdout
    assert "salsa-agent" in accounts(checkout)
    checkout.until(lambda: active(checkout), "the package's agent runs")
    assert checkout.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert "/usr/local" not in checkout.show(UNIT, "FragmentPath")
    assert checkout.run("find", "/usr/local", "-path", "*salsa*") == ""
    wanted = "/etc/systemd/system/multi-user.target.wants/salsa-agent.service"
    checkout.run("test", "-e", wanted)  # a link whose file is there

    dpkg(checkout, "--remove", "salsa-agent")
    assert in_checkout(checkout, "install").returncode == 1, "its purge would take the user away"
    dpkg(checkout, "--purge", "salsa-agent")
    assert in_checkout(checkout, "install").returncode == 0
    assert in_checkout(checkout, "uninstall").returncode == 0
    assert accounts(checkout) == people
    checkout.run("useradd", "--comment", "Sal S. Agent", "salsa-agent")
    people = accounts(checkout)
    assert in_checkout(checkout, "install").returncode == 0
    assert in_checkout(checkout, "uninstall").returncode == 0
    assert accounts(checkout) == people, "somebody's own"
