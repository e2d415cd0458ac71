"""`./run install` and `./run uninstall`, into a staging directory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from salsa_agent import __version__
from tests.lab.run import PROJECT, run

EXPECTED = """
etc/NetworkManager/dispatcher.d/90-salsa-agent
etc/NetworkManager/dispatcher.d/no-wait.d/90-salsa-agent
etc/dbus-1/system.d/org.salsa.Agent1.conf
usr/local/bin/salsa-agent
usr/local/bin/salsactl
usr/local/lib/systemd/system/salsa-agent.service
usr/local/lib/systemd/system/salsa-metrics.service
usr/local/lib/systemd/system/salsa-metrics.timer
usr/local/lib/sysusers.d/salsa-agent.conf
usr/local/share/bash-completion/completions/salsa-agent
usr/local/share/bash-completion/completions/salsactl
usr/local/share/dbus-1/interfaces/org.salsa.Agent1.xml
usr/local/share/dbus-1/system-services/org.salsa.Agent1.service
usr/local/share/doc/salsa-agent/examples/salsa-agent.toml
usr/local/share/fish/vendor_completions.d/salsa-agent.fish
usr/local/share/fish/vendor_completions.d/salsactl.fish
usr/local/share/man/man1/salsactl.1.gz
usr/local/share/man/man5/salsa-agent.toml.5.gz
usr/local/share/man/man8/salsa-agent.8.gz
usr/local/share/zsh/site-functions/_salsa-agent
usr/local/share/zsh/site-functions/_salsactl
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with the program installed below /usr/local."""
    root = tmp_path_factory.mktemp("staged")
    run("install", DESTDIR=str(root))
    return root


def files(root: Path) -> set[str]:
    """All paths below a directory, links not followed."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_install_puts_everything_where_it_is_looked_for(staged: Path) -> None:
    assert set(EXPECTED.split()) <= files(staged)
    script = staged / "etc/NetworkManager/dispatcher.d/90-salsa-agent"
    assert os.readlink(script) == "no-wait.d/90-salsa-agent", "NetworkManager runs what this link points to"
    assert os.access(script, os.X_OK)


def test_install_for_a_distribution_uses_the_distribution_s_directories(tmp_path: Path) -> None:
    run("install", DESTDIR=str(tmp_path), PREFIX="/usr", NO_COMPILE="1", ZSHDIR="/usr/share/zsh/vendor-completions")
    got = files(tmp_path)
    assert {
        "usr/bin/salsa-agent",
        "usr/lib/NetworkManager/dispatcher.d/no-wait.d/90-salsa-agent",
        "usr/lib/systemd/system/salsa-agent.service",
        "usr/share/dbus-1/system.d/org.salsa.Agent1.conf",
        "usr/share/zsh/vendor-completions/_salsactl",
    } <= got
    assert not any(path.startswith("etc") for path in got)
    assert not any(path.endswith(".pyc") for path in got)


def test_install_leaves_no_path_of_the_staging_directory(staged: Path) -> None:
    found = subprocess.run(["grep", "-rlF", str(staged), str(staged)], capture_output=True, text=True, check=False)
    assert found.stdout == "", "a staged file would name a directory that does not exist on the system"


def test_install_gives_everybody_the_right_to_read_and_only_root_to_write(staged: Path) -> None:
    for path in staged.rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert not mode & 0o022, path
            assert mode & 0o004, path


def test_install_unit_starts_the_command_that_was_installed(staged: Path) -> None:
    unit = (staged / "usr/local/lib/systemd/system/salsa-agent.service").read_text()
    commands = [line.partition("=")[2].split()[0] for line in unit.splitlines() if line.startswith("Exec")]
    assert commands == ["/usr/local/bin/salsa-agent", "/usr/local/bin/salsa-agent", "kill"]
    assert (staged / commands[0].lstrip("/")).is_file()


def test_documents_name_no_directory_that_only_a_package_or_only_an_install_uses() -> None:
    for document in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        text = document.read_text()
        for place in ("/usr/bin/sals", "/usr/local/bin/sals", "/usr/sbin/sals", "/usr/share/doc/sals"):
            assert place not in text, (document, place)


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("command", ["salsa-agent", "salsactl"])
def test_install_commands_run_by_the_system_s_python_and_their_own_libraries(staged: Path, command: str) -> None:
    inside = 'mount --bind "$1/usr/local" /usr/local && cd / && exec "/usr/local/bin/$2" --version'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside, "sh", str(staged), command],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout


@pytest.mark.needs("namespaces")
def test_install_example_configuration_is_good(staged: Path) -> None:
    example = staged / "usr/local/share/doc/salsa-agent/examples/salsa-agent.toml"
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$1/usr/local" /usr/local && exec salsa-agent --config "$2" --check-config',
    ]
    subprocess.run(
        [*argv, "sh", str(staged), str(example)], check=True, timeout=30, env={"PATH": "/usr/local/bin:/usr/bin:/bin"}
    )


