"""docs/dashboard.svg, drawn by `benchmarks.dashboard`: no panel of the Grafana dashboard is left out."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.dashboard import DASHBOARD, PICTURE, VARIABLES
from benchmarks.panels import Panel, Series, panels
from benchmarks.panels_svg import picture

SPAN = (1000.0, 1120.0)
POINTS = [(1000.0, 0.0), (1060.0, 2.0), (1120.0, 1.0)]


def board() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def texts(svg: str) -> list[str]:
    return [str(one.text) for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def answered(panel: Panel) -> Series:
    """A series for each query."""
    label = {"salsa_state": "ready", "verdict": "ok"}
    return {target.named(label): POINTS for target in panel.targets}


def drawn() -> list[tuple[Panel, Series]]:
    return [(panel, answered(panel)) for panel in panels(board(), VARIABLES)]


def test_every_panel_and_query_of_the_dashboard_is_read() -> None:
    read = panels(board(), VARIABLES)
    assert [(panel.title, len(panel.targets)) for panel in read] == [
        (one["title"], len(one["targets"])) for one in board()["panels"]
    ]
    assert [panel.place for panel in read] == [
        tuple(one["gridPos"][key] for key in "xywh") for one in board()["panels"]
    ]
    assert not [target for panel in read for target in panel.targets if "$" in target.expression]


def test_every_title_and_legend_is_drawn() -> None:
    seen = texts(picture("hosts", drawn(), SPAN, 60.0, [(5, "a relay dies")]))
    for panel, series in drawn():
        assert panel.title in seen
        assert panel.kind == "stat" or set(series) <= set(seen), panel.title
    assert seen.count("1") >= 4, "the last value of each stat"
    assert "a relay dies" in seen


def test_the_stored_picture_is_of_the_dashboard_as_it_is() -> None:
    """Fails where a panel was added or renamed since; `python -m benchmarks.dashboard` draws it anew."""
    seen = texts(PICTURE.read_text())
    assert {one["title"] for one in board()["panels"]} - set(seen) == set()
    legends = [target["legendFormat"] for one in board()["panels"] for target in one["targets"]]
    assert {legend for legend in legends if "{{" not in legend and legend} - set(seen) == set()
    assert {"starting", "offline", "resolving", "degraded", "ready", "ok", "failed", "unverified"} <= set(seen)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "heatmap"},
        {"fieldConfig": {"defaults": {"unit": "celsius"}, "overrides": []}},
        {
            "fieldConfig": {
                "defaults": {"unit": "short"},
                "overrides": [{"matcher": {"id": "byType"}, "properties": [{}]}],
            }
        },
    ],
)
def test_what_cannot_be_drawn_is_not_left_out_in_silence(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        panels({"panels": [board()["panels"][0] | change]}, VARIABLES)


def test_a_gap_in_the_answer_is_a_gap_in_the_line() -> None:
    graph = next(panel for panel in panels(board(), VARIABLES) if panel.kind == "timeseries" and not panel.stacked)

    def lines(points: list[tuple[float, float]]) -> int:
        return picture("", [(graph, {"one": points})], SPAN, 1.0, []).count('stroke-width="1.5"')

    assert lines([(1000.0, 1.0), (1001.0, 1.0), (1002.0, 1.0)]) == 1
    assert lines([(1000.0, 1.0), (1001.0, 1.0), (1050.0, 1.0)]) == 2


def test_a_series_of_zeros_draws_no_line_upon_the_others() -> None:
    stacked = next(panel for panel in panels(board(), VARIABLES) if panel.stacked)

    def lines(*values: float) -> int:
        series = {"ready": [(1000.0, 1.0), (1001.0, 1.0), (1002.0, 1.0)]}
        series["offline"] = [(1000.0 + number, value) for number, value in enumerate(values)]
        return picture("", [(stacked, series)], SPAN, 1.0, []).count('stroke-width="1.5"')

    assert (lines(0.0, 0.0, 0.0), lines(0.0, 0.0, 1.0)) == (1, 2)


def test_single_values_have_thresholds_of_their_own() -> None:
    """Grafana's own would show everything from 80 on in red, such as an agent that has run for two minutes."""
    for panel in panels(board(), VARIABLES):
        assert panel.kind != "stat" or panel.steps, panel.title


def test_states_and_verdicts_have_colours_that_say_what_they_are() -> None:
    """Grafana's own go by the alphabet: `failed` would be green."""
    by_title = {panel.title: panel.colours for panel in panels(board(), VARIABLES)}
    assert by_title["Relays by verdict"] == {"ok": "green", "unverified": "yellow", "failed": "red"}
    assert set(by_title["Hosts by state"]) == {"starting", "offline", "resolving", "degraded", "ready"}
    for title in ("DNS questions", "Conversations with relays"):
        assert by_title[title]["failed"] == "red"
