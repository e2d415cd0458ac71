"""Whether an agent runs, and where programs look for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.findings import Severity

_POLICY = "org.salsa.Agent1.conf"
_POLICIES = ("etc/dbus-1/system.d", "usr/share/dbus-1/system.d", "usr/local/share/dbus-1/system.d")
_UNIT = "salsa-agent.service"
_UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "usr/local/lib/systemd/system", "lib/systemd/system")


def findings(scene: Scene) -> Iterator[Finding]:
    """No agent, one on another bus, no policy, no unit."""
    agents = scene.agents
    if not agents.on:
        where = "on the system or the session bus" if agents.asked == "auto" else f"on {agents.asked}"
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
    if "system" in scene.agents.buses and not _any(scene.root, _POLICIES, _POLICY):
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


def _any(root: Path, directories: tuple[str, ...], name: str) -> bool:
    return any((root / directory / name).exists() for directory in directories)
