"""The project's command `./run`: what a newcomer sees, and what it leaves on their machine (nothing)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
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


@pytest.fixture(scope="module")
def no_busctl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PATH with everything but busctl."""
    directory = tmp_path_factory.mktemp("bin")
    for program in Path("/usr/bin").iterdir():
        if program.name != "busctl":
            (directory / program.name).symlink_to(program)
    return directory


@pytest.mark.parametrize(("home", "busctl"), [("", True), ("/nonexistent", True), ("/nonexistent", False)])
def test_run_says_how_to_ask_and_ends_at_ctrl_c(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, no_busctl: Path, home: str, busctl: bool
) -> None:
    log = tmp_path / "log"
    venv = tmp_path_factory.mktemp("it's") / "venv"  # a path with an apostrophe, as some people's directories have
    venv.symlink_to(sys.prefix)
    environment = {
        "HOME": home,
        "TMPDIR": str(tmp_path),
        "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent/bus",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus",
        "SALSA_VENV": str(venv),
    }
    if not busctl:
        environment["PATH"] = str(no_busctl)
    ip = shutil.which("ip") or "ip"
    with (
        Netns() as space,
        running([ip, "netns", "exec", space.name, str(PROJECT / "run")], log, **environment) as agent,
    ):
        until(lambda: "Ctrl-C" in log.read_text(), "it tells how to ask")
        commands = re.findall(r"^  (busctl .*BestRelay|\S*salsactl'? .*status)$", log.read_text(), re.MULTILINE)
        assert len(commands) == (2 if busctl else 1)
        if busctl:
            asked = subprocess.run(["sh", "-c", commands[0]], capture_output=True, text=True, check=True, timeout=30)
            assert asked.stdout == 's ""\n'
        said = subprocess.run(["sh", "-c", commands[-1]], capture_output=True, text=True, timeout=30)
        assert "offline" in said.stdout, said.stderr
        os.killpg(agent.pid, signal.SIGINT)
        assert agent.wait(PATIENCE) == 0
        until(lambda: os.listdir(tmp_path) == ["log"], "nothing is left")


# sh -euc, arguments: a directory to run in; the commands before, in a mount namespace of its own; the verb
ALONE = 'cd "$1" && eval "$2" && exec ./run $3'


def alone(tree: Path, before: str, verb: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`./run` in a copy of the project, without SALSA_VENV unless it is given."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SALSA_VENV", "SALSA_CACHE")}
    argv = ["unshare", "--mount", "sh", "-euc", ALONE, "sh", str(tree), before, verb]
    return subprocess.run(
        argv, env=kept | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )


FEW = "sh env dirname find ls sed mount readlink cksum cat mktemp rm tr"  # programs of a system that has few


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("verb", "sudo", "lacks"),
    [
        ("", True, "dbus-daemon python3-venv"),
        ("", False, "dbus-daemon python3-venv"),
        ("install", False, "python3 python3-venv"),
    ],
)
def test_run_names_all_missing_packages_in_one_command(tmp_path: Path, verb: str, sudo: bool, lacks: str) -> None:
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name in [
        "sh",
        "env",
        "dirname",
        "find",
        "ls",
        "sed",
        "mount",
        "readlink",
        "cksum",
        "cat",
        "mktemp",
        "rm",
        "tr",
    ]:
        (stubs / name).symlink_to(f"/usr/bin/{name}")
    for name, text in {"id": "echo 1000", "dpkg-query": "exit 1", "sudo": "exit 1"}.items():
        if name != "sudo" or sudo:
            (stubs / name).write_text(f"#!/bin/sh\n{text}\n")
            (stubs / name).chmod(0o755)
    python = "mount --bind /bin/false $(readlink -f /usr/bin/python3); mount -t tmpfs tmpfs /var/lib/apt/lists"
    done = alone(copy(tmp_path), f"{python}; PATH={stubs}", verb, PREFIX=str(tmp_path / "new"))
    wanted = f"apt-get install --no-install-recommends {lacks}\n"
    by_sudo = f"run: packages are missing; type: sudo apt-get update && sudo {wanted}"
    assert done.stderr == (by_sudo if sudo else f"run: packages are missing; as root, type: apt-get update && {wanted}")
    assert done.returncode == 1


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        ("mkdir .venv; mount -t tmpfs -o size=64k tmpfs .venv", {}, "could not be made in .*: the disk is full"),
        ("mkdir .venv; mount -t tmpfs -o ro tmpfs .venv", {}, "could not be made in .*: the file system is read-only"),
        ("mkdir .venv; mount -t tmpfs -o noexec tmpfs .venv", {}, "no program can be run from .*noexec"),
        ("", {"SALSA_VENV": "/nonexistent"}, "SALSA_VENV: /nonexistent is no virtual environment"),
        ("", {"SALSA_VENV": sys.prefix, "TMPDIR": "/proc"}, "no temporary directory can be made in /proc"),
        ("echo no-such==1 --hash=sha256:00 >requirements/run.txt", {"PIP_NO_INDEX": "1"},
         "the libraries could not be installed: .*index within reach"),
    ],
    ids=["full", "readonly", "noexec", "venv", "tmp", "pip"],
)  # fmt: skip
def test_run_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, before: str, environment: dict[str, str], said: str
) -> None:
    done = alone(copy(tmp_path), before, **environment)
    lines = [line for line in done.stderr.splitlines() if not re.match("(making|installing) ", line)]
    assert len(lines) == 1, done.stderr
    assert re.match(f"run: .*{said}", lines[0])
    assert done.returncode == 1


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        (
            "mkdir build; mount -t tmpfs -o size=64k tmpfs build",
            {},
            "nothing can be copied to build/.*: the disk is full",
        ),
        ("", {"TMPDIR": "/proc"}, "no temporary directory can be made in /proc"),
    ],
    ids=["full", "tmp"],
)
def test_run_deb_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, before: str, environment: dict[str, str], said: str
) -> None:
    given = {"SALSA_VENV": sys.prefix, "SALSA_CACHE": str(PROJECT / "build"), **environment}
    done = alone(copy(tmp_path), before, "deb", **given)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert re.match(f"run: {said}", done.stderr)