def test_uninstall_removes_all_of_it_and_nothing_else(tmp_path: Path) -> None:
    kept = {"etc/dbus-1/system.d/other.conf", "usr/local/lib/other/file", "etc/salsa-agent.toml"}
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not ours")
    before = files(tmp_path)
    run("install", DESTDIR=str(tmp_path))
    run("install", DESTDIR=str(tmp_path))  # over itself, as an upgrade
    (tmp_path / "usr/local/lib/salsa-agent/left-by-somebody").write_text("")
    assert len(files(tmp_path)) > len(before) + 20
    run("uninstall", DESTDIR=str(tmp_path))
    ours = {"usr/local/lib/salsa-agent", "usr/local/lib/salsa-agent/left-by-somebody"}
    assert files(tmp_path) == before | ours


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("size", ["400k", "1800k", "5m"])  # at the first files, at the last ones, and as it compiles
def test_uninstall_removes_what_an_install_left_half_done(tmp_path: Path, size: str) -> None:
    """On a full disk nothing was listed: it stayed, and the directories did after the next install, too."""
    words = f'mount -t tmpfs -o size={size} tmpfs "$1"; DESTDIR="$1" ./run install; echo $?; find "$1" | wc -l'
    words += '; DESTDIR="$1" ./run uninstall; echo $?; find "$1" -mindepth 1'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, "sh", str(tmp_path)],
        env={**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build")},
        cwd=PROJECT, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    installed, files, removed, *left = done.stdout.split()
    assert (installed, int(files) > 20, removed, left) == ("1", True, "0", []), done.stderr


def test_uninstall_of_nothing_says_so(tmp_path: Path) -> None:
    done = run("uninstall", DESTDIR=str(tmp_path), check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nothing is installed" in done.stderr


def test_install_refuses_a_relative_prefix(tmp_path: Path) -> None:
    done = run("install", DESTDIR=str(tmp_path), PREFIX="usr", check=False)
    assert done.returncode == 2
    assert files(tmp_path) == set()


def test_install_refuses_a_prefix_that_leads_out_of_the_staging_directory(tmp_path: Path) -> None:
    done = run("install", DESTDIR=str(tmp_path), PREFIX="/usr/../../elsewhere", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert files(tmp_path) == set()


def test_uninstall_removes_nothing_by_a_path_that_leads_elsewhere(tmp_path: Path) -> None:
    """Whoever may write the list, as members of `staff` below /usr/local, had root remove any file."""
    root, theirs = tmp_path / "root", tmp_path / "theirs"
    manifest = root / "usr/local/lib/salsa-agent/manifest"
    manifest.parent.mkdir(parents=True)
    theirs.write_text("not ours")
    mine = root / "usr/local/bin/salsactl"
    mine.parent.mkdir()
    mine.write_text("ours")
    manifest.write_text("/usr/local/../../../theirs\n/../theirs\n../theirs\n/usr/local/bin/salsactl\n")
    run("uninstall", DESTDIR=str(root))
    assert theirs.exists()
    assert not mine.exists()
    assert not manifest.exists()


@pytest.mark.needs("users")
def test_install_makes_the_prefix_of_an_ordinary_user() -> None:
    home = Path(tempfile.mkdtemp(prefix="salsa-home-", dir="/tmp"))
    try:
        os.chown(home, 65534, 65534)
        words = 'setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$1" PREFIX="$1/.local" ./run install'
        environment = {**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build"), "TMPDIR": "/tmp"}
        subprocess.run(["sh", "-c", words, "sh", str(home)], cwd=PROJECT, check=True, env=environment, timeout=120)
        said = subprocess.run([home / ".local/bin/salsactl", "--version"], capture_output=True, text=True, check=True)
        assert __version__ in said.stdout
    finally:
        shutil.rmtree(home)


@pytest.mark.needs("users")
def test_install_says_who_may_where_the_prefix_is_somebody_else_s() -> None:
    words = "setpriv --reuid 65534 --regid 65534 --clear-groups env PREFIX=/usr/local ./run install"
    done = subprocess.run(["sh", "-c", words], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/usr/local is not yours to write; " in done.stderr


# the machine's files with a /run of its own, where nothing of systemd is; what is written is gone with the namespace
WITHOUT_SYSTEMD = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root"
for new in run tmp; do mount -t tmpfs none "$1/root/$new"; done
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mkdir -p "$1/root$2" "$1/root$3"
mount --bind "$2" "$1/root$2"
mount --bind "$3" "$1/root$3"
cd "$1/root$2"
words='cd "$1"; ./run install; salsactl --version; ./run uninstall; ! test -e /usr/local/bin/salsactl'
exec chroot "$1/root" sh -ec "$words" sh "$2"
"""


@pytest.mark.needs("boot")  # an overlay of the whole machine
def test_install_works_where_systemd_does_not_run(tmp_path: Path) -> None:
    environment = {**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build"), "TMPDIR": "/tmp"}
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", WITHOUT_SYSTEMD, "sh"]
    done = subprocess.run(
        [*argv, str(tmp_path), str(PROJECT), sys.prefix],
        cwd="/", check=False, capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"salsactl {__version__}\n"
    assert "systemd does not run here: start /usr/local/bin/salsa-agent by what does" in done.stderr


def test_version_is_the_same_everywhere() -> None:
    assert f"({__version__})" in (PROJECT / "debian/changelog").read_text().splitlines()[0]
    assert __version__ in (PROJECT / "CHANGELOG.md").read_text()
