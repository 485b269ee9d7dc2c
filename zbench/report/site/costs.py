"""What an erasure took: seconds, memory, passes through the transformer, size of what is saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.site.charts.svg import plain
from zbench.report.values import EMPTY

if TYPE_CHECKING:
    from zbench.report.site.table import Row
    from zbench.report.standing import Standing


def _seconds(value: float) -> str:
    if value < 100:
        return f"{value:.3g} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def _bytes(value: float) -> str:
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def _count(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


Form = Callable[[float], str]

FIGURES: dict[str, tuple[str, Form]] = {
    "seconds": ("Wall time", _seconds),
    "peak_memory_bytes": ("Peak memory", _bytes),
    "edit_bytes": ("Saved edit", _bytes),
    "steps": ("Optimiser steps", _count),
    "forwards": ("Forward passes", _count),
    "backwards": ("Backward passes", _count),
    "evaluations_per_step": ("Evaluations a step", _count),
}
"""Name of a cost -> title, and how it is written."""


@dataclass(frozen=True)
class CostCell:
    """One cost of one row.

    Attributes:
        text: As a person reads it.
        value: For sorting; empty where it is unknown.
        share: Of the largest one of the column, in percent.
    """

    text: str
    value: str = ""
    share: str = "0"


@dataclass(frozen=True)
class Costs:
    """The table of costs.

    Attributes:
        titles: Of the columns.
        rows: Row of the main table, and its cells.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[Row, tuple[CostCell, ...]], ...]


def costs_of(rows: Sequence[tuple[Row, Standing]]) -> Costs | None:
    """What the erasures of a group took, on the machines that made them; None where nobody says.

    Args:
        rows: Rows of the main table with their standings.
    """
    told = [(row, standing.cost) for row, standing in rows if standing.cost]
    names = [name for name in FIGURES if any(cost.get(name) for _, cost in told)]
    if not names:
        return None
    most = {name: max(float(cost.get(name) or 0.0) for _, cost in told) for name in names}
    lines = ((row, tuple(_cell(cost.get(name), name, most[name]) for name in names)) for row, cost in told)
    return Costs(tuple(FIGURES[name][0] for name in names), tuple(lines))


def _cell(value: float | None, name: str, most: float) -> CostCell:
    if value is None:
        return CostCell(EMPTY)
    share = 100 * value / most if most > 0 else 0.0
    return CostCell(FIGURES[name][1](value), f"{value:.8g}", plain(max(0.0, share)))
