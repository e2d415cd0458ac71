"""Panels of a Grafana dashboard, read from its JSON. No IO. `benchmarks.panels_svg` draws them.

Of Grafana's model only what examples/monitoring/grafana.json uses; what is unknown raises, so that nothing is left out
in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Points = Sequence[tuple[float, float]]  # seconds since the epoch, value
Series = Mapping[str, Points]  # by legend

KINDS = ("stat", "timeseries")
COLOURS = {
    "green": "#37872d", "yellow": "#e0b400", "blue": "#3274d9", "orange": "#fa6400", "red": "#c4162a",
    "purple": "#8f3bb8",
}  # fmt: skip
UNCOLOURED = ("green", "blue", "purple", "yellow", "orange", "red")  # in this order, where the JSON says nothing


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel, with what stands for a series of its answer."""

    expression: str
    legend: str

    def named(self, labels: Mapping[str, str]) -> str:
        """What the legend says of a series with these labels."""
        text = self.legend
        for label, value in labels.items():
            text = text.replace(f"{{{{{label}}}}}", value)
        return text


@dataclass(frozen=True, slots=True)
class Panel:
    """`place`: x, y, width and height in cells. `steps`: colours from these values on, the first from the lowest."""

    kind: str
    title: str
    place: tuple[int, int, int, int]
    targets: tuple[Target, ...]
    unit: str
    stacked: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[float, str]] = ()

    def colour(self, legend: str, number: int) -> str:
        """Of a series, by its legend, or by its number among those without a colour of their own."""
        return COLOURS[self.colours.get(legend) or UNCOLOURED[number % len(UNCOLOURED)]]

    def threshold(self, value: float) -> str:
        """The colour of a single value."""
        return COLOURS[[colour for start, colour in self.steps if value >= start][-1]]


def panels(board: Mapping[str, Any], variables: Mapping[str, str]) -> list[Panel]:
    """All panels of a dashboard, with its variables replaced by these texts. Raises for what cannot be drawn."""
    return [_panel(one, variables) for one in board["panels"]]


def _panel(one: Mapping[str, Any], variables: Mapping[str, str]) -> Panel:
    if one["type"] not in KINDS or one["fieldConfig"]["defaults"]["unit"] not in UNITS:
        raise ValueError(f"panel {one['title']!r}: {one['type']} in this unit is not drawn")
    if one["type"] == "stat" and len(one["targets"]) != 1:
        raise ValueError(f"panel {one['title']!r}: a stat with one query is drawn")
    defaults, place = one["fieldConfig"]["defaults"], one["gridPos"]
    return Panel(
        one["type"],
        one["title"],
        (place["x"], place["y"], place["w"], place["h"]),
        tuple(Target(_replaced(target["expr"], variables), target["legendFormat"]) for target in one["targets"]),
        defaults["unit"],
        defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        dict(_fixed_colour(override) for override in one["fieldConfig"]["overrides"]),
        [
            (float("-inf") if step["value"] is None else step["value"], step["color"])
            for step in defaults.get("thresholds", {}).get("steps", ())
        ],
    )


def _fixed_colour(override: Mapping[str, Any]) -> tuple[str, str]:
    (only,) = override["properties"]
    if override["matcher"]["id"] != "byName" or only["id"] != "color":
        raise ValueError(f"an override other than the colour of a name is not drawn: {override}")
    return override["matcher"]["options"], only["value"]["fixedColor"]


def _replaced(expression: str, variables: Mapping[str, str]) -> str:
    for name, text in variables.items():
        expression = expression.replace(f"${name}", text)
    return expression


# --- values


def _short(value: float) -> str:
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 60 else f"{value / 60:.3g} min"


UNITS: dict[str, Callable[[float], str]] = {
    "short": _short, "s": _seconds, "reqps": lambda value: f"{value:.3g}/s"
}  # fmt: skip
