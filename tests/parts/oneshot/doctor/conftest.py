"""The sound world."""

from __future__ import annotations

from pathlib import Path

import pytest

from salsa_agent.core.model import Asked, CheckResult, Verdict
from salsa_agent.core.settings import Settings
from salsa_agent.oneshot.doctor.scene import Agents, Check, Port, Probe, Scene
from tests.core.sim import facts as facts_of
from tests.parts.oneshot.doctor.scenes import FOUND, MX, NONE, NOW, SERVER, A, B, listed, said


@pytest.fixture
def sound(tmp_path: Path) -> Scene:
    """A world in which nothing is wrong. Root: an empty directory."""
    return Scene(
        Settings(),
        facts_of("192.0.2.1"),
        said(listed()),
        (Asked(MX, FOUND, 32),),
        (Check(A, CheckResult(Verdict.OK), 0.2),),
        (Probe(SERVER, NONE),),
        (Port(A, greeting="220 mx.a.example ESMTP"), Port(B, greeting="220 mx.b.test ESMTP")),
        Agents("auto", ("system",), ("system",), "ready"),
        root=tmp_path,
        now=NOW,
        installed=NOW - 1e6,
    )
