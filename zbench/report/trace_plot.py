"""A training trace as a picture: one small panel for each figure, whatever the method traces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import TYPE_CHECKING

from zbench.report.plots import BLUE, GREEN, GREY, RED, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, float]]
Series = tuple[list[float], list[float]]
"""Steps and values."""

TITLES = {
    "erase": "$L_{erase}$",
    "attention": "$L_{attn}$",
    "preserve": "$L_{pr}$",
    "preserve_after": "$L_{pr}$ after the step, same points",
    "multiplier": r"multiplier $\lambda$",
    "gradient_norm": r"$\|\nabla L\|$ of the whole objective",
    "direction_norm": r"$\|d\|$ of the step taken",
    "erase_gradient_norm": r"$\|\nabla L_{er}\|$",
    "preserve_gradient_norm": r"$\|\nabla L_{pr}\|$",
    "gradient_cosine": r"cosine of $\nabla L_{er}$ and $\nabla L_{pr}$",
    "constraint": r"constraint $g$ (broken below 0)",
    "constraint_proxy": r"proxy $\tilde{g}$ of the constraint",
    "violation": "constraint violation",
}
"""Titles of known figures; any other is shown under its own name."""

NOT_SHOWN = frozenset({"step", "evaluations", "evaluations_amortised"})
"""Bookkeeping: costs stand in the table of costs."""

COLOURS = (BLUE, RED, GREEN, GREY, "#b4781e", "#7846a0", "#1e9696", "#c850a0")
COLUMNS = 3
WIDE = 30.0
"""A figure that spans more than this factor gets a logarithmic axis."""

DEEPEST = 1e-6
"""A logarithmic axis goes down to this share of the largest value: a loss may start at a rounding error."""

SMOOTHED_FROM = 24
"""From so many points on, a running mean over a twelfth of them is drawn over the pale points themselves."""


def figures_of(traces: Mapping[str, Rows]) -> list[str]:
    """Names of all figures in some traces: known ones in the order of `TITLES`, then the others."""
    found = dict.fromkeys(name for rows in traces.values() for row in rows for name in row)
    known = [name for name in TITLES if name in found]
    return known + [name for name in found if name not in TITLES and name not in NOT_SHOWN]


def series_of(rows: Rows, name: str) -> Series:
    """Steps at which a figure was traced, and its values there."""
    points = [
        (row.get("step", float(place)), row[name])
        for place, row in enumerate(rows)
        if math.isfinite(row.get(name, math.nan))
    ]
    return [step for step, _ in points], [value for _, value in points]


def wants_log(values: Sequence[float]) -> bool:
    """Whether values span so many sizes that only a logarithmic axis shows them; never if one is below 0."""
    positive = [value for value in values if value > 0]
    if min(values, default=-1.0) < 0 or len(positive) < max(2, len(values) / 2):
        return False
    cuts = quantiles(positive, n=20, method="inclusive")
    return cuts[-1] > WIDE * cuts[0]


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and its neighbours, at most `width` in all; fewer at the ends."""
    reach = width // 2
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def plot_traces(traces: Mapping[str, Rows], title: str) -> bytes:
    """Draws small multiples, one line per trace.

    Args:
        traces: Label -> rows of a training trace; a legend is drawn where there are several.
        title: Over all panels.

    Returns:
        A PNG file; equal traces give equal bytes.
    """
    names = figures_of(traces)
    columns = min(COLUMNS, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure, grid = new_figure(rows, columns, size=(3.6 * columns, 2.2 * rows + 0.5))
    for place, axes in enumerate(grid.flat):
        if place < len(names):
            _panel(axes, names[place], traces)
        else:
            axes.axis("off")
    if len(traces) > 1:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(traces)), frameon=False)
    figure.suptitle(title, fontsize=11)
    return png(figure)


def _panel(axes: Axes, name: str, traces: Mapping[str, Rows]) -> None:
    drawn = {label: series_of(rows, name) for label, rows in traces.items()}
    for (label, (steps, values)), colour in zip(drawn.items(), _colours(len(drawn)), strict=True):
        _line(axes, steps, values, colour, label)
    together = [value for _, values in drawn.values() for value in values]
    if wants_log(together):
        axes.set_yscale("log")
        least = min(value for value in together if value > 0)
        axes.set_ylim(bottom=max(least, DEEPEST * max(together)) / 1.5)
    if min(together, default=0.0) < 0 < max(together, default=0.0):
        axes.axhline(0.0, color=GREY, lw=0.6)
    axes.set_title(TITLES.get(name, name.replace("_", " ")), fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)


def _line(axes: Axes, steps: list[float], values: list[float], colour: str, label: str) -> None:
    if len(values) < SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, lw=1.0, marker="o", ms=2.5, label=label)
        return
    axes.plot(steps, values, color=colour, lw=0.7, alpha=0.3)
    axes.plot(steps, running_mean(values, len(values) // 12), color=colour, lw=1.4, label=label)


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]
