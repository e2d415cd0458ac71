"""Plots as SVG, drawn by hand: bars and a line on a logarithmic scale, and counts over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from statistics import median

from benchmarks.figures import p99

WIDTH, LEFT, RIGHT, ROW, MARGIN = 760, 250, 40, 24, 44
INK, BAR, LATE, GRID = "#24292f", "#4078c0", "#c6d7ef", "#d0d7de"


class Scale:
    """From a value to where it stands between two places; logarithmic, from one power of ten to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = floor(log10(min(values)))
        self._high = max(self._low + 1, ceil(log10(max(values))))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        part = (log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    @property
    def steps(self) -> list[float]:
        """The powers of ten."""
        return [10.0**power for power in range(self._low, self._high + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(text)}</text>'


def _picture(height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>', *parts, "</svg>\n"])


def bars(title: str, unit: str, values: Mapping[str, Sequence[float]]) -> str:
    """A bar for each median; lighter up to the 99th percentile."""
    scale = Scale([value for seen in values.values() for value in (median(seen), p99(seen))], LEFT, WIDTH - RIGHT)
    bottom = MARGIN + ROW * len(values)
    parts = [_text(WIDTH / 2, 22, title, "middle", 15)]
    for step in scale.steps:
        x = scale(step)
        parts.append(f'<path d="M{x:.1f} {MARGIN}V{bottom}" stroke="{GRID}"/>')
        parts.append(_text(x, bottom + 18, f"{step:g} {unit}", "middle"))
    for row, (label, seen) in enumerate(values.items()):
        y = MARGIN + ROW * row + 4
        for value, colour in ((p99(seen), LATE), (median(seen), BAR)):
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{scale(value) - LEFT:.1f}" height="16" fill="{colour}"/>')
        parts.append(_text(LEFT - 8, y + 13, label, "end"))
        parts.append(_text(scale(p99(seen)) + 5, y + 13, f"{median(seen):.3g}"))
    return _picture(bottom + 30, parts)


def line(title: str, across: str, up: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through the points, both scales logarithmic."""
    height, top, bottom = 380, MARGIN, 330
    along = Scale([x for x, _ in points], 90, WIDTH - RIGHT)
    above = Scale([y for _, y in points], bottom, top)
    parts = [_text(WIDTH / 2, 22, title, "middle", 15), _text(WIDTH / 2, height - 12, across, "middle")]
    parts.append(_text(10, top - 8, up))
    for step in along.steps:
        parts.append(f'<path d="M{along(step):.1f} {top}V{bottom}" stroke="{GRID}"/>')
        parts.append(_text(along(step), bottom + 18, f"{step:g}", "middle"))
    for step in above.steps:
        parts.append(f'<path d="M90 {above(step):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(82, above(step) + 4, f"{step:g}", "end"))
    places = [(along(x), above(y)) for x, y in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts.append(f'<path d="M{path}" fill="none" stroke="{BAR}" stroke-width="2"/>')
    for (x, y), (_, value) in zip(places, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BAR}"/>')
        parts.append(_text(x + 8, y - 6, f"{value:.3g}"))
    return _picture(height, parts)


def over_time(
    title: str, across: str, counts: Mapping[str, Sequence[tuple[float, float]]], shaded: tuple[float, float]
) -> str:
    """A line for each row of counts over time, both scales linear; the time `shaded` stands out."""
    height, top, bottom, left = 380, MARGIN + 20, 330, 60
    first = min(x for points in counts.values() for x, _ in points)
    last = max(x for points in counts.values() for x, _ in points)
    most = max(y for points in counts.values() for _, y in points)
    unit = 10.0 ** floor(log10(most))
    grid = next(step * unit for step in (0.2, 0.5, 1.0, 2.0) if most / (step * unit) <= 6)

    def along(x: float) -> float:
        return left + (x - floor(first)) / (ceil(last) - floor(first)) * (WIDTH - RIGHT - left)

    def above(y: float) -> float:
        return bottom - y / (ceil(most / grid) * grid) * (bottom - top)

    parts = [_text(WIDTH / 2, 22, title, "middle", 15), _text(WIDTH / 2, height - 12, across, "middle")]
    start, end = (along(x) for x in shaded)
    parts.append(f'<rect x="{start:.1f}" y="{top}" width="{end - start:.1f}" height="{bottom - top}" fill="#f6f8fa"/>')
    for step in range(ceil(most / grid) + 1):
        y = above(step * grid)
        parts.append(f'<path d="M{left} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(left - 8, y + 4, f"{step * grid:g}", "end"))
    hours = range(floor(first), ceil(last) + 1)
    parts += [_text(along(hour), bottom + 18, str(hour), "middle") for hour in hours]
    for row, (label, points) in enumerate(counts.items()):
        colour = (BAR, "#bc4c00", "#1a7f37")[row]
        path = "L".join(f"{along(x):.1f} {above(y):.1f}" for x, y in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = left + 340 * row
        parts.append(f'<path d="M{x} {MARGIN}h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(x + 30, MARGIN + 4, label))
    return _picture(height, parts)
