"""The service under a real systemd: confined, started, activated, watched, reloaded, stopped; on both message buses."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.booted import Booted
from tests.lab.run import PROJECT, run
from tests.lab.site import HOST, RELAY, SERVER, Site

UNIT = "salsa-agent.service"
NAME = "org.salsa.Agent1"
OBJECT = f"{NAME} /org/salsa/Agent1 {NAME}".split()
CONFIG = "/etc/salsa-agent.toml"

pytestmark = [pytest.mark.timeout(180), pytest.mark.needs("boot")]


def install(root: Path) -> None:
    """The program as a distribution installs it."""
    run("install", DESTDIR=str(root), PREFIX="/usr")
    # whatever the filter of system calls forbids ends the agent here, so that no test passes with it biting
    drop_in = root / f"etc/systemd/system/{UNIT}.d"
    drop_in.mkdir(parents=True)
    (drop_in / "kill.conf").write_text("[Service]\nSystemCallErrorNumber=kill\n")
    (root / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    install(root)
    return root


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(scope="module", params=["dbus", "dbus-broker"])
def machine(request: pytest.FixtureRequest, files: Path, site: Site) -> Iterator[Booted]:
    with Booted(files, request.param) as booted:
        booted.run("systemd-sysusers")
        link = f"host-{request.param[-6:]}"
        booted.cable("wan0", site, link)
        site.plug(link)
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        yield booted


@pytest.fixture
def agent(machine: Booted) -> Iterator[Booted]:
    """The machine with the agent stopped, its configuration the default, and no override but ours."""
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("rm", "-f", CONFIG, f"/run/systemd/system/{UNIT}.d/test.conf")
    machine.run("systemctl", "daemon-reload")
    yield machine
    log = machine.journal(UNIT)
    assert "Traceback" not in log


def override(machine: Booted, text: str) -> None:
    machine.write(f"/run/systemd/system/{UNIT}.d/test.conf", f"[Service]\n{text}\n")
    machine.run("systemctl", "daemon-reload")


def get(machine: Booted, name: str) -> str:
    return machine.run("busctl", "get-property", *OBJECT, name).strip()


def settle(machine: Booted) -> None:
    """Wait for the relay to be known and verified."""
    machine.until(lambda: get(machine, "State") == 's "ready"', "the agent is ready")


def pid(machine: Booted) -> int:
    return int(machine.show(UNIT, "MainPID"))


def test_unit_exposure_is_low() -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(PROJECT / "systemd" / UNIT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level
    assert float(level[1]) <= 1.2


def test_unit_verify_is_silent(machine: Booted) -> None:
    assert machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{UNIT}") == ""


def test_unit_start_to_active(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    assert agent.show(UNIT, "ActiveState") == "active"
    assert get(agent, "BestRelay") == f's "{RELAY}"'  # H3: the name comes with the first decision
    settle(agent)
    assert '"verdict" s "ok"' in get(agent, "Relays"), "the relay could be spoken to, from inside the confinement"
    assert RELAY in agent.show(UNIT, "StatusText")
    assert agent.run("cat", "/run/salsa-agent/relay") == f"{RELAY}:25\n"
    said = agent.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, "-p", "warning", "_COMM=salsa-agent")
    assert said.replace("-- No entries --", "").strip() == "", "nothing to warn of"


def test_unit_runs_with_no_privilege(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    status = agent.run("cat", f"/proc/{pid(agent)}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = agent.run("id", "-u", "salsa-agent").strip()
    assert set(facts["Uid"].split()) == {uid}
    assert uid != "0"
    assert {facts[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert agent.run("getent", "passwd", "salsa-agent").strip().endswith("nologin")


# as the agent would do it, once it was taken over: where can it write, and which system calls are let through
TAKEN_OVER = """
import ctypes, errno, os, tempfile
libc = ctypes.CDLL(None, use_errno=True)
for directory, _, _ in os.walk("/"):
    if not directory.startswith("/proc/"):
        try:
            with tempfile.TemporaryFile(dir=directory):
                print("writes", directory)
        except OSError:
            pass
for name, number in {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}.items():
    libc.syscall(number, 0, 0, 0, 0, 0, 0)
    print(name, errno.errorcode[ctypes.get_errno()])
