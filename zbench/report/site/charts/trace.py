"""One traced figure over the steps of training, a line for each training."""

from __future__ import annotations

from collections.abc import Sequence

from zbench.report.site.charts.svg import Drawing, Point, Scale, tick_label
from zbench.report.trace_plot import DEEPEST, wants_log

SIZE = (240.0, 118.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 234.0, 8.0, 98.0
MOST_POINTS = 60
"""Points of a line at most; more cannot be seen."""

LINES = 4
"""Styles of lines that can be told apart."""

Series = tuple[Sequence[float], Sequence[float]]
"""Steps and values."""


def draw_trace(series: Sequence[tuple[str, Series]], title: str) -> str:
    """A panel with one line for each training.

    Args:
        series: Label of a training and its points; no line may be empty.
        title: Name of the figure, for those who cannot see it.
    """
    values = [value for _, (_, of) in series for value in of]
    steps = [step for _, (at, _) in series for step in at]
    up = _scale(values)
    across = Scale(0.0, max(1.0, max(steps)), _LEFT, _RIGHT)
    logarithmic = " on a logarithmic axis" if up.logarithmic else ""
    last = "; ".join(f"{label} ends at {of[-1]:.4g}" for label, (_, of) in series)
    drawing = Drawing(SIZE, title, f"{title} over training steps{logarithmic}. {last}.", "trace")
    _draw_axes(drawing, across, up)
    for place, (_, points) in enumerate(series):
        drawing.path(_thinned(points, across, up), f"line l{place % LINES}")
    return str(drawing)


def _scale(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    if wants_log(values):
        least = max(min(value for value in values if value > 0), DEEPEST * high)
        return Scale(least / 1.2, high * 1.2, _BOTTOM, _TOP, logarithmic=True)
    air = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    floor = 0.0 if 0 <= low < 0.5 * high else low - air
    return Scale(floor, high + air, _BOTTOM, _TOP)


def _draw_axes(drawing: Drawing, across: Scale, up: Scale) -> None:
    ticks = up.ticks
    for value in ticks if len(ticks) <= 3 else ticks[:: max(1, (len(ticks) - 1) // 2)]:
        at = up.at(value)
        drawing.line((_LEFT, at), (_RIGHT, at), "zero" if value == 0 else "grid")
        drawing.write(tick_label(value), (_LEFT - 5, at + 3), "tick", text_anchor="end")
    for value, anchor in ((0.0, "start"), (across.high, "end")):
        drawing.write(tick_label(value), (across.at(value), _BOTTOM + 14), "tick", text_anchor=anchor)


def _thinned(points: Series, across: Scale, up: Scale) -> list[Point]:
    steps, values = points
    every = -(-len(steps) // MOST_POINTS)
    kept = [*range(0, len(steps), every)]
    kept += [] if kept[-1] == len(steps) - 1 else [len(steps) - 1]
    return [(across.at(steps[at]), up.at(values[at])) for at in kept]
