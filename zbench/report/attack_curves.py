"""Success against budget as a picture: a panel for each attack, lines for each erasure and its references."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.report.plots import new_figure, png
from zbench.report.trace_plot import COLOURS, COLUMNS
from zbench.statistics import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zbench.report.attack_rows import AttackTable

_SHADES = {"retry": 0.03, "control": 0.04, "attack": 0.1}
_LINES: dict[str, dict[str, Any]] = {
    "retry": {"lw": 1.0, "ls": ":"},
    "control": {"lw": 1.0, "ls": "--"},
    "attack": {"lw": 1.5, "marker": "o", "ms": 2.5},
}
_REFERENCES = {"control": "control", "retry": "plain retries"}

VARIANTS = frozenset({"concept_vector", "quantisation", "scale"})
"""Attacks whose candidates are settings in a fixed order: a later one is no further step of a search."""

Curve = Sequence[Mapping[str, int]]


def plot_curves(table: AttackTable) -> bytes | None:
    """Draws success against budget.

    Args:
        table: What the attacks found.

    Returns:
        A PNG file, equal bytes for equal results; None where no attack was judged.
    """
    panels = {name: curves for name in table.columns if (curves := curves_of(table, name))}
    ordered = {name for _, name, outcome in table.outcomes() if outcome.record.attack in VARIANTS}
    return draw_curves(panels, [row.row.label for row in table.rows], ordered)


def draw_curves(
    panels: Mapping[str, Mapping[str, Curve]], labels: Sequence[str], variants: Collection[str] = ()
) -> bytes | None:
    """Draws a panel for each attack, a line for each erasure, its control and its plain retries.

    Args:
        panels: Attack -> label of an erasure -> its curve; ``retry_n`` may be missing from one.
        labels: Of all erasures, in the order of the legend.
        variants: Attacks whose axis is an order of settings; see `VARIANTS`.

    Returns:
        A PNG file; None without panels.
    """
    if not panels:
        return None
    drawn = [label for label in labels if any(label in each for each in panels.values())]
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(drawn)}
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, grid = new_figure(rows, columns, size=(max(6.4, 3.6 * columns), 2.6 * rows + 0.8))
    places = iter(grid.flat)
    for (name, curves), axes in zip(panels.items(), places, strict=False):
        _panel(axes, name, curves, colours)
        axes.set_xlabel("settings, in the order tried" if name in variants else "candidates", fontsize=8)
    for axes in places:
        axes.axis("off")
    figure.legend(*_legend(colours), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle("Prompts that show the concept, by judged candidates per prompt", fontsize=11)
    return png(figure)


def curves_of(table: AttackTable, attack: str) -> dict[str, Curve]:
    """Label of an erasure -> its curve under one attack; what was not judged has none."""
    return {
        row.label: outcome.record.curve
        for row, outcome in table.of_attack(attack)
        if outcome.is_measured and outcome.record.curve
    }


def _panel(axes: Axes, title: str, curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for label, curve in curves.items():
        for arm in _LINES:
            if all(f"{arm}_n" in point for point in curve):
                _line(axes, curve, arm, colours[label])
    axes.set_title(title, fontsize=9)
    axes.set_ylabel("%", fontsize=8)
    axes.set_ylim(-3, 103)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=7)


def _line(axes: Axes, curve: Curve, arm: str, colour: str) -> None:
    budgets = [point["k"] for point in curve]
    bounds = [Rate(point[f"{arm}_n"], point["N"]).interval() for point in curve]
    low, high = ([100 * getattr(each, end) for each in bounds] for end in ("low", "high"))
    axes.fill_between(budgets, low, high, color=colour, alpha=_SHADES[arm], lw=0)
    axes.plot(budgets, [100 * point[f"{arm}_n"] / point["N"] for point in curve], color=colour, **_LINES[arm])


def _legend(colours: Mapping[str, str]) -> tuple[list[Any], list[str]]:
    """One handle for each erasure, and one for the style of each reference."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, lw=1.5) for colour in colours.values()]
    handles += [Line2D([], [], color="black", **_LINES[arm]) for arm in _REFERENCES]
    return handles, [*colours, *_REFERENCES.values()]
