"""Flat shapes in the coordinates of one figure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import ImageDraw

RGB = tuple[int, int, int]


def shade(colour: RGB, factor: float) -> RGB:
    """A colour made darker or lighter by a factor."""
    red, green, blue = (max(0, min(255, round(v * factor))) for v in colour)
    return red, green, blue


def jitter(colour: RGB, rng: random.Random, amount: float) -> RGB:
    """A colour with each channel moved by up to `amount`."""
    red, green, blue = (max(0, min(255, round(v + rng.uniform(-amount, amount)))) for v in colour)
    return red, green, blue


class Brush:
    """Draws in the coordinates of one figure: origin at its centre, unit `scale` canvas pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, scale: float) -> None:
        self.draw, self.x, self.y, self.scale = draw, x, y, scale

    def _map(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.x + px * self.scale, self.y + py * self.scale) for px, py in points]

    def polygon(self, points: Sequence[tuple[float, float]], fill: RGB) -> None:
        """A filled polygon."""
        self.draw.polygon(self._map(points), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        """A filled rectangle from its upper left to its lower right corner."""
        self.draw.rectangle(self._map([(x0, y0), (x1, y1)]), fill=fill)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        """The filled ellipse inside a rectangle."""
        self.draw.ellipse(self._map([(x0, y0), (x1, y1)]), fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: RGB, width: float) -> None:
        """A bent line, at least a canvas pixel wide."""
        self.draw.line(self._map(points), fill=fill, width=self._width(width), joint="curve")

    def arc(
        self, box: tuple[float, float, float, float], start: float, end: float, fill: RGB, width: float
    ) -> None:
        """A part of the ellipse inside `box`, from one angle to another in degrees, clockwise."""
        corners = self._map([box[:2], box[2:]])
        self.draw.arc(corners, start, end, fill=fill, width=self._width(width))

    def _width(self, width: float) -> int:
        return max(1, round(width * self.scale))

    def moved(self, dx: float, dy: float, factor: float = 1.0) -> Brush:
        """A brush for a part of the figure: another origin and another unit."""
        return Brush(self.draw, self.x + dx * self.scale, self.y + dy * self.scale, self.scale * factor)
