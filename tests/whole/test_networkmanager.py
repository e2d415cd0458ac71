"""The NetworkManager dispatcher script: the recorded environment replayed, hostile input, and a real NetworkManager."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from salsa_agent.bus import message as wire
from salsa_agent.bus.interface import INTERFACE, NAME, PATH
from tests.lab.booted import Booted
from tests.lab.bus import RawClient, system_bus
from tests.lab.busagent import serving
from tests.lab.netns import Netns, veth
from tests.lab.run import PROJECT, run
from tests.lab.site import RELAY, SERVER, Site, leases

SCRIPT = PROJECT / "networkmanager/90-salsa-agent"
RECORDING = PROJECT / "tests/data/dispatcher-dhclient.env"
BOUNDED = "--system --quiet --timeout=2 --auto-start=no --expect-reply=no"
OBJECT = "call org.salsa.Agent1 /org/salsa/Agent1 org.salsa.Agent1"
AGENT = ("org.salsa.Agent1", "/org/salsa/Agent1", "org.salsa.Agent1")

Environment = dict[str, str]


def recording() -> list[tuple[str, str, Environment]]:
    """The calls recorded: interface, action, environment."""
    calls: list[tuple[str, str, Environment]] = []
    for line in RECORDING.read_text().splitlines():
        if head := re.fullmatch(r"\[(\S*) (\S+)\]", line):
            calls.append((head[1], head[2], {}))
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            calls[-1][2][name] = value
    return calls


def recorded(action: str) -> Environment:
    """The environment of the last recorded call for an action."""
    return next(environment for _, what, environment in reversed(recording()) if what == action)


class Dispatcher:
    """Calls the script as NetworkManager does, in a namespace with a link `wan0`, with a `busctl` that takes notes."""

    def __init__(self, space: Netns, directory: Path, shell: list[str]) -> None:
        self._space = space
        self._shell = shell
        self._notes = directory / "notes"
        self.index = space.index("wan0")
        stub = directory / "busctl"
        stub.write_text(f'#!/bin/sh\necho "$@" >>{self._notes}\nexit 1\n')
        stub.chmod(0o755)
        self._path = f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"

    def __call__(self, interface: str, action: str, environment: Environment) -> list[str]:
        """What was asked of the bus. The script ends well and silently, whatever it is given."""
        self._notes.unlink(missing_ok=True)
        assignments = [f"{name}={value}" for name, value in {**environment, "PATH": self._path}.items()]
        argv = ["ip", "netns", "exec", self._space.name, "env", "-i", *assignments, *self._shell, str(SCRIPT)]
        done = subprocess.run([*argv, interface, action], capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self._notes.read_text().splitlines() if self._notes.exists() else []


@pytest.fixture(scope="module", params=["dash", "bash --posix"])
def dispatch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dispatcher]:
    with Netns() as space, Netns() as far:
        veth(space, "wan0", far, "far0")
        yield Dispatcher(space, tmp_path_factory.mktemp("dispatch"), request.param.split())


def refresh() -> list[str]:
    return [f"{BOUNDED} {OBJECT} Refresh"]


def test_dispatcher_replay_of_the_recorded_calls(dispatch: Dispatcher) -> None:
    given = [f"{BOUNDED} {OBJECT} SetLinkRelays ias {dispatch.index} 2 10.9.0.25 10.9.0.26"]
    said = [(action, dispatch(interface, action, environment)) for interface, action, environment in recording()]
    assert said == [
        ("hostname", []),
        ("connectivity-change", refresh()),
        ("dhcp4-change", refresh()),
        ("pre-up", []),
        ("up", given),
        ("connectivity-change", refresh()),
        ("dhcp6-change", refresh()),
    ]


@pytest.mark.parametrize("action", ["vpn-up", "vpn-down", "dns-change", "connectivity-change", "dhcp6-change"])
def test_dispatcher_asks_for_a_fresh_round(dispatch: Dispatcher, action: str) -> None:
    assert dispatch("", action, {}) == refresh()


@pytest.mark.parametrize("action", ["up", "dhcp4-change", "reapply"])
def test_dispatcher_hands_over_option_69(dispatch: Dispatcher, action: str) -> None:
    environment = recorded("up")
    assert dispatch("wan0", action, environment) == [
        f"{BOUNDED} {OBJECT} SetLinkRelays ias {dispatch.index} 2 10.9.0.25 10.9.0.26"
    ]
    del environment["DHCP4_SMTP_SERVER"], environment["DHCP4_REQUESTED_SMTP_SERVER"]
    assert dispatch("wan0", action, environment) == refresh()


def test_dispatcher_takes_option_69_back_when_a_lease_has_none(dispatch: Dispatcher) -> None:
    environment = recorded("up")
    del environment["DHCP4_SMTP_SERVER"]
    assert dispatch("wan0", "dhcp4-change", environment) == [f"{BOUNDED} {OBJECT} RevertLink i {dispatch.index}"]


def test_dispatcher_takes_option_69_back_when_a_lease_of_dhcpcd_has_none(dispatch: Dispatcher) -> None:
    """It never says what it asked for; NetworkManager's own client does, and never asks for this."""
    recording = recorded("up")
    environment = {name: value for name, value in recording.items() if not name.startswith("DHCP4_REQUESTED_")}
    assert dispatch("wan0", "dhcp4-change", environment) == [
        f"{BOUNDED} {OBJECT} SetLinkRelays ias {dispatch.index} 2 10.9.0.25 10.9.0.26"
    ]
    del environment["DHCP4_SMTP_SERVER"]
    assert dispatch("wan0", "dhcp4-change", environment) == [f"{BOUNDED} {OBJECT} RevertLink i {dispatch.index}"]
    assert dispatch("wan0", "up", {"DEVICE_IP_IFACE": "wan0"}) == refresh(), "a link without a lease"


