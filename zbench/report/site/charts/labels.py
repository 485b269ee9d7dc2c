"""Where the names of points go: close by, on nobody's toes, the more important ones first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zbench.report.site.charts.svg import Box, Point

_ADVANCE = 0.56
"""Width of a letter over the size of its font, on average."""

_ANGLES = (0, 45, -45, 90, -90, 135, -135, 180, 22, -22, 67, -67, 112, -112, 157, -157)
_REACHES = (9.0, 18.0, 30.0, 44.0, 60.0, 78.0)
_FAR = 15.0
"""From here on a thin line ties a name to its point."""


@dataclass(frozen=True)
class Label:
    """A name with its place.

    Attributes:
        text: The name.
        at: Where its base line begins.
        tie: From the point to the name, where the two are far apart; None otherwise.
    """

    text: str
    at: Point
    tie: tuple[Point, Point] | None = None


def width_of(text: str, font_size: float) -> float:
    """About how wide a text is."""
    return _ADVANCE * font_size * len(text)


def place_labels(
    points: Sequence[Point], names: Sequence[str], area: Box, font_size: float, radius: float = 6.0
) -> list[Label | None]:
    """Finds a place for each name, earlier ones first.

    Args:
        points: Of the names; all of them are kept free, and those beyond the names as well.
        names: In the order of their importance; may be fewer than points.
        area: Where names may stand.
        font_size: Of the names.
        radius: Of the points.

    Returns:
        One label for each name; None where there is no free place.
    """
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    found: list[Label | None] = []
    for place, name in enumerate(names):
        others = [*taken[:place], *taken[place + 1 :]]
        label, box = _free_place(points[place], name, area, font_size, others)
        found.append(label)
        if box is not None:
            taken.append(box)
    return found


def _free_place(
    point: Point, name: str, area: Box, font_size: float, taken: Sequence[Box]
) -> tuple[Label | None, Box | None]:
    size = (width_of(name, font_size), font_size)
    for reach in _REACHES:
        for angle in _ANGLES:
            box, anchor = _box(point, size, reach, math.radians(angle))
            if _inside(box, area) and not any(_touch(box, other) for other in taken):
                tie = (point, anchor) if reach > _FAR else None
                return Label(name, (box[0], box[3] - 0.22 * font_size), tie), box
    return None, None


def _box(point: Point, size: tuple[float, float], reach: float, angle: float) -> tuple[Box, Point]:
    """The box of a name that lies in a direction from its point, and where it is nearest."""
    width, height = size
    anchor = point[0] + reach * math.cos(angle), point[1] + reach * math.sin(angle)
    across, down = (math.cos(angle) - 1) / 2, (math.sin(angle) - 1) / 2
    left, top = anchor[0] + across * width, anchor[1] + down * height
    return (left, top, left + width, top + height), anchor


def _inside(box: Box, area: Box) -> bool:
    return box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]


def _touch(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
