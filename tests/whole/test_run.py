"""The project's command `./run`: what a newcomer sees, and what it leaves on their machine (nothing)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.booted import Booted
from tests.lab.netns import Netns
from tests.lab.run import PROJECT, run

PATIENCE = 40.0

pytestmark = pytest.mark.timeout(180)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it never came that {what}"
        time.sleep(0.05)


def copy(directory: Path) -> Path:
    """The project, without its tests."""
    tree = directory / "copy"
    shutil.copytree(
        PROJECT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
    )
    return tree


@contextmanager
def running(argv: list[str], log: Path, **options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, as from a terminal; what it says goes to `log`."""
    cache = str(PROJECT / os.environ.get("SALSA_CACHE", "build"))
    environment = {**os.environ, "SALSA_VENV": sys.prefix, "SALSA_CACHE": cache, **options}
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, process_group=0
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_run_help_lists_every_command() -> None:
    said = run("help").stdout
    for script in (PROJECT / "scripts").glob("*.sh"):
        line = next(line for line in said.splitlines() if line.split()[:1] == [script.stem])
        assert len(line.split()) > 2, "with a word on what it is for"


@pytest.mark.parametrize("verb", ["nonsense", "../run", "lib/common", "Start", "start.sh"])
def test_run_knows_no_other_command(verb: str) -> None:
    done = run(verb, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_run_passes_options_and_exit_status_of_the_agent(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[static]\nrelay = []\n")
    done = run("--config", str(bad), check=False)
    assert done.returncode == 78
    assert "static.relay" in done.stderr


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_run_says_how_to_ask_and_ends_at_ctrl_c(tmp_path: Path, home: str) -> None:
    log = tmp_path / "log"
    environment = {
        "HOME": home,
        "TMPDIR": str(tmp_path),
        "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent/bus",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus",
    }
    with (
        Netns() as space,
        running(["ip", "netns", "exec", space.name, str(PROJECT / "run")], log, **environment) as agent,
    ):
        until(lambda: "Ctrl-C" in log.read_text(), "it tells how to ask")
        commands = re.findall(r"^  (busctl .*BestRelay|\S*salsactl .*status)$", log.read_text(), re.MULTILINE)
        assert len(commands) == 2
        asked = subprocess.run(["sh", "-c", commands[0]], capture_output=True, text=True, check=True, timeout=30)
        assert asked.stdout == 's ""\n'
        assert "offline" in subprocess.run(["sh", "-c", commands[1]], capture_output=True, text=True, timeout=30).stdout
        os.killpg(agent.pid, signal.SIGINT)
        assert agent.wait(PATIENCE) == 0
        until(lambda: os.listdir(tmp_path) == ["log"], "nothing is left")


SKIPS = """
import pytest

def test_skipped():
    pytest.skip("not here")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected():
    assert False
"""


@pytest.mark.parametrize(("variable", "status"), [("CI", 1), ("SALSA_REQUIRE_ALL", 1), ("OTHER", 0)])
def test_run_in_ci_a_skipped_test_fails(tmp_path: Path, variable: str, status: int) -> None:
    shutil.copy(PROJECT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPS)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "SALSA_REQUIRE_ALL")}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        argv, cwd=tmp_path, env={**environment, variable: "1"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout


LITTER = """
import os, subprocess, tempfile, time
from pathlib import Path

def test_litter():
    subprocess.run(["ip", "netns", "add", "litter-NUMBER"], check=True)
    Path("/etc/netns/litter-NUMBER").mkdir(parents=True)
    os.system("setsid sleep 4242NUMBER &")
    Path(tempfile.mkdtemp(), "file").write_text("")
    Path("began").write_text(tempfile.gettempdir())
    time.sleep(100)
"""


@pytest.mark.needs("boot")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_tests_leaves_nothing_behind_when_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    tree = copy(tmp_path)
    (tree / "tests").mkdir()
    (tree / "tests/test_litter.py").write_text(LITTER.replace("NUMBER", str(number.value)))
    log = tmp_path / "log"
    with running([str(tree / "run"), "tests", "-p", "no:cacheprovider"], log) as tests:
        until((tree / "began").exists, "the test has begun")
        until((tree / "began").read_text, "the test has said where")
        scratch = Path((tree / "began").read_text())
        if number == signal.SIGINT:
            os.killpg(tests.pid, number)  # as a terminal does
        else:
            tests.send_signal(number)
        tests.wait(PATIENCE)
    sleeper = f"sleep\x004242{number.value}\x00"
    until(lambda: sleeper not in processes(), "its processes are gone")
    assert f"litter-{number.value}" not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    assert not Path(f"/etc/netns/litter-{number.value}").exists()
    if number == signal.SIGKILL:  # the mount point stays, empty
        assert os.listdir(scratch) == []
        scratch.rmdir()
    else:
        assert not scratch.exists()
        assert re.search(r" in [\d.]+s =+\s*$", log.read_text()), "pytest's closing line comes last"


def processes() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue  # gone meanwhile
    return found


APT = """#!/bin/sh
# stands in for an apt-get that would install a resolver: real packages would come from a network
[ "$1" != update ] || exit 1
/usr/sbin/policy-rc.d; echo "policy $?" >>/root/seen
readlink /etc/systemd/system/unbound.service >>/root/seen
rm /etc/resolv.conf
ln -s /run/nowhere /etc/resolv.conf
[ ! -e /root/hang ] || { touch /root/hangs; sleep 100; }
"""


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    files = tmp_path_factory.mktemp("files")
    (files / "root").mkdir(mode=0o700)
    (files / "usr/local/bin").mkdir(parents=True)
    shutil.copytree(PROJECT / "scripts", files / "root/scripts")
    for name, text in {"apt-get": APT, "dpkg-query": "#!/bin/sh\nexit 1\n"}.items():
        (files / "usr/local/bin" / name).write_text(text)
        (files / "usr/local/bin" / name).chmod(0o755)
    with Booted(files) as machine:
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d", "/etc/resolv.conf")
        machine.write("/etc/resolv.conf", "nameserver 192.0.2.53\n")
        yield machine


NEED = ("sh", "-euc", "cd /root && . scripts/lib/common.sh && need unbound")


def test_run_installs_packages_without_starting_services_or_losing_name_servers(laptop: Booted) -> None:
    laptop.run(*NEED)
    assert laptop.run("cat", "/root/seen").splitlines() == ["policy 101", "/dev/null"]
    assert laptop.run("cat", "/etc/resolv.conf") == "nameserver 192.0.2.53\n"
    assert laptop.result("test", "-e", "/usr/sbin/policy-rc.d").returncode == 1
    assert laptop.result("test", "-L", "/etc/systemd/system/unbound.service").returncode == 1, "no mask stays"
    assert "salsa" not in laptop.run("ls", "-a", "/etc")


def test_run_interrupted_installation_puts_things_back(laptop: Booted) -> None:
    laptop.run("touch", "/root/hang")
    with subprocess.Popen([*laptop.enter, *NEED], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        laptop.until(lambda: laptop.result("test", "-e", "/root/hangs").returncode == 0, "the installation hangs")
        laptop.run("pkill", "-TERM", "-f", "need unbound")
        laptop.run("pkill", "-TERM", "-x", "sleep")
    # the shell that puts things back may outlive the one that was waited for
    laptop.until(
        lambda: laptop.run("cat", "/etc/resolv.conf", check=False) == "nameserver 192.0.2.53\n",
        "the name servers are back",
    )
    laptop.until(lambda: laptop.result("test", "-e", "/usr/sbin/policy-rc.d").returncode == 1, "the policy is gone")


@pytest.mark.needs("users")
def test_run_names_the_command_when_it_may_not_install() -> None:
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *NEED[:2]]
    words = f"cd {PROJECT} && . scripts/lib/common.sh && need no-such-package"
    done = subprocess.run([*argv, words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.endswith("type: sudo apt-get install --no-install-recommends no-such-package\n")


@pytest.mark.parametrize("name", ["test-packages", "test-packages-unpacked"])
def test_run_package_list_says_why(name: str) -> None:
    lines = (PROJECT / "scripts" / name).read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert packages == sorted(packages)
    assert all(re.fullmatch(r"[a-z0-9.+-]+( units=[\w.,@-]+)? \w.*", line) for line in packages)


def test_run_scripts_pass_shellcheck() -> None:
    scripts = [
        *PROJECT.glob("scripts/**/*.sh"),
        PROJECT / "run",
        PROJECT / ".ci/run",
        PROJECT / "debian/salsa-agent.postrm",
    ]
    done = subprocess.run(["shellcheck", *map(str, scripts)], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


WANTING = """
import subprocess
import pytest
from tests.lab.needs import Need, require

def test_by_fixture():
    require(Need.BOOT)

@pytest.mark.needs("boot")
def test_by_marker():
    pass

def test_program():
    subprocess.run(["no-such-program"])

def test_here():
    pass
"""


@pytest.mark.parametrize("everything", [False, True])
def test_run_what_a_test_needs_is_counted_or_fails_in_ci(tmp_path: Path, everything: bool) -> None:
    """As a user of no privileges: what cannot run is counted in a line each, and fails where all is required."""
    for name in ("__init__.py", "conftest.py", "lab/__init__.py", "lab/needs.py"):
        (tmp_path / "tests" / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / "tests" / name, tmp_path / "tests" / name)
    (tmp_path / "tests/test_it.py").write_text(WANTING)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "SALSA_REQUIRE_ALL")}
    argv = ["unshare", "--user", sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    argv += ["-o", "markers=needs", "tests"]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=environment | ({"CI": "1"} if everything else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if everything:
        assert done.returncode == 1, done.stdout
        assert "2 failed, 1 passed, 1 error" in done.stdout
        return
    assert done.returncode == 0, done.stdout
    *_, boot, programs, last = done.stdout.splitlines()
    assert boot.startswith("not run here: 2 tests that need boot: root")
    assert programs.startswith("not run here: 1 tests that need programs: the packages")
    assert last.startswith("1 passed, 3 skipped")
