"""`./run demo`: the post's story by the real agent, as root and as an ordinary user, with nothing left behind."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import dns
import pyroute2
import pytest

from demo.laptop import Elsewhere, Laptop
from salsa_agent.bus._dbus_next import Message, MessageType
from salsa_agent.bus.client import Client
from salsa_agent.bus.codec import Value
from salsa_agent.bus.interface import INTERFACE, NAME, PATH, PROPERTIES
from tests.lab.bus import NOBODY, PATIENCE, PROJECT, ROOT
from tests.lab.whole import until

pytestmark = pytest.mark.needs("users")

USERS = {"root": ROOT, "nobody": NOBODY}

STORY = [
    r"signal +PropertiesChanged BestRelay=\"smtp.clear.net.nz\".* State=\"offline\"",
    r"^Toronto\.",
    r"kernel +165\.154\.15\.1 on net0",
    r"signal +BestRelayChanged noc\.tor\.hookup\.net 25 dns",
    r"\* noc\.tor\.hookup\.net:25 +ok +10",
    r"mail +sent by way of noc\.tor\.hookup\.net",
    r"relay +noc\.tor\.hookup\.net is dead",
    r"mail +noc\.tor\.hookup\.net: connection refused; ReportFailure",
    r"signal +BestRelayChanged vertex\.tor\.hookup\.net 25 dns",
    r"mail +sent by way of vertex\.tor\.hookup\.net",
    r"^Another country",
    r"kernel +198\.51\.100\.7 on net0",
    r"signal +BestRelayChanged smtp\.praha\.example 25 dns",
    r"mail +sent by way of smtp\.praha\.example",
    r"^Home\.",
    r"kernel +203\.0\.113\.20 on net0",
    r"signal +BestRelayChanged smtp\.clear\.net\.nz 25 static",
    r"mail +sent by way of smtp\.clear\.net\.nz",
    r"^The agent has ended",
]
QUESTIONS = [
    r"MX 1\.15\.154\.165\.in-addr\.arpa\? no such name",
    r"MX 15\.154\.165\.in-addr\.arpa\? no such name",
    r"MX 154\.165\.in-addr\.arpa\? 10 noc\.tor\.hookup\.net, 20 vertex\.tor\.hookup\.net",
    r"MX 100\.51\.198\.in-addr\.arpa\? 10 smtp\.praha\.example",
    r"MX 0\.203\.in-addr\.arpa\? no such name",
]


@dataclass
class Demo:
    """The project as a user without rights finds it: readable, with a Python and the agent's own libraries alone."""

    tree: Path
    temporary: Path

    @property
    def environment(self) -> dict[str, str]:
        """Marks every process of the demo, and has their temporary files in one place."""
        outer = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "XDG_RUNTIME_DIR")}
        return outer | {"SALSA_VENV": str(self.tree / "venv"), "TMPDIR": str(self.temporary), "TERM": "xterm"}

    def command(self, user: str, *options: str) -> list[str]:
        uid = USERS[user]
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        return [*as_user, str(self.tree / "run"), "demo", *options]

    def processes(self) -> list[Path]:
        """Those of the demo, in /proc."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone meanwhile
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """Processes and files of the demo."""
        return [*map(str, self.processes()), *os.listdir(self.temporary)]

    @contextmanager
    def running(self, user: str, *options: str, **kwargs: Any) -> Iterator[subprocess.Popen[str]]:
        """The demo in a process group of its own, as from a terminal."""
        argv = self.command(user, *options)
        with subprocess.Popen(argv, env=self.environment, text=True, process_group=0, **kwargs) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    base = Path(tempfile.mkdtemp(prefix="salsa-demo-"))
    try:
        base.chmod(0o755)
        tree = base / "tree"
        for part in ("scripts", "salsa_agent", "demo"):
            shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "run", tree)
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", tree / "venv"], check=True)
        libraries = next((tree / "venv/lib").glob("python*/site-packages"))
        for library in (import_module("dbus_next"), dns, pyroute2):  # all of them can do without what is compiled
            shutil.copytree(Path(library.__path__[0]), libraries / library.__name__)
        (base / "tmp").mkdir()
        (base / "tmp").chmod(0o1777)
        yield Demo(tree, base / "tmp")
    finally:
        shutil.rmtree(base)


@pytest.mark.parametrize("user", USERS)
def test_demo_tells_the_story(demo: Demo, user: str) -> None:
    done = subprocess.run(
        demo.command(user, "--fast"), env=demo.environment, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    rest = re.sub(r"\n {12}", " ", done.stdout)  # lines that were broken
    for question in QUESTIONS:
        assert re.search(question, rest), question
    for expected in STORY:
        match = re.search(expected, rest, re.MULTILINE)
        assert match, f"{expected} is not where it belongs in {done.stdout}"
        rest = rest[match.end() :]
    assert "\x1b" not in done.stdout, "colour is for terminals"
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert demo.left() == []


def heard(laptop: Laptop, interface: str, member: str, signature: str, *body: Any) -> None:
    laptop.on_message(
        Message(
            message_type=MessageType.SIGNAL, path=PATH, interface=interface, member=member,
            signature=signature, body=list(body),
        )
    )  # fmt: skip


async def test_demo_goes_on_after_the_last_signal_of_a_change() -> None:
    """However far apart the signals of one change arrive, what the story does next comes after both."""
    told: list[str] = []
    laptop = Laptop(cast(Client, None), "", cast(Elsewhere, None), lambda word, text: told.append(f"{word} {text}"))
    heard(laptop, "org.freedesktop.DBus", "NameOwnerChanged", "sss", NAME, "", ":1.1")
    changed = {"BestRelay": Value("s", "smtp.example"), "State": Value("s", "ready")}
    heard(laptop, PROPERTIES, "PropertiesChanged", "sa{sv}as", INTERFACE, changed, [])
    settled = asyncio.create_task(laptop.settled("smtp.example"))
    await asyncio.sleep(0)  # it has looked
    assert not settled.done()
    heard(laptop, INTERFACE, "BestRelayChanged", "sqs", "smtp.example", 25, "dns")
    await settled
    assert told[-1] == "signal BestRelayChanged smtp.example 25 dns"


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_demo_leaves_nothing_behind_when_interrupted(demo: Demo, number: str, status: int) -> None:
    with demo.running("nobody", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        seen = ""
        while "BestRelayChanged" not in seen and (line := process.stdout.readline()):
            seen += line
        assert "BestRelayChanged" in seen, "the agent runs"
        assert len(demo.left()) > 4
        if number == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.send_signal(signal.Signals[number])
        assert process.wait(PATIENCE) == status
        assert "Traceback" not in process.stdout.read()
    until(demo.left, lambda left: left == [])


def test_demo_kills_an_agent_that_does_not_end(demo: Demo) -> None:
    with demo.running("nobody", stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if "BestRelayChanged" in line:
                break
        agents = [one for one in demo.processes() if b"salsa_agent.cli.agent" in (one / "cmdline").read_bytes()]
        os.kill(int(agents[0].name), signal.SIGSTOP)
        process.terminate()
        assert process.wait(PATIENCE) == 143
        assert not agents[0].exists(), "it is the demo that ended it"
    until(demo.left, lambda left: left == [])


def test_demo_ends_with_its_reader(demo: Demo) -> None:
    with demo.running("nobody", "--fast", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""
    until(demo.left, lambda left: left == [])


def test_demo_has_colour_on_a_terminal(demo: Demo) -> None:
    terminal, end = pty.openpty()
    try:
        with demo.running("root", stdin=subprocess.DEVNULL, stdout=end, stderr=end) as process:
            os.close(end)
            seen = b""
            deadline = time.monotonic() + PATIENCE
            while b"\x1b[1m  signal\x1b[0m" not in seen and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    seen += os.read(terminal, 4096)
            process.terminate()
            process.wait(PATIENCE)
    finally:
        os.close(terminal)
    assert b"\x1b[1m  signal\x1b[0m" in seen
    until(demo.left, lambda left: left == [])


# The settings of other kernels than this one, in a mount namespace; user.max_user_namespaces is real, and holds in the
# user namespace that it is set in.
FORBIDDEN = """\
mount -t tmpfs tmpfs /proc/sys/kernel
[ -z "$1" ] || echo "$2" >"/proc/sys/$1"
echo 0 >/proc/sys/user/max_user_namespaces
shift 2
exec setpriv --bounding-set=-all --inh-caps=-all -- "$@"
"""


@pytest.mark.parametrize(
    ("setting", "value", "command"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("", "", "user.max_user_namespaces=10000"),
    ],
)
def test_demo_says_how_to_allow_namespaces(demo: Demo, setting: str, value: str, command: str) -> None:
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", FORBIDDEN, "sh", setting, value]
    argv = [*own, str(demo.tree / "run"), "demo"]
    done = subprocess.run(argv, env=demo.environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"  sudo sysctl {command}\n" in done.stderr
    assert done.stderr.endswith("sudo ./run demo\n")
    assert done.stderr.count("sudo sysctl") == (2 if setting else 1)


def test_demo_as_root_needs_no_user_namespace(demo: Demo) -> None:
    script = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-euc", script, "sh", str(demo.tree / "run"), "demo"]
    with subprocess.Popen(argv, env=demo.environment, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if "BestRelayChanged" in line:
                break
        process.terminate()
        assert process.wait(PATIENCE) == 143
    until(demo.left, lambda left: left == [])


def test_demo_knows_no_other_option(demo: Demo) -> None:
    done = subprocess.run(
        demo.command("nobody", "--slow"), env=demo.environment, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    assert "usage: ./run demo" in done.stderr