def test_dispatcher_takes_option_69_back_on_down(dispatch: Dispatcher) -> None:
    assert dispatch("wan0", "down", {"DEVICE_IP_IFACE": "wan0"}) == [
        f"{BOUNDED} {OBJECT} RevertLink i {dispatch.index}"
    ]


def test_dispatcher_prefers_the_link_that_holds_the_addresses(dispatch: Dispatcher) -> None:
    assert dispatch("modem9", "down", {"DEVICE_IP_IFACE": "wan0"}) != []
    assert dispatch("wan0", "down", {"DEVICE_IP_IFACE": "ppp9"}) == [], "a link that is gone"


@pytest.mark.parametrize(
    "action", ["pre-up", "pre-down", "hostname", "device-add", "vpn-pre-up", "", "UP", "up;reboot"]
)
def test_dispatcher_leaves_other_actions_alone(dispatch: Dispatcher, action: str) -> None:
    assert dispatch("wan0", action, recorded("up")) == []


@pytest.mark.parametrize(
    "value",
    [
        "$(touch /tmp/x)",
        "`id`",
        "relay.example",
        "10.9.0.25;reboot",
        "-10.9.0.25",
        "--help",
        "10.9.0",
        "10.9.0.25.1",
        "10..9.0",
        ".10.9.0",
        "10.9.0.",
        "2001:db8::1",
        "*",
        "/*",
        "10.9.0.2[0-9]",
        "[::1]:25",
        "\\",
        "10.9.0.25\\n",
        " \t ",
        "",
    ],
)
def test_dispatcher_takes_addresses_only_from_option_69(dispatch: Dispatcher, value: str) -> None:
    environment = {**recorded("up"), "DHCP4_SMTP_SERVER": value}
    assert dispatch("wan0", "up", environment) == [f"{BOUNDED} {OBJECT} RevertLink i {dispatch.index}"]
    environment["DHCP4_SMTP_SERVER"] = f"{value} 10.9.0.26"
    assert dispatch("wan0", "up", environment) == [f"{BOUNDED} {OBJECT} SetLinkRelays ias {dispatch.index} 1 10.9.0.26"]


def test_dispatcher_hands_over_no_more_than_the_agent_takes(dispatch: Dispatcher) -> None:
    environment = {**recorded("up"), "DHCP4_SMTP_SERVER": " ".join(f"10.9.0.{n}" for n in range(1, 101))}
    (said,) = dispatch("wan0", "up", environment)
    assert f"ias {dispatch.index} 16 10.9.0.1 " in said
    assert said.endswith(" 10.9.0.16")


@pytest.mark.parametrize("interface", ["", "none", ".", "..", "../../../etc", "wan0/../wan0", "$(id)", "nothere"])
def test_dispatcher_makes_no_path_of_a_bad_interface_name(dispatch: Dispatcher, interface: str) -> None:
    assert dispatch(interface, "down", {}) == []
    assert dispatch(interface, "up", {"DHCP4_SMTP_SERVER": "10.9.0.25"}) == refresh()


