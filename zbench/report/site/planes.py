"""Which erasure-preservation planes a page shows, drawn from its standings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.site.cells import GONE, Column
from zbench.report.site.charts.plane import Axis, Kind, Mark, Measured, draw_plane, front

if TYPE_CHECKING:
    from zbench.report.standing import Standing, StandingFigure

MOST_ERASURE, MOST_PRESERVATION = 2, 3
_PRESERVATION = ("kept_neighbours", "clip_score", "fid")
"""What is kept, as far as one figure can say it, the most telling one first."""


@dataclass(frozen=True)
class Plane:
    """A plane of the page.

    Attributes:
        erasure: Machine name of the figure across.
        preservation: Machine name of the figure up.
        titles: Their titles.
        svg: The drawing.
        front: (key, label) of the methods on the Pareto front, best erasure first.
    """

    erasure: str
    preservation: str
    titles: tuple[str, str]
    svg: str
    front: tuple[tuple[str, str], ...]


def planes_of(rows: Sequence[tuple[str, Standing]], columns: Sequence[Column], concept: str) -> list[Plane]:
    """The planes of a group; none where nothing was measured of erasure or of preservation.

    Args:
        rows: Key and standing of each row.
        columns: Of the table.
        concept: What was erased.
    """
    erasure = [column for column in columns if column.about == GONE][:MOST_ERASURE]
    named = {column.name: column for column in columns if column.direction in ("lower", "higher")}
    preservation = [named[name] for name in _PRESERVATION if name in named] or [
        column for column in named.values() if column.about != GONE
    ]
    pairs = ((across, up) for across in erasure for up in preservation[:MOST_PRESERVATION])
    found = (_plane(rows, across, up, concept) for across, up in pairs)
    return [plane for plane in found if plane is not None]


def _plane(rows: Sequence[tuple[str, Standing]], across: Column, up: Column, concept: str) -> Plane | None:
    marks = marks_of(rows, across.name, up.name)
    if not marks:
        return None
    axes = (_axis(across), _axis(up))
    title = f"{concept}: {across.title} against {up.title}"
    best = tuple((mark.key, mark.name) for mark in front(marks, axes))
    return Plane(across.name, up.name, (across.title, up.title), draw_plane(marks, axes, title), best)


def _axis(column: Column) -> Axis:
    unit = f", {column.unit}" if column.unit else ""
    title = f"{column.title}{unit} ({column.better})"
    return Axis(title, column.direction, (0.0, 100.0) if column.unit else (None, None))


def marks_of(rows: Sequence[tuple[str, Standing]], across: str, up: str) -> list[Mark]:
    """The rows that have both figures as points."""
    found = []
    for key, row in rows:
        measured = [_measured(row.figures.get(name)) for name in (across, up)]
        if measured[0] is not None and measured[1] is not None:
            name = f"{row.label} {row.marks}" if row.marks else row.label
            found.append(Mark(key, name, _kind(row), measured[0], measured[1]))
    return found


def _kind(row: Standing) -> Kind:
    if row.is_original:
        return "original"
    return "broken" if row.broken else "method"


def _measured(figure: StandingFigure | None) -> Measured | None:
    if figure is None or figure.value is None:
        return None
    scale = 100 if figure.unit == "rate" else 1
    low, high = (None if end is None else scale * end for end in (figure.low, figure.high))
    return Measured(scale * figure.value, low, high)
