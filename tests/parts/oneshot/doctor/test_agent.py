"""What the doctor finds of the agent and its bus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Agents, Scene
from tests.parts.oneshot.doctor.scenes import codes


@pytest.mark.parametrize(
    ("agents", "wanted"),
    [
        (Agents(), [("fault", "no-agent")]),
        (Agents("session"), [("fault", "no-agent")]),
        (Agents("auto", (), ("system",)), [("fault", "no-agent"), ("warning", "no-policy")]),
        (
            Agents("auto", ("session",), ("system", "session")),
            [("warning", "agent-on-session-bus"), ("warning", "no-policy")],
        ),
        (Agents("auto", ("session",), ("session",)), []),
        (Agents("auto", elsewhere=("unix:path=/x/bus",)), [("fault", "agent-on-another-bus")]),
        (Agents("system", elsewhere=("session",)), [("fault", "agent-on-another-bus")]),
        (Agents("unix:path=/x", ("unix:path=/x",), ("unix:path=/x",)), []),
    ],
)
def test_agents(sound: Scene, agents: Agents, wanted: list[tuple[str, str]]) -> None:
    assert codes(replace(sound, agents=agents)) == wanted


def test_policy_and_unit(sound: Scene) -> None:
    absent = replace(sound, agents=Agents("auto", (), ("system",)))
    (sound.root / "run/systemd/system").mkdir(parents=True)
    assert codes(absent) == [("fault", "no-agent"), ("warning", "no-policy"), ("warning", "no-unit")]
    for file in ("etc/dbus-1/system.d/org.salsa.Agent1.conf", "usr/lib/systemd/system/salsa-agent.service"):
        (sound.root / file).parent.mkdir(parents=True)
        (sound.root / file).touch()
    assert codes(absent) == [("fault", "no-agent")]


def test_h3_the_bus_refuses_the_name(sound: Scene) -> None:
    words = 'Connection ":1.4" is not allowed to own the service "org.salsa.Agent1" due to security policies'
    refused = replace(sound, agents=Agents("auto", (), ("system",), refused=words))
    _, found = findings(refused)
    assert (found.severity, found.code) == ("fault", "name-refused")
    assert words in found.problem
    assert found.cure.startswith("Install its policy")
    policy = sound.root / "usr/share/dbus-1/system.d/org.salsa.Agent1.conf"
    policy.parent.mkdir(parents=True)
    policy.touch()
    assert "have the bus read it" in findings(refused)[1].cure


def test_h3_a_policy_for_a_user_that_is_not_there_is_left_out_by_the_bus(sound: Scene) -> None:
    absent = replace(sound, agents=Agents("auto", (), ("system",)))
    for file in ("etc/dbus-1/system.d/org.salsa.Agent1.conf", "etc/passwd"):
        (sound.root / file).parent.mkdir(parents=True, exist_ok=True)
        (sound.root / file).write_text("root:x:0:0::/root:/bin/sh\n")
    assert codes(absent) == [("fault", "no-agent"), ("fault", "name-refused")]
    with (sound.root / "etc/passwd").open("a") as users:
        users.write("salsa-agent:x:999:999::/:/usr/sbin/nologin\n")
    assert codes(absent) == [("fault", "no-agent")]
