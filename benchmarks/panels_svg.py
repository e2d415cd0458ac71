"""Draws panels of a dashboard (`benchmarks.panels`) as SVG, in Grafana's layout but not as Grafana does.

Times are seconds since the epoch; on the axes they are minutes and seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

from benchmarks.panels import UNITS, Panel, Points, Series

COLUMNS, COLUMN, ROW, GAP = 24, 50, 34, 8  # columns of Grafana's grid; pixels
INK, PALE, GRID, PAGE = "#24292f", "#57606a", "#e4e7eb", "#f4f5f5"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def picture(title: str, drawn: Sequence[tuple[Panel, Series]], span: tuple[float, float], step: float,
            notes: Sequence[tuple[float, str]]) -> str:  # fmt: skip
    """The panels with the answers to their queries, from `span[0]` to `span[1]`, in steps of so many seconds.

    `notes`: what was done at which second since the start, below the panels, and as a thin line in each graph.
    """
    top, width = 40, COLUMNS * COLUMN + GAP
    bottom = top + ROW * max(panel.place[1] + panel.place[3] for panel, _ in drawn)
    lines = ceil(len(notes) / 2)
    height = bottom + GAP + (30 + 18 * lines if notes else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="{PAGE}"/>',
        _text(GAP, 27, title, size=18, weight="bold"),
    ]
    for panel, series in drawn:
        x, y, w, h = panel.place
        box = (GAP + x * COLUMN, top + y * ROW, w * COLUMN - GAP, h * ROW - GAP)
        parts += _frame(panel.title, box) + _DRAWN[panel.kind](panel, series, box, _Times(span, step, notes))
    if notes:
        parts.append(_text(GAP + 4, bottom + 16, "What was done", weight="bold"))
    for number, (second, what) in enumerate(notes):
        x, y = GAP + 4 + number // lines * width / 2, bottom + 36 + number % lines * 18
        parts += [_text(x + 32, y, clock(second), "end", colour=PALE), _text(x + 42, y, what)]
    return "\n".join([*parts, "</svg>\n"])


Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True, slots=True)
class _Times:
    span: tuple[float, float]
    step: float
    notes: Sequence[tuple[float, str]]

    def pieces(self, points: Points) -> list[Points]:
        """The points in runs without a gap."""
        runs: list[list[tuple[float, float]]] = []
        for point in points:
            if not runs or point[0] - runs[-1][-1][0] > 1.5 * self.step:
                runs.append([])
            runs[-1].append(point)
        return runs


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: str = "normal",
          colour: str = INK) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def _frame(title: str, box: Box) -> list[str]:
    x, y, w, h = box
    return [
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="#fff" stroke="{GRID}"/>',
        _text(x + 10, y + 21, title, size=13, weight="bold"),
    ]


def _path(points: Points) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _stat(panel: Panel, series: Series, box: Box, times: _Times) -> list[str]:
    """The last value, over what it was before."""
    x, y, w, h = box
    ((_, points),) = series.items()
    last = points[-1][1]
    colour, most = panel.threshold(last), max(1.0, *(value for _, value in points))
    start, end = times.span
    parts = []
    for run in times.pieces(points):
        places = [(x + 1 + (at - start) / (end - start) * (w - 2), y + h - 2 - 30 * value / most) for at, value in run]
        area = [(places[0][0], y + h - 1), *places, (places[-1][0], y + h - 1)]
        parts.append(f'<path d="{_path(area)}" fill="{colour}" fill-opacity="0.15"/>')
        parts.append(f'<path d="{_path(places)}" fill="none" stroke="{colour}" stroke-opacity="0.5"/>')
    return [*parts, _text(x + w / 2, y + 78, UNITS[panel.unit](last), "middle", 38, "bold", colour)]


def _graph(panel: Panel, series: Series, box: Box, times: _Times) -> list[str]:
    """A line for each series over time, one upon the other where the panel stacks them."""
    x, y, w, h = box
    left, right, top, bottom = x + 50, x + w - 16, y + 38, y + h - 50
    start, end = times.span
    layers = _layers(series, stacked=panel.stacked)
    most = max((value for upper, _ in layers.values() for _, value in upper), default=0.0)
    grid = max(1.0, _grid(most)) if panel.stacked else _grid(most)  # what is stacked is counted
    ceiling = max(1, ceil(most / grid - 1e-9)) * grid

    def along(at: float) -> float:
        return left + (at - start) / (end - start) * (right - left)

    def above(value: float) -> float:
        return bottom - value / ceiling * (bottom - top)

    parts = []
    for number in range(round(ceiling / grid) + 1):
        level = above(number * grid)
        parts.append(f'<path d="M{left} {level:.1f}H{right}" stroke="{GRID}"/>')
        parts.append(_text(left - 8, level + 4, UNITS[panel.unit](number * grid), "end", 11, colour=PALE))
    parts += [
        _text(along(start + second), bottom + 17, clock(second), "middle", 11, colour=PALE)
        for second in range(0, floor(end - start) + 1, _every(end - start))
    ]
    parts += [
        f'<path d="M{along(start + second):.1f} {top}V{bottom}" stroke="#c3c9d0" stroke-dasharray="2 3"/>'
        for second, _ in times.notes
    ]
    for number, (legend, (upper, lower)) in enumerate(layers.items()):
        colour = panel.colour(legend, number)
        below = dict(lower)
        for run in times.pieces(upper):
            places = [(along(at), above(value)) for at, value in run]
            if panel.stacked:
                base = [(along(at), above(below[at])) for at, _ in reversed(run)]
                parts.append(f'<path d="{_path([*places, *base])}Z" fill="{colour}" fill-opacity="0.4"/>')
            edges = _thick(run, below) if panel.stacked else [run]
            parts += [
                f'<path d="{_path([(along(at), above(value)) for at, value in edge])}" '
                f'fill="none" stroke="{colour}" stroke-width="1.5"/>'
                for edge in edges
            ]
    return parts + _legend(panel, list(layers), left, y + h - 14)


def _layers(series: Series, *, stacked: bool) -> dict[str, tuple[Points, Points]]:
    """Upper and lower edge of each series."""
    layers: dict[str, tuple[Points, Points]] = {}
    floor_at: dict[float, float] = {}
    for legend, points in series.items():
        lower = [(at, floor_at.get(at, 0.0)) for at, _ in points]
        upper = [(at, value + under) for (at, value), (_, under) in zip(points, lower, strict=True)]
        layers[legend] = upper, lower
        if stacked:
            floor_at |= dict(upper)
    return layers


def _thick(run: Points, below: Mapping[float, float]) -> list[Points]:
    """The parts of an upper edge under which there is something: of a series that is 0, nothing is drawn."""
    edges: list[list[tuple[float, float]]] = []
    for before, after in pairwise(run):
        if before[1] == below[before[0]] and after[1] == below[after[0]]:
            continue
        if not edges or edges[-1][-1] != before:
            edges.append([before])
        edges[-1].append(after)
    return list(edges)


def _grid(most: float) -> float:
    """The distance of at most six lines up to the highest value."""
    if most <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(most))
    return next(step * unit for step in (0.2, 0.5, 1.0, 2.0) if most / (step * unit) <= 6)


def _every(seconds: float) -> int:
    """How many seconds there are between the labels of the axis."""
    return next((step for step in (5, 10, 15, 30, 60) if seconds / step <= 12), 300)


def _legend(panel: Panel, legends: Sequence[str], x: float, y: float) -> list[str]:
    parts = []
    for number, legend in enumerate(legends):
        parts.append(f'<rect x="{x:.1f}" y="{y - 7}" width="16" height="4" fill="{panel.colour(legend, number)}"/>')
        parts.append(_text(x + 22, y, legend))
        x += 44 + 7.5 * len(legend)
    return parts


_DRAWN: dict[str, Callable[[Panel, Series, Box, _Times], list[str]]] = {"stat": _stat, "timeseries": _graph}