"""


@pytest.mark.parametrize("unit", [UNIT, "salsa-metrics.service"])
def test_unit_writes_nowhere_else_and_reaches_no_io_uring(agent: Booted, unit: str) -> None:
    """/run was not read-only, /dev/shm was that of all programs, and io_uring makes sockets of any family."""
    dropped = ("Type=", "BusName=", "ExecStart=", "ExecReload=", "Restart", "WatchdogSec=", "Alias=", "ConditionPath")
    kept = [line for line in (PROJECT / "systemd" / unit).read_text().splitlines() if not line.startswith(dropped)]
    kept.insert(kept.index("[Service]") + 1, "Type=oneshot\nExecStart=/usr/bin/python3 -IS /opt/taken-over.py")
    agent.write("/opt/taken-over.py", TAKEN_OVER)
    taken_over = f"taken-over-{unit}"
    agent.write(f"/run/systemd/system/{taken_over}", "\n".join(kept) + "\n")
    agent.run("mkdir", "-p", "/var/lib/prometheus/node-exporter")
    agent.run("systemctl", "daemon-reload")
    agent.run("systemctl", "start", taken_over)
    said = agent.journal(taken_over).splitlines()
    own = {UNIT: "/run/salsa-agent"}.get(unit, "/var/lib/prometheus/node-exporter")
    assert {line.split()[1] for line in said if line.startswith("writes ")} == {
        own, "/tmp", "/var/tmp", "/dev/mqueue",
    }, "its own directory, and a private /tmp and message queues"  # fmt: skip
    assert [line.split()[1] for line in said if line.startswith("io_uring")] == ["EPERM"] * 3


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_unit_that_is_enabled_is_activated_by_a_call(agent: Booted, user: str) -> None:
    agent.run("systemctl", "enable", UNIT)
    assert agent.show(UNIT, "ActiveState") == "inactive"
    said = agent.run("setpriv", "--reuid", user, "--clear-groups", "busctl", "get-property", *OBJECT, "BestRelay")
    assert said.strip() == f's "{RELAY}"'
    agent.until(lambda: agent.show(UNIT, "ActiveState") == "active", "the agent is ready, too")


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_unit_that_is_disabled_is_started_by_no_call(agent: Booted, user: str) -> None:
    """The activation file names the alias, which `systemctl disable` takes away: any user's call started the unit."""
    agent.run("systemctl", "enable", UNIT)
    agent.run("systemctl", "disable", UNIT)
    as_user = ["setpriv", "--reuid", user, "--clear-groups"]
    for call in (["get-property", *OBJECT, "BestRelay"], ["call", *OBJECT, "Refresh"]):
        refused = agent.run(*as_user, "busctl", *call, check=False)
        assert "Failed to get property" in refused or "Call failed" in refused, refused
    assert "no agent runs" in agent.run(*as_user, "salsactl", "--bus", "system", "best", check=False)
    assert agent.show(UNIT, "ActiveState") == "inactive"
    agent.run("systemctl", "start", UNIT)  # by hand it starts all the same
    assert get(agent, "BestRelay") == f's "{RELAY}"'


