"""Whether an agent runs, and where programs look for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from salsa_agent.oneshot.doctor.files import read
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean

_POLICY = "org.salsa.Agent1.conf"
_POLICIES = ("etc/dbus-1/system.d", "usr/share/dbus-1/system.d", "usr/local/share/dbus-1/system.d")
_USER = "salsa-agent"
_UNIT = "salsa-agent.service"
_UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "usr/local/lib/systemd/system", "lib/systemd/system")


def findings(scene: Scene) -> Iterator[Finding]:
    """No agent, one on another bus, a name that is refused, no policy, no unit."""
    agents = scene.agents
    where = "on the system or the session bus" if agents.asked == "auto" else f"on {clean(agents.asked)}"
    if not agents.on and agents.elsewhere:
        other = " and on ".join(_bus(one) for one in agents.elsewhere)
        yield Finding(
            Severity.FAULT,
            "agent-on-another-bus",
            f"No agent runs {where}, but one does on {other}: programs that look {where} get no answer.",
            f"Ask that one with --bus {clean(agents.elsewhere[0])}; for all programs of this host have the system run "
            "it (systemctl enable --now salsa-agent).",
        )
    elif not agents.on:
        yield Finding(
            Severity.FAULT,
            "no-agent",
            f"No agent runs {where}: programs that ask it get no answer.",
            "Start it (systemctl enable --now salsa-agent). For one with a private bus name the address that it "
            "printed at its start: --bus unix:path=... Where no agent is wanted, salsactl find answers without one.",
        )
    elif agents.asked == "auto" and "system" in agents.buses and "system" not in agents.on:
        yield Finding(
            Severity.WARNING,
            "agent-on-session-bus",
            "The agent runs on the session bus: programs of other users, such as Postfix, look on the system bus.",
            "Have the system run it (systemctl enable --now salsa-agent), or give it --bus system.",
        )
    if "system" not in agents.on and agents.asked in ("auto", "system"):
        yield from _not_installed(scene)


def _not_installed(scene: Scene) -> Iterator[Finding]:
    policy = _any(scene.root, _POLICIES, _POLICY)
    if scene.agents.refused:
        yield Finding(
            Severity.FAULT,
            "name-refused",
            f"The system bus refuses the name org.salsa.Agent1: {clean(scene.agents.refused)}.",
            f"{_POLICY} is installed: have the bus read it (systemctl reload dbus), and see that no other policy "
            "denies the name."
            if policy
            else f"Install its policy ({_POLICY}) with the package or ./run install, and reload the bus "
            "(systemctl reload dbus).",
        )
    elif "system" in scene.agents.buses and policy and not _knows_user(scene.root):
        yield Finding(
            Severity.FAULT,
            "name-refused",
            f"The policy of the system bus gives the name to the user {_USER}, whom this system does not have: the bus "
            "leaves such a policy out, and refuses the name.",
            "Make the user (systemd-sysusers), then reload the bus (systemctl reload dbus).",
        )
    elif "system" in scene.agents.buses and not policy:
        yield Finding(
            Severity.WARNING,
            "no-policy",
            f"The system bus has no policy for the agent ({_POLICY}): it refuses it the name.",
            "Install the agent as a package or with ./run install, and reload the bus (systemctl reload dbus).",
        )
    if (scene.root / "run/systemd/system").is_dir() and not _any(scene.root, _UNITS, _UNIT):
        yield Finding(
            Severity.WARNING,
            "no-unit",
            f"systemd has no unit of the agent ({_UNIT}): it is not started with the system.",
            "Install the agent as a package or with ./run install, then systemctl enable --now salsa-agent.",
        )


def _bus(name: str) -> str:
    return f"the {name} bus" if name in ("system", "session") else clean(name)


def _knows_user(root: Path) -> bool:
    """Whether the user is in the file; where there is none, others may know users."""
    users = read(root / "etc/passwd")
    return not users or any(line.startswith(f"{_USER}:") for line in users.splitlines())


def _any(root: Path, directories: tuple[str, ...], name: str) -> bool:
    return any((root / directory / name).exists() for directory in directories)
