"""The benchmarks run, a few of each. Nothing that they measure is judged here."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import plot
from benchmarks.figures import both, p99, times
from tests.lab.run import run


@pytest.mark.timeout(300)
def test_a_quick_run_writes_every_table_and_plot(tmp_path: Path) -> None:
    done = run("bench", "--quick", "--out", str(tmp_path))
    results = (tmp_path / "results.md").read_text()
    for title in ("Event to signal, 0 ms", "Start", "Size and idleness", "Storms", "D-Bus reads", "Postfix", "Growth"):
        assert f"### {title}" in results
    assert "none came" not in results
    assert re.search(r"\| salsa-agent, 20 come and go \| 1 of 1 \|", results)
    for picture in ("latency.svg", "growth.svg"):
        assert f"]({picture})" in results
        ElementTree.parse(tmp_path / picture)
    assert "storm, 20 addresses come and go, salsa-agent" in done.stderr  # its progress


def test_a_plot_holds_what_it_is_given() -> None:
    picture = plot.bars("a < b", "ms", {"one": [1.0, 2.0, 3.0], "two & more": [0.5]})
    words = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]
    assert {"a < b", "one", "two & more", "2", "0.5"} <= set(words)
    ElementTree.fromstring(plot.line("t", "x", "y", [(1.0, 3.0), (10.0, 30.0)]))


def test_how_values_are_summed_up() -> None:
    assert p99([5.0]) == 5.0
    assert p99([float(n) for n in range(200)]) == 198.0
    assert both([1.0, 2.0, 9.0], 1) == "2.0 / 9.0"
    assert both([]) == "none came"
    assert times([6.0], [2.0]) == "3.0"
    assert times([], [2.0]) == ""
