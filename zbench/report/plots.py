"""House style of plots: matplotlib without its global state, the same bytes for the same figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RED, BLUE, GREEN, GREY = "#c82828", "#1e5abe", "#288c46", "#6e6e6e"

_STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "legend.frameon": False,
}


def new_figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.0)) -> tuple[Figure, Any]:
    """A figure with axes in house style.

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        size: Width and height in inches, at 120 pixels an inch.

    Returns:
        The figure, and a [rows, columns] array of axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; nothing in it says when or by which release it was drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def bars(
    values: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Lengths of error bars below and above values, as matplotlib wants them; never negative."""
    below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]
    return below, above


def label_point(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """Writes a label a little beside a point."""
    axes.annotate(text, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
