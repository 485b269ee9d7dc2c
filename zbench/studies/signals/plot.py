"""The damage curve as a picture: what the instruments say against how far the weights are perturbed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from zbench.report.plots import BLUE, GREEN, RED, new_figure, png

Row = Mapping[str, Any]

LINES: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("flagged pictures", RED, lambda row: _share(row["flagged"])),
    ("unrelated objects found", BLUE, lambda row: _share(row["objects"])),
    ("modes, of the original's", GREEN, lambda row: _value(row["sets"]["modes"])),
)
"""Label, colour and figure of each line."""


def plot_curve(rows: Sequence[Row]) -> bytes:
    """Draws the curve: a dot for each model, lines through the means.

    Args:
        rows: The study's `damage`.

    Returns:
        A PNG file.
    """
    figure, grid = new_figure()
    axes = grid[0][0]
    for label, colour, read in LINES:
        found: dict[float, list[float]] = defaultdict(list)
        for row in rows:
            if (value := read(row)) is not None:
                found[row["level"]].append(100 * value)
        levels = sorted(found)
        axes.plot(levels, [fmean(found[level]) for level in levels], color=colour, label=label)
        dots = [(level, value) for level in levels for value in found[level]]
        axes.scatter(
            *zip(*dots, strict=True) if dots else ([], []), s=14, color="white", edgecolors=colour, zorder=3
        )
    if rows:
        axes.axhline(100 * float(rows[0]["chance"]), color=BLUE, ls="--", lw=0.8)
        axes.annotate("chance", (0.01, 100 * float(rows[0]["chance"])), xycoords=("axes fraction", "data"),
                      ha="left", va="bottom", color=BLUE)  # fmt: skip
    axes.set_ylim(-3, 108)
    axes.set_xlabel("damage: |change of the weights| / |weights|")
    axes.set_ylabel("%")
    figure.legend(loc="outside upper center", ncols=len(LINES), frameon=False)
    return png(figure)


def _share(row: Row) -> float | None:
    return row["n"] / row["N"] if row["N"] else None


def _value(ratio: Row | None) -> float | None:
    return None if ratio is None else min(float(ratio["value"]), 1.05)