def test_unit_has_a_second_wall_behind_the_limits_of_the_agent(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    mebi = 1 << 20
    wall = {"MemoryHigh": 96 * mebi, "MemoryMax": 128 * mebi, "MemorySwapMax": 64 * mebi, "TasksMax": 32}
    wall |= {"LimitNOFILE": 1024, "LimitCORE": 0, "CPUWeight": 500}
    assert {name: int(agent.show(UNIT, name)) for name in wall} == wall


def test_unit_watchdog_restarts_a_hung_agent(agent: Booted) -> None:
    override(agent, "WatchdogSec=2s")
    agent.run("systemctl", "start", UNIT)
    hung = pid(agent)
    agent.run("kill", "-STOP", str(hung))
    agent.until(lambda: pid(agent) not in (0, hung), "a new process is started")
    agent.until(lambda: agent.show(UNIT, "ActiveState") == "active", "the agent is active again")
    assert "Watchdog timeout" in agent.journal(UNIT)
    assert get(agent, "BestRelay") == f's "{RELAY}"'


def test_unit_watchdog_is_fed(agent: Booted) -> None:
    override(agent, "WatchdogSec=2s")
    agent.run("systemctl", "start", UNIT)
    fed = agent.show(UNIT, "WatchdogTimestampMonotonic")
    agent.until(lambda: agent.show(UNIT, "WatchdogTimestampMonotonic") != fed, "the watchdog is fed")
    assert agent.show(UNIT, "NRestarts") == "0"


def test_unit_reload_with_a_good_file(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    before = pid(agent)
    agent.write(CONFIG, '[static]\nrelays = ["last.resort.example:587"]\n')
    agent.run("systemctl", "reload", UNIT)
    agent.until(lambda: "last.resort.example" in get(agent, "Relays"), "the static relay is listed")
    assert (agent.show(UNIT, "ActiveState"), pid(agent)) == ("active", before)


def test_unit_reload_with_a_bad_file(agent: Booted) -> None:
    agent.write(CONFIG, '[static]\nrelays = ["last.resort.example:587"]\n')
    agent.run("systemctl", "start", UNIT)
    before = pid(agent)
    agent.write(CONFIG, '[static]\nrelay = ["typo.example"]\n')
    said = agent.run("sh", "-c", f"systemctl reload {UNIT} 2>&1; echo $?", check=False).split()
    assert said[-1] == "1", "the caller is told"
    agent.until(lambda: "static.relay" in agent.journal(UNIT), "the bad key is named in the journal")
    assert (agent.show(UNIT, "ActiveState"), pid(agent)) == ("active", before)
    assert "last.resort.example" in get(agent, "Relays"), "the old settings stay"


@pytest.mark.parametrize(("status", "cause"), [("78", "[static]\nrelay = []\n"), ("2", "")])
def test_unit_is_not_restarted_when_that_would_not_help(agent: Booted, status: str, cause: str) -> None:
    if cause:
        agent.write(CONFIG, cause)
    else:
        override(agent, "ExecStart=\nExecStart=/usr/bin/salsa-agent --no-such-option")
    assert agent.result("systemctl", "start", UNIT).returncode != 0
    agent.until(lambda: agent.show(UNIT, "ActiveState") == "failed", "the unit has failed")
    assert (agent.show(UNIT, "ExecMainStatus"), agent.show(UNIT, "NRestarts")) == (status, "0")


def test_unit_is_restarted_after_a_crash(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    crashed = pid(agent)
    agent.run("kill", "-KILL", str(crashed))
    agent.until(lambda: pid(agent) not in (0, crashed), "a new process is started")
    agent.until(lambda: agent.show(UNIT, "ActiveState") == "active", "the agent is active again")
    assert get(agent, "BestRelay") == f's "{RELAY}"'


def test_unit_keeps_link_relays_over_a_restart(agent: Booted) -> None:
    agent.run("systemctl", "start", UNIT)
    index = agent.run("cat", "/sys/class/net/wan0/ifindex").strip()
    agent.run("busctl", "call", *OBJECT, "SetLinkRelays", "ias", index, "1", "10.53.0.25:2525")
    agent.until(lambda: '"source" s "link"' in get(agent, "Relays"), "the link's relay is listed")
    agent.run("systemctl", "restart", UNIT)
    agent.until(lambda: '"source" s "link"' in get(agent, "Relays"), "the link's relay is listed again")
    agent.run("busctl", "call", *OBJECT, "RevertLink", "i", index)
    agent.until(lambda: '"source" s "link"' not in get(agent, "Relays"), "the link's relay is gone")


def test_unit_stops_in_under_a_second(agent: Booted) -> None:
    durations = []
    for _ in range(3):  # a busy machine may be late once
        agent.run("systemctl", "start", UNIT)
        agent.run("systemctl", "stop", UNIT)
        times = [int(agent.show(UNIT, f"{what}TimestampMonotonic")) for what in ("ActiveExit", "InactiveEnter")]
        durations.append((times[1] - times[0]) / 1_000_000)
    assert min(durations) < 1
    assert agent.show(UNIT, "Result") == "success"
    assert agent.result("test", "-e", "/run/salsa-agent/relay").returncode != 0


def test_unit_comes_back_with_the_bus(files: Path, site: Site) -> None:
    """A machine of its own: losing the bus is hard on the others in it."""
    with Booted(files) as machine:
        machine.run("systemd-sysusers")
        machine.run("systemctl", "start", UNIT)
        machine.run("systemctl", "kill", "--signal=KILL", "dbus.service")
        machine.until(lambda: int(machine.show(UNIT, "NRestarts")) > 0, "the agent is started again")
        machine.until(lambda: machine.show(UNIT, "ActiveState") == "active", "the agent is active again")
        machine.until(lambda: machine.result("busctl", "get-property", *OBJECT, "State").returncode == 0, "it answers")


def test_the_lab_has_what_the_tests_lean_on() -> None:
    for program in ("systemd-analyze", "busctl", "dbus-daemon", "dbus-broker-launch", "dnsmasq", "nsenter", "unshare"):
        assert shutil.which(program), program
