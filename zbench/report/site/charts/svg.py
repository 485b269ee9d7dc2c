"""Drawings by the standard library's element tree: text is escaped, equal figures give equal bytes.

Colours come from the style sheet by class, so that a chart follows the page into the dark and onto paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

Point = tuple[float, float]
"""Right and down from the upper left corner, in units of the drawing."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DECIMALS = 1
_NEVER_IN_XML = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), "�")


def plain(number: float) -> str:
    """A coordinate with one decimal at most."""
    text = f"{number:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


class Drawing:
    """An SVG that scales with its column.

    Args:
        size: Width and height of its coordinates.
        title: What it shows, for those who cannot see it.
        description: How to read it, and where the same figures stand as a table.
        kind: Class for the style sheet.
    """

    def __init__(self, size: tuple[float, float], title: str, description: str, kind: str) -> None:
        self.size = size
        box = f"0 0 {plain(size[0])} {plain(size[1])}"
        self.root = ElementTree.Element(
            "svg", {"viewBox": box, "role": "img", "class": f"chart {kind}", "aria-label": _clean(title)}
        )
        self.add("title", text=title)
        self.add("desc", text=description)

    def add(
        self,
        tag: str,
        into: ElementTree.Element | None = None,
        text: str | None = None,
        **attributes: str | float,
    ) -> ElementTree.Element:
        """Adds an element; `class_` and `stroke_width` are written ``class`` and ``stroke-width``."""
        parent = self.root if into is None else into
        written = {name.rstrip("_").replace("_", "-"): _written(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(parent, tag, written)
        element.text = None if text is None else _clean(text)
        return element

    def line(
        self, start: Point, end: Point, kind: str, into: ElementTree.Element | None = None
    ) -> ElementTree.Element:
        """A straight line of a class."""
        return self.add("line", into, x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=kind)

    def write(
        self, text: str, place: Point, kind: str, into: ElementTree.Element | None = None, **more: str | float
    ) -> ElementTree.Element:
        """Text with its base line at a place."""
        return self.add("text", into, text, x=place[0], y=place[1], class_=kind, **more)

    def path(self, points: Iterable[Point], kind: str, into: ElementTree.Element | None = None) -> None:
        """A bent line of a class."""
        self.add("path", into, d=path_of(points), class_=kind)

    def __str__(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")


def path_of(points: Iterable[Point]) -> str:
    """A bent line as SVG writes it."""
    return "M" + "L".join(f"{plain(x)} {plain(y)}" for x, y in points)


def _written(value: str | float) -> str:
    return _clean(value) if isinstance(value, str) else plain(value)


def _clean(text: str) -> str:
    """Without the control characters that no XML may hold."""
    return text if text.isprintable() else text.translate(_NEVER_IN_XML)


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis.

    Attributes:
        low: Smallest value.
        high: Largest value.
        start: Coordinate of `low`.
        end: Coordinate of `high`; less than `start` where the axis runs up or to the left.
        logarithmic: Whether equal factors take equal room; both bounds are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Coordinate of a value; what lies outside is put at the end of the axis."""
        low, high, at = (self._size(each) for each in (self.low, self.high, value))
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _size(self, value: float) -> float:
        return math.log10(max(value, self.low * 1e-3)) if self.logarithmic else value

    @property
    def ticks(self) -> list[float]:
        """Round values along the axis."""
        return decades(self.low, self.high) if self.logarithmic else round_values(self.low, self.high)


_SMALLEST = 1e-300
"""Bounds that lie closer together have no steps between them that a double can tell apart from zero."""


def round_values(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between two bounds, about so many."""
    if high - low < _SMALLEST:
        return [low]
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(step * size for step in _STEPS if step * size >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [count * step for count in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between two bounds; both bounds where there are fewer than two."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    found = [10.0**power for power in powers]
    every = math.ceil(len(found) / 5)
    return found[::every] if len(found) > 1 else [low, high]


def scale_over(
    values: Sequence[float],
    start: float,
    end: float,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Scale:
    """A scale that shows all values with a little air, never past what the figure can be.

    Args:
        values: At least one.
        start: Coordinate of the smallest one.
        end: Coordinate of the largest one.
        bounds: What the figure can be at least and at most; None where there is no bound.
    """
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - air, high + air
    low = low if bounds[0] is None else max(low, bounds[0])
    high = high if bounds[1] is None else min(high, bounds[1])
    return Scale(low, high if high > low else low + air, start, end)


def tick_label(value: float) -> str:
    """A round value, short: `0.25`, `100`, `1e-05`."""
    return f"{value:.4g}" if value else "0"
