"""All findings of the doctor: a broken world has its sentence and its cure, a sound one has none."""

from __future__ import annotations

from dataclasses import replace

from salsa_agent.core.model import Verdict
from salsa_agent.oneshot.doctor.examine import as_plain, findings
from salsa_agent.oneshot.doctor.scene import Agents, Scene
from tests.parts.oneshot.doctor.scenes import codes, listed, said


def test_nothing_is_named_in_a_sound_world(sound: Scene) -> None:
    assert codes(sound) == []


def test_the_worst_comes_first_and_each_has_problem_and_cure(sound: Scene) -> None:
    (sound.root / "etc").mkdir()
    (sound.root / "etc/msmtprc").write_text("account default\nhost mail.example\n")
    broken = replace(sound, agents=Agents(), said=said(listed(verdict=Verdict.FAILED, reason="greeting: 554 no")))
    found = as_plain(findings(broken))
    order = [one["severity"] for one in found]
    assert order == sorted(order, key=["fault", "warning", "note"].index)
    assert {"fault", "note"} <= set(order)
    for one in found:
        assert set(one) == {"severity", "code", "problem", "cure"}
        assert all(text.isprintable() for text in one.values())
        assert one["problem"].endswith(".")
        assert one["cure"].endswith((".", "(timedatectl set-ntp true)."))
