"""The strength at inference as a picture: what the naive fine-tuning and its twin on text rows do at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zbench.studies.collapse.effects import RESPONSES, response


def plot_scales(rows: Sequence[Mapping[str, Any]], concept: str) -> bytes:
    """One panel for each figure, one line for each fine-tuning that was drawn at several strengths.

    Args:
        rows: The study's `runs`.
        concept: Whose success rate is shown.

    Returns:
        A PNG file.
    """
    from zbench.report.plots import BLUE, RED, new_figure, png

    figure, axes = new_figure(1, len(RESPONSES), size=(10.0, 3.2))
    for axis, (name, title) in zip(axes[0], RESPONSES.items(), strict=True):
        for row, colour in zip(rows, (RED, BLUE), strict=False):
            points = sorted(
                (float(scale), response(r, concept, name)) for scale, r in row["readings"].items()
            )
            axis.plot(*zip(*points, strict=True), "o-", color=colour, label=f"{row['run']['rows']} rows")
        axis.set(title=title, xlabel="strength at inference", xscale="log", ylim=(-0.03, 1.03))
    if rows:
        axes[0][0].legend()
    return png(figure)
