"""`salsactl install-files`: what it refuses. What it places: tests/whole/test_wheel.py."""

from __future__ import annotations

import pytest

from salsa_agent.cli.salsactl.main import main


def test_install_files_takes_no_empty_name_for_the_directory_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install-files", ""])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("no directory is named; / is this system\n")
