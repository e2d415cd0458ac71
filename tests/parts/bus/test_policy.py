"""The project's bus policy on real buses: as root, as the service user, as nobody."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import pytest

from salsa_agent.bus.interface import INTERFACE, NAME, PATH
from salsa_agent.core.model import State
from tests.lab.bus import KINDS, NOBODY, POLICY, PROJECT, ROOT, SERVICE_UID, Bus, RawClient, system_bus
from tests.lab.busagent import READY, follow, serving

USERS = {"root": ROOT, "salsa-agent": SERVICE_UID, "nobody": NOBODY}


@pytest.fixture(params=KINDS)
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    with system_bus(request.param) as running:
        yield running


@pytest.mark.parametrize("user", USERS)
async def test_policy_everybody_reads_follows_and_asks_and_only_root_tells_of_links(bus: Bus, user: str) -> None:
    root = user == "root"
    async with serving(bus) as agent:

        async def may(*call: str) -> bool:
            done = await bus.busctl("call", NAME, PATH, *call, uid=USERS[user])
            assert done.status == 0 or "denied" in done.err.lower() or "not allowed" in done.err.lower(), done
            return done.status == 0

        assert await may("org.freedesktop.DBus.Properties", "GetAll", "s", INTERFACE)
        assert await may("org.freedesktop.DBus.Introspectable", "Introspect")
        assert await may("org.freedesktop.DBus.Peer", "Ping")
        assert await may(INTERFACE, "Refresh")
        assert await may(INTERFACE, "ReportFailure", "sqs", "a.example.net", "25", "no")
        assert await may(INTERFACE, "RelayFor", "s", "me@home.example")
        assert await may(INTERFACE, "Lookup", "s", "192.0.2.1")
        assert await may(INTERFACE, "Explain")
        assert await may(INTERFACE, "SetLinkRelays", "ias", "2", "0") is root
        assert await may(INTERFACE, "RevertLink", "i", "2") is root
        told = [what for what, *_ in agent.requests.asked]
        assert ("revert_link" in told) is ("set_link_relays" in told) is root


@pytest.mark.parametrize("user", USERS)
async def test_policy_the_name_is_for_root_and_the_service_user(bus: Bus, user: str) -> None:
    done = await bus.busctl(
        "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", NAME, "4",
        uid=USERS[user],
    )  # fmt: skip
    assert (done.status == 0) is (user != "nobody"), done
    if done.status:
        assert re.search("denied|not allowed", done.err), done


async def test_policy_signals_reach_everybody(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            await follow(client)
            agent.publish(replace(READY, state=State.DEGRADED))
            assert (await client.signal("PropertiesChanged"))[1][1]["State"].value == "degraded"


def test_policy_every_rule_names_destination_and_interface() -> None:
    rules = [rule for policy in ET.parse(POLICY).getroot() for rule in policy]
    sending = [rule.attrib for rule in rules if any(key.startswith("send") for key in rule.attrib)]
    assert len(sending) == 11
    assert all(rule["send_destination"] == NAME and rule["send_interface"] for rule in sending)
    assert [rule.attrib for rule in rules if "own" in rule.attrib] == [{"own": NAME}] * 2


@pytest.mark.needs("namespaces")
def test_policy_a_user_that_is_not_there_does_no_harm() -> None:
    """Before the package has made the user, the bus must read the policy all the same."""
    with system_bus() as bus:
        passwd = bus.directory / "passwd"
        passwd.write_text("".join(f"{line}\n" for line in passwd.read_text().splitlines() if "salsa-agent" not in line))
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", 'mount --bind "$1/passwd" /etc/passwd && rm "$1/bus" && exec timeout 20 '
             'dbus-daemon --config-file="$1/bus.conf" --nopidfile --print-address=1 --fork --print-pid=1', "sh",
             str(bus.directory)], capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        os.kill(int(done.stdout.split()[1]), 9)


def test_the_activation_file_leaves_starting_to_systemd() -> None:
    text = (PROJECT / "dbus" / "org.salsa.Agent1.service").read_text()
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert text.startswith("[D-BUS Service]\n")
    assert found == {
        "Name": NAME,
        "Exec": "/bin/false",
        "User": "salsa-agent",
        "SystemdService": "dbus-org.salsa.Agent1.service",  # the alias, which `systemctl disable` takes away
    }
