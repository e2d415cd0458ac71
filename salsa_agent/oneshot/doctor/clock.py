"""Whether the clock can be right: certificates are judged by it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity

DAY = 86_400.0
_LONG = 20 * 365 * DAY  # no release is in use for so long


def findings(scene: Scene) -> Iterator[Finding]:
    """A clock that is before this program was installed, or far beyond."""
    if not scene.installed:
        return
    if scene.now < scene.installed - DAY or scene.now > scene.installed + _LONG:
        yield Finding(
            Severity.FAULT,
            "clock-wrong",
            f"The clock says {time.strftime('%Y-%m-%d', time.gmtime(scene.now))}, which cannot be: this program was "
            f"installed on {time.strftime('%Y-%m-%d', time.gmtime(scene.installed))}. No certificate is valid by it.",
            "Set it, and have it kept (timedatectl set-ntp true).",
        )
