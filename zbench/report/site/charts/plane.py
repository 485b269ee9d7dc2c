"""The erasure-preservation plane: what is still found against what is kept, with the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from xml.etree.ElementTree import Element

from zbench.report.site.charts.labels import Label, place_labels
from zbench.report.site.charts.svg import Box, Drawing, Point, Scale, plain, scale_over, tick_label

SIZE = (720.0, 500.0)
_FRAME: Box = (62.0, 22.0, 700.0, 446.0)
_FONT = 12.5
_RADIUS = 5.5
_MOST_NAMED = 40
_CROSS = "m-5-5l10 10m-10 0l10-10"
_DIAMOND = "m0-7.5l7.5 7.5l-7.5 7.5l-7.5-7.5z"

Kind = Literal["method", "broken", "original"]


@dataclass(frozen=True)
class Axis:
    """One axis of the plane.

    Attributes:
        title: What it says, with its unit.
        direction: Which way is better: ``lower`` or ``higher``.
        bounds: What the figure can be at least and at most.
    """

    title: str
    direction: str
    bounds: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Measured:
    """A value with its interval.

    Attributes:
        value: In the unit of the axis.
        low: Lower bound, None where there is no interval.
        high: Upper bound.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The interval; the value alone where there is none."""
        low = self.value if self.low is None else self.low
        return low, self.value if self.high is None else self.high


@dataclass(frozen=True)
class Mark:
    """One row of the table as a point.

    Attributes:
        key: What ties it to its row.
        name: Its label.
        kind: Broken rows and the original compete with nobody.
        erasure: What is still found.
        preservation: What is kept.
    """

    key: str
    name: str
    kind: Kind
    erasure: Measured
    preservation: Measured


def front(marks: Sequence[Mark], axes: tuple[Axis, Axis]) -> tuple[Mark, ...]:
    """Methods that no other method beats in one value without losing in the other; best erasure first.

    It goes by the values alone: a method whose interval reaches the front is not shown to be behind it.
    """
    signs = [1.0 if axis.direction == "lower" else -1.0 for axis in axes]
    places = {
        mark.key: (signs[0] * mark.erasure.value, signs[1] * mark.preservation.value)
        for mark in marks
        if mark.kind == "method"
    }
    kept = [mark for mark in marks if mark.key in places and not _beaten(places[mark.key], places.values())]
    return tuple(sorted(kept, key=lambda mark: (*places[mark.key], mark.key)))


def _beaten(place: Point, others: Iterable[Point]) -> bool:
    """Whether any other place is at least as good in both and better in one; smaller is better here."""
    return any(other[0] <= place[0] and other[1] <= place[1] and other != place for other in others)


def draw_plane(marks: Sequence[Mark], axes: tuple[Axis, Axis], title: str) -> str:
    """The plane as SVG; better is always up and to the left.

    Args:
        marks: At least one.
        axes: Of erasure (across) and preservation (up).
        title: For those who cannot see it.
    """
    best = front(marks, axes)
    scales = _scales(marks, best, axes)
    drawing = Drawing(SIZE, title, _description(best, axes), "plane")
    _draw_axes(drawing, axes, scales)
    _draw_front(drawing, best, scales)
    ordered = _by_importance(marks, best)
    points = [_point(mark, scales) for mark in ordered]
    area = (_FRAME[0] + 4, _FRAME[1], _FRAME[2] + 14, _FRAME[3] - 2)
    names = [mark.name for mark in ordered[:_MOST_NAMED]]
    labels = place_labels(points, names, area, _FONT, _RADIUS + 1)
    labels += [None] * (len(ordered) - len(labels))
    for mark, label in reversed(list(zip(ordered, labels, strict=True))):
        _draw_mark(drawing, mark, scales, label, mark in best)
    return str(drawing)


def _by_importance(marks: Sequence[Mark], best: Sequence[Mark]) -> list[Mark]:
    kinds = ("original", "method", "broken")
    return sorted(marks, key=lambda mark: (mark not in best, kinds.index(mark.kind), mark.key))


def _scales(marks: Sequence[Mark], best: Sequence[Mark], axes: tuple[Axis, Axis]) -> tuple[Scale, Scale]:
    """Over all values and the intervals of the front; others may end at the frame."""
    left, top, right, bottom = _FRAME
    across = [mark.erasure.value for mark in marks]
    up = [mark.preservation.value for mark in marks]
    for mark in best:
        across += mark.erasure.span
        up += mark.preservation.span
    ends = (bottom - 8, top + 10) if axes[1].direction == "higher" else (top + 10, bottom - 8)
    ends_across = (left + 10, right - 10) if axes[0].direction == "lower" else (right - 10, left + 10)
    return scale_over(across, *ends_across, axes[0].bounds), scale_over(up, *ends, axes[1].bounds)


def _point(mark: Mark, scales: tuple[Scale, Scale]) -> Point:
    return scales[0].at(mark.erasure.value), scales[1].at(mark.preservation.value)


def _draw_axes(drawing: Drawing, axes: tuple[Axis, Axis], scales: tuple[Scale, Scale]) -> None:
    left, top, right, bottom = _FRAME
    group = drawing.add("g", class_="axes")
    for value in scales[0].ticks:
        at = scales[0].at(value)
        drawing.line((at, top), (at, bottom), "grid", group)
        drawing.write(tick_label(value), (at, bottom + 18), "tick", group, text_anchor="middle")
    for value in scales[1].ticks:
        at = scales[1].at(value)
        drawing.line((left, at), (right, at), "grid", group)
        drawing.write(tick_label(value), (left - 8, at + 4), "tick", group, text_anchor="end")
    drawing.write(axes[0].title, ((left + right) / 2, bottom + 42), "axis", group, text_anchor="middle")
    middle = (top + bottom) / 2
    turned = f"rotate(-90 16 {plain(middle)})"
    drawing.write(axes[1].title, (16, middle), "axis", group, text_anchor="middle", transform=turned)
    drawing.write("↖ better", (left - 2, top - 9), "better", group)


def _draw_front(drawing: Drawing, best: Sequence[Mark], scales: tuple[Scale, Scale]) -> None:
    """The steps below which nothing on the front lies."""
    _, _, right, bottom = _FRAME
    points = [_point(mark, scales) for mark in best]
    if not points:
        return
    steps = [(points[0][0], bottom), points[0]]
    for before, after in pairwise(points):
        steps += [(after[0], before[1]), after]
    drawing.path([*steps, (right, points[-1][1])], "front")


def _draw_mark(
    drawing: Drawing, mark: Mark, scales: tuple[Scale, Scale], label: Label | None, is_best: bool
) -> None:
    kind = "best" if is_best else mark.kind
    group = drawing.add("g", class_=f"mark {kind}", data_method=mark.key)
    drawing.add("title", group, _spoken(mark))
    x, y = _point(mark, scales)
    low, high = (scales[0].at(end) for end in mark.erasure.span)
    drawing.line((low, y), (high, y), "whisker", group)
    low, high = (scales[1].at(end) for end in mark.preservation.span)
    drawing.line((x, low), (x, high), "whisker", group)
    if label is not None and label.tie is not None:
        drawing.line(*label.tie, "tie", group)
    _draw_point(drawing, mark.kind, (x, y), group)
    if label is not None:
        drawing.write(label.text, label.at, "name", group)
    else:
        anchor = "end" if x > (_FRAME[0] + _FRAME[2]) / 2 else "start"
        aside = -9 if anchor == "end" else 9
        drawing.write(mark.name, (x + aside, y - 8), "name unplaced", group, text_anchor=anchor)


def _draw_point(drawing: Drawing, kind: Kind, place: Point, group: Element) -> None:
    """A disc; a cross for broken rows and a diamond for the original, which no colour is needed to see."""
    x, y = place
    if kind == "method":
        drawing.add("circle", group, cx=x, cy=y, r=_RADIUS, class_="dot")
        return
    shape = _CROSS if kind == "broken" else _DIAMOND
    drawing.add("path", group, d=f"M{plain(x)} {plain(y)}{shape}", class_="dot")


def _spoken(mark: Mark) -> str:
    kinds = {"method": "", "broken": " (broken)", "original": " (unerased)"}
    values = " / ".join(f"{each.value:.4g}" for each in (mark.erasure, mark.preservation))
    return f"{mark.name}{kinds[mark.kind]}: {values}"


def _description(best: Sequence[Mark], axes: tuple[Axis, Axis]) -> str:
    names = ", ".join(mark.name for mark in best) or "nobody"
    return (
        f"Across: {axes[0].title}. Up: {axes[1].title}. Lines are 95 % intervals. On the Pareto front:"
        f" {names}. The table of results holds the same figures."
    )