def test_dispatcher_without_busctl_or_arguments_ends_well() -> None:
    for arguments in [[], ["wan0"], ["wan0", "up"]]:
        argv = ["/bin/sh", str(SCRIPT), *arguments]
        done = subprocess.run(argv, env={"PATH": "/nonexistent"}, capture_output=True, check=False, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_dispatcher_is_not_held_up_by_a_bus_that_hangs(tmp_path: Path) -> None:
    stub = tmp_path / "busctl"
    stub.write_text("#!/bin/sh\nexec sleep 50\n")
    stub.chmod(0o755)
    before = time.monotonic()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", str(SCRIPT), "", "dns-change"], env=environment, check=False, timeout=45)
    assert done.returncode == 0
    assert time.monotonic() - before < 30


def test_dispatcher_passes_shellcheck() -> None:
    subprocess.run(["shellcheck", "--shell=sh", str(SCRIPT)], check=True, timeout=30)


async def test_dispatcher_refresh_counts_though_its_sender_is_gone() -> None:
    """busctl, told to expect no reply, leaves the bus before the agent can ask whose call it was."""
    with system_bus() as bus:
        async with serving(bus) as agent:
            with await RawClient.open(bus.address) as client:
                bus_call = client.frame(PATH, INTERFACE, "Refresh", destination=NAME, flags=wire.NO_REPLY_EXPECTED)
                client.sock.send(bus_call)  # and gone, with no turn of the agent's loop between
            async with asyncio.timeout(30):
                while ("refresh",) not in agent.requests.asked:
                    await asyncio.sleep(0.01)


NM_CONFIG = """\
[main]
plugins=keyfile
dhcp={client}
dns=none
rc-manager=unmanaged
[device]
match-device=type:veth
managed=1
[connectivity]
enabled=false
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    run("install", DESTDIR=str(root), PREFIX="/usr")
    (root / "etc/resolv.conf").parent.mkdir(exist_ok=True)
    (root / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    return root


@contextmanager
def managed(files: Path, leases_at: Path, client: str, script: str = "") -> Iterator[Booted]:
    """A machine whose network NetworkManager manages, by DHCP, with the agent running; other scripts beside ours."""
    with Site(*leases(leases_at)) as site, Booted(files) as machine:
        machine.run("systemd-sysusers")
        machine.write("/etc/NetworkManager/NetworkManager.conf", NM_CONFIG.format(client=client))
        machine.write("/etc/dhcp/dhclient.conf", "also request smtp-server;\n")
        machine.run("sh", "-c", "rm -f /etc/network/interfaces /etc/NetworkManager/system-connections/*")
        if script:
            machine.write("/etc/NetworkManager/dispatcher.d/50-note", script)
            machine.run("chmod", "755", "/etc/NetworkManager/dispatcher.d/50-note")
        machine.run("systemctl", "start", "salsa-agent")
        machine.run("systemctl", "--quiet", "enable", "NetworkManager-dispatcher")  # its alias on the bus
        machine.run("systemctl", "start", "NetworkManager")
        machine.cable("wan0", site, "host0")
        site.plug("host0")
        machine.until(lambda: "wan0:connected" in nmcli(machine, "device"), "NetworkManager is connected", 60)
        yield machine


def nmcli(machine: Booted, *words: str) -> str:
    return machine.run("nmcli", "--terse", "--fields", "DEVICE,STATE", *words, check=False)


def relays(machine: Booted) -> str:
    return machine.run("busctl", "get-property", *AGENT, "Relays")


@pytest.mark.timeout(180)
@pytest.mark.needs("users")
def test_networkmanager_with_dhclient_hands_over_option_69(files: Path, tmp_path: Path) -> None:
    note = '#!/bin/sh\n{ echo "[$1 $2]"; env; } >>/var/log/note\n'
    with managed(files, tmp_path, "dhclient", note) as machine:
        if "DHCP client 'dhclient' not available" in machine.journal("NetworkManager"):
            pytest.skip("needs programs: this NetworkManager was built without dhclient, as Debian 13's")
        machine.until(lambda: '"source" s "link"' in relays(machine), "the link's relay is listed", 60)
        assert '"host" s "10.53.0.25" "port" q 25 "source" s "link"' in relays(machine)
        seen = machine.run("sed", "-n", "/^\\[wan0 up\\]/,/^\\[/s/=.*//p", "/var/log/note").split()
        # router advertisements are the recording's only, as is what DHCPv6 gave
        expected = {name for name in recorded("up") if not name.startswith(("DHCP6_", "IP6_"))}
        expected -= {"DHCP4_DOMAIN_NAME", "IP4_DOMAINS", "DHCP4_DBUS_SYSTEM_BUS_ADDRESS", "DHCP4_HOST_NAME"}
        assert sorted(expected - set(seen)) == [], "the recording is what NetworkManager says"
        machine.run("nmcli", "device", "disconnect", "wan0")
        machine.until(lambda: '"source" s "link"' not in relays(machine), "the link's relay is taken back")


@pytest.mark.timeout(180)
@pytest.mark.needs("users")
def test_networkmanager_with_its_own_client_has_the_agent_look_again(files: Path, tmp_path: Path) -> None:
    with managed(files, tmp_path, "internal") as machine:
        machine.until(lambda: f'"host" s "{RELAY}"' in relays(machine), "the network's relay is listed", 60)
        machine.until(lambda: "round (refresh)" in machine.journal("salsa-agent"), "the script asked for a round")
        assert '"source" s "link"' not in relays(machine), "the internal client gives no option 69"
        assert "90-salsa-agent" not in machine.journal("NetworkManager-dispatcher"), "no complaint about the script"