@pytest.mark.needs("users")
def test_run_in_an_environment_that_somebody_else_made_says_so() -> None:
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        directory.chmod(0o755)
        tree = copy(directory)
        (tree / ".venv/bin").mkdir(parents=True)
        done = alone(tree, "exec setpriv --reuid 65534 --regid 65534 --clear-groups ./run --version")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "/.venv is not yours to write, and is not complete; remove it as its owner (root)" in done.stderr
    finally:
        shutil.rmtree(directory)


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


@pytest.mark.needs("boot")
def test_run_tests_runs_as_root_of_a_container_that_may_not_mount(tmp_path: Path) -> None:
    tree = copy(tmp_path)
    (tree / "tests").mkdir()
    (tree / "tests/test_it.py").write_text("def test_it():\n    pass\n")
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in (PROJECT / os.environ.get("SALSA_CACHE", "build")).iterdir():
        if path.name != "trees":  # to make them is to mount
            (cache / path.name).symlink_to(path)
    log = tmp_path / "log"
    argv = ["setpriv", "--bounding-set=-sys_admin,-net_admin", str(tree / "run"), "tests", "-p", "no:cacheprovider"]
    with running(argv, log, SALSA_CACHE=str(cache)) as tests:
        status = tests.wait(150)
    assert (status, "1 passed" in log.read_text()) == (0, True), log.read_text()
    assert "run: without namespaces, which are not to be had here" in log.read_text()


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
[ ! -e /root/fail ] || { echo "E: Unable to locate package unbound" >&2; exit 100; }
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


def test_run_installation_that_fails_is_one_sentence_and_a_failure(laptop: Booted) -> None:
    laptop.run("touch", "/root/fail")
    done = laptop.result(*NEED)
    laptop.run("rm", "/root/fail")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "installing unbound"
    assert lines[1].startswith("run: the packages could not be installed: E: Unable to locate package unbound;")
    assert len(lines) == 2
    assert laptop.run("cat", "/etc/resolv.conf") == "nameserver 192.0.2.53\n"


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


DOWNLOADS = """#!/bin/sh
# stands in for the apt-get of a machine that has the package: it downloads that only to install it anew
for word; do
    case $word in
    --reinstall) anew=1 ;;
    Dir::Cache::archives=*) archives=${word#*=} ;;
    esac
done
[ -z "${anew-}" ] || cp package.deb "$archives"
"""


def test_run_unpacks_a_package_that_is_installed_too(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    (tmp_path / "package/DEBIAN").mkdir(parents=True)
    (tmp_path / "package/DEBIAN/control").write_text(
        "Package: cron\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: c\n"
    )
    (tmp_path / "package/etc").mkdir()
    (tmp_path / "package/etc/crontab").write_text("")
    subprocess.run(["dpkg-deb", "--build", "package", "package.deb"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text(DOWNLOADS)
    (tmp_path / "bin/apt-get").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SALSA_CACHE": str(tmp_path / "cache")}
    argv = ["sh", "-euc", ". scripts/lib/common.sh && unpack cron"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache/unpacked/cron/etc/crontab").exists()


@pytest.mark.needs("users")
def test_run_names_the_command_when_it_may_not_install() -> None:
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *NEED[:2]]
    words = f"cd {PROJECT} && . scripts/lib/common.sh && need no-such-package"
    done = subprocess.run([*argv, words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert re.search(r"type: .*apt-get install --no-install-recommends no-such-package\n$", done.stderr)


@pytest.mark.parametrize("name", ["test-packages", "test-packages-unpacked"])
def test_run_package_list_says_why(name: str) -> None:
    lines = (PROJECT / "scripts" / name).read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert packages == sorted(packages)
    assert all(re.fullmatch(r"[a-z0-9.+-]+( (units|without)=[\w.,@-]+)? \w.*", line) for line in packages)


def test_run_list_of_trees_says_why() -> None:
    lines = (PROJECT / "scripts/test-trees").read_text().splitlines()
    trees = [line for line in lines if not line.startswith("#")]
    assert trees
    assert all(re.fullmatch(r"([a-z]+-)?[a-z]+ [a-z0-9.+,-]+ \w.* .*", line) for line in trees)


def test_run_scripts_pass_shellcheck() -> None:
    scripts = [
        *PROJECT.glob("scripts/**/*.sh"),
        PROJECT / "run",
        PROJECT / ".ci/run",
        PROJECT / "debian/libraries",
        *(path for path in (PROJECT / "debian/tests").iterdir() if os.access(path, os.X_OK)),
        PROJECT / "debian/salsa-agent.postinst",
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
