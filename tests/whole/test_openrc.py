"""contrib/openrc: the init script, run by the real OpenRC, its supervise-daemon and a system bus, in namespaces."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import Netns, veth
from tests.lab.run import PROJECT, run
from tests.lab.site import HOST, RELAY, SERVER, Site
from tests.lab.unpacked import Unpacked
from tests.lab.whole import until

KIT = PROJECT / "contrib/openrc"
LOG = "/var/log/salsa-agent.log"
CONFIG = "/etc/salsa-agent.toml"
# what Gentoo's and Alpine's script does; Debian's own is for another init
DBUS = """#!/sbin/openrc-run
command=/usr/bin/dbus-daemon
command_args="--system --nofork --nopidfile"
command_background=yes
pidfile=/run/dbus.pid
start_pre() { checkpath --directory /run/dbus; }
start_post() { ewaitfile 10 /run/dbus/system_bus_socket; }
"""

pytestmark = pytest.mark.timeout(180)


class Host:
    """A machine whose services OpenRC starts."""

    def __init__(self, files: Unpacked) -> None:
        self._files = files

    def service(self, *words: str, status: int = 0) -> str:
        """`rc-service WORDS`; what it said."""
        done = self._files.run("rc-service", *words, check=False)
        assert done.returncode == status, f"{words}: {done.returncode}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout + done.stderr

    def write(self, path: str, text: str) -> None:
        self._files.write(path, text)

    def log(self) -> str:
        path = self._files.path(LOG)
        return path.read_text() if path.exists() else ""

    def best(self) -> str:
        return self._files.run("salsactl", "--bus", "system", "best", check=False).stdout

    def pid(self) -> str:
        """That of the agent itself, not of its supervisor."""
        return self._files.run("pgrep", "-u", "salsa-agent", check=False).stdout.strip()

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self._files.run(*argv, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    run("install", DESTDIR=str(tmp_path), PREFIX="/usr")
    with Site() as site, Netns() as space:
        veth(space, "eth0", site, "to-host")
        site.plug("to-host")
        space.ip("address", "add", f"{HOST}/24", "dev", "eth0")
        with Unpacked(space, "openrc", users=["salsa-agent"]) as files:
            shutil.copytree(tmp_path / "usr", files.path("/usr"), dirs_exist_ok=True, symlinks=True)
            files.write("/etc/resolv.conf", f"nameserver {SERVER}\n")
            with files.path("/etc/shadow").open("a") as shadow:  # PAM, which supervise-daemon asks, looks there
                shadow.write("salsa-agent:!:19000::::::\n")
            for script in files.path("/etc/init.d").iterdir():
                script.unlink()  # nothing of this machine's
            files.write("/etc/init.d/dbus", DBUS, 0o755)
            shutil.copy(KIT / "salsa-agent.initd", files.path("/etc/init.d/salsa-agent"))
            files.path("/etc/conf.d").mkdir(exist_ok=True)
            shutil.copy(KIT / "salsa-agent.confd", files.path("/etc/conf.d/salsa-agent"))
            for runlevel in ("sysinit", "boot", "default"):  # it boots, without a service
                files.path(f"/etc/runlevels/{runlevel}").mkdir(parents=True, exist_ok=True)
                for service in files.path(f"/etc/runlevels/{runlevel}").iterdir():
                    service.unlink()
                files.run("openrc", runlevel)
            yield Host(files)


def test_openrc_starts_watches_reloads_and_stops_the_agent(host: Host) -> None:
    host.service("salsa-agent", "status", status=3)
    host.service("salsa-agent", "start")
    until(host.best, lambda best: best == f"{RELAY}:25\n")
    assert "started" in host.service("salsa-agent", "status")
    first = host.pid()
    assert first.isdigit(), "one process, of the user"
    assert host.command("cat", "/run/salsa-agent/relay").stdout == f"{RELAY}:25\n", (
        "the directory that systemd would give"
    )
    assert "NoNewPrivs:\t1\n" in host.command("cat", f"/proc/{first}/status").stdout

    # what is in the configuration now, without a new process
    host.write(CONFIG, '[[site]]\nname = "here"\nprefix = ["10.53.0.0/24"]\nrelays = ["10.53.0.25:25"]\nuse = "only"\n')
    host.service("salsa-agent", "reload")
    until(host.best, lambda best: best == "10.53.0.25:25\n")
    assert host.pid() == first

    # a bad one is refused, in the agent's words
    host.write(CONFIG, "[static]\nrelay = []\n")
    assert "static.relay" in host.service("salsa-agent", "reload", status=1)
    assert (host.best(), host.pid()) == ("10.53.0.25:25\n", first)
    assert "started" in host.service("salsa-agent", "status")
    host.write(CONFIG, "")

    # it is started again when it ends
    host.command("kill", "-KILL", first)
    second = until(host.pid, lambda pid: pid.isdigit() and pid != first)
    until(host.best, lambda best: best == f"{RELAY}:25\n")

    host.service("salsa-agent", "restart")
    until(host.pid, lambda pid: pid.isdigit() and pid != second)
    until(host.best, lambda best: best == f"{RELAY}:25\n")

    host.service("salsa-agent", "stop")
    assert host.pid() == ""
    assert host.command("ls", "/run/salsa-agent").returncode != 0
    host.service("salsa-agent", "status", status=3)


def test_openrc_does_not_start_the_agent_with_a_bad_configuration(host: Host) -> None:
    host.write(CONFIG, "[static]\nrelay = []\n")
    assert "static.relay" in host.service("salsa-agent", "start", status=1)
    assert host.pid() == ""
