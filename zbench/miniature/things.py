"""Drawing things: the ten entities, an explosion, a face, a paper crane."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from zbench.miniature.brush import RGB, Brush, shade


def _church(b: Brush, c: RGB) -> None:
    dark = shade(c, 0.5)
    b.box(-0.4, -0.1, 1.0, 1.0, c)
    b.polygon([(-0.5, -0.1), (0.3, -0.6), (1.1, -0.1)], dark)
    b.box(-1.0, -0.4, -0.4, 1.0, c)
    b.polygon([(-1.1, -0.4), (-0.7, -1.0), (-0.3, -0.4)], dark)
    b.box(-0.76, -1.45, -0.64, -0.95, dark)
    b.box(-0.92, -1.3, -0.48, -1.18, dark)
    b.box(0.15, 0.4, 0.55, 1.0, dark)


def _ball(b: Brush, c: RGB) -> None:
    b.oval(-0.95, -0.95, 0.95, 0.95, c)
    white = (250, 250, 250)
    b.polygon([(0.45 * math.sin(k * 1.2566), -0.45 * math.cos(k * 1.2566)) for k in range(5)], white)
    for k in range(5):
        s, q = math.sin(k * 1.2566), -math.cos(k * 1.2566)
        b.line([(0.45 * s, 0.45 * q), (0.93 * s, 0.93 * q)], white, 0.1)


def _car(b: Brush, c: RGB) -> None:
    b.polygon([(-0.75, 0.1), (-0.45, -0.5), (0.5, -0.5), (0.85, 0.1)], c)
    b.polygon([(-0.52, 0.05), (-0.33, -0.35), (0.42, -0.35), (0.62, 0.05)], (205, 228, 242))
    b.box(-1.2, 0.05, 1.2, 0.6, c)
    for x in (-0.65, 0.65):
        b.oval(x - 0.32, 0.35, x + 0.32, 0.99, (22, 22, 22))
        b.oval(x - 0.12, 0.55, x + 0.12, 0.79, (190, 190, 190))


def _airplane(b: Brush, c: RGB) -> None:
    dark = shade(c, 0.55)
    b.polygon([(-0.2, 0.0), (0.3, 0.0), (-0.35, 1.05), (-0.65, 1.05)], dark)
    b.polygon([(-0.2, 0.0), (0.3, 0.0), (-0.35, -1.05), (-0.65, -1.05)], dark)
    b.polygon([(-1.1, -0.6), (-0.85, -0.6), (-0.6, 0.0), (-1.0, 0.0)], dark)
    b.oval(-1.2, -0.25, 1.25, 0.25, c)
    b.oval(0.75, -0.14, 1.1, 0.12, (205, 228, 242))


def _tower(b: Brush, c: RGB) -> None:
    dark = shade(c, 0.5)
    b.polygon([(-0.42, -0.8), (0.42, -0.8), (0.55, 1.2), (-0.55, 1.2)], c)
    for x in (-0.6, -0.2, 0.2):
        b.box(x, -1.35, x + 0.4 if x == 0.2 else x + 0.28, -0.8, c)
    b.box(-0.6, -1.05, 0.6, -0.75, c)
    b.box(-0.14, -0.5, 0.14, -0.1, dark)
    b.box(-0.2, 0.6, 0.2, 1.2, dark)


def _pencil(b: Brush, c: RGB) -> None:
    def turned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((px - py) * 0.72, (px + py) * 0.72) for px, py in points]

    b.polygon(turned([(-1.3, -0.26), (0.75, -0.26), (0.75, 0.26), (-1.3, 0.26)]), c)
    b.polygon(turned([(-1.6, -0.26), (-1.25, -0.26), (-1.25, 0.26), (-1.6, 0.26)]), (240, 150, 170))
    b.polygon(turned([(0.75, -0.26), (1.4, 0.0), (0.75, 0.26)]), (238, 208, 160))
    b.polygon(turned([(1.12, -0.12), (1.42, 0.0), (1.12, 0.12)]), (25, 25, 25))


def _pizza(b: Brush, c: RGB) -> None:
    b.polygon([(-1.0, -0.65), (1.0, -0.65), (0.0, 1.2)], (248, 214, 110))
    b.polygon([(-1.1, -0.65), (-1.0, -1.0), (1.0, -1.0), (1.1, -0.65)], (170, 105, 50))
    for x, y in ((-0.42, -0.35), (0.4, -0.3), (0.0, 0.25)):
        b.oval(x - 0.27, y - 0.27, x + 0.27, y + 0.27, c)


def _shoe(b: Brush, c: RGB) -> None:
    b.polygon([(-0.9, -0.8), (-0.15, -0.8), (0.0, -0.1), (1.0, 0.15), (1.15, 0.6), (-0.9, 0.6)], c)
    b.box(-0.98, 0.55, 1.2, 0.8, (245, 245, 245))
    b.box(-0.95, -0.9, -0.1, -0.7, shade(c, 0.5))
    for x, y in ((0.0, -0.22), (0.28, -0.1), (0.56, 0.02)):
        b.line([(x - 0.1, y + 0.3), (x + 0.08, y)], (245, 245, 245), 0.1)


def _cat(b: Brush, c: RGB) -> None:
    dark = shade(c, 0.5)
    b.polygon([(-0.85, -0.2), (-0.85, -1.15), (-0.2, -0.65)], c)
    b.polygon([(0.85, -0.2), (0.85, -1.15), (0.2, -0.65)], c)
    b.oval(-0.95, -0.75, 0.95, 0.85, c)
    for x in (-0.4, 0.4):
        b.oval(x - 0.2, -0.25, x + 0.2, 0.15, (245, 245, 220))
        b.oval(x - 0.09, -0.22, x + 0.09, 0.14, (15, 15, 15))
    b.polygon([(-0.14, 0.25), (0.14, 0.25), (0.0, 0.42)], (25, 15, 15))
    for side in (-1, 1):
        b.line([(side * 0.35, 0.4), (side * 1.25, 0.25)], dark, 0.07)
        b.line([(side * 0.35, 0.5), (side * 1.25, 0.6)], dark, 0.07)


def _fish(b: Brush, c: RGB) -> None:
    b.polygon([(0.5, 0.0), (1.25, -0.65), (1.25, 0.65)], shade(c, 0.6))
    b.oval(-1.15, -0.6, 0.8, 0.6, c)
    b.polygon([(-0.35, -0.56), (-0.05, -0.6), (-0.05, 0.6), (-0.35, 0.56)], (250, 250, 250))
    b.polygon([(0.3, -0.42), (0.5, -0.34), (0.5, 0.34), (0.3, 0.42)], (250, 250, 250))
    b.oval(-0.88, -0.26, -0.62, 0.0, (10, 10, 10))


ENTITY_SHAPES: dict[str, Callable[[Brush, RGB], None]] = {
    "church": _church,
    "ball": _ball,
    "car": _car,
    "airplane": _airplane,
    "tower": _tower,
    "pencil": _pencil,
    "pizza": _pizza,
    "shoe": _shoe,
    "cat": _cat,
    "fish": _fish,
}


def draw_explosion(b: Brush, rng: random.Random) -> None:
    """Three stars within each other and a white core."""
    turn = rng.uniform(0, 0.5)
    for radius, colour in ((1.45, (215, 45, 20)), (1.05, (245, 140, 25)), (0.65, (255, 230, 90))):
        spikes = [(radius * (1.0 if k % 2 == 0 else 0.55), turn + k * math.pi / 11) for k in range(22)]
        b.polygon([(r * math.sin(a), -r * math.cos(a)) for r, a in spikes], colour)
    b.oval(-0.28, -0.28, 0.28, 0.28, (255, 252, 225))


def draw_face(b: Brush, kind: str, colour: RGB) -> None:
    """A round face: smiling if `kind` is ``happy``, else sad and in tears."""
    ink = (20, 18, 20)
    b.oval(-1.1, -1.1, 1.1, 1.1, colour)
    for x in (-0.42, 0.42):
        b.oval(x - 0.16, -0.5, x + 0.16, -0.1, ink)
    if kind == "happy":
        b.arc((-0.65, -0.45, 0.65, 0.72), 15, 165, ink, 0.18)
        return
    b.arc((-0.6, 0.32, 0.6, 1.35), 200, 340, ink, 0.18)
    for x in (-0.55, 0.55):
        b.oval(x - 0.17, 0.0, x + 0.17, 0.62, (150, 215, 255))


def draw_origami(b: Brush, c: RGB) -> None:
    """A folded paper crane: flat facets in shades of one colour with light creases."""
    light: RGB = (min(255, c[0] + 75), min(255, c[1] + 75), min(255, c[2] + 75))
    dark = shade(c, 0.6)
    b.polygon([(-0.1, 0.3), (-0.75, -1.25), (0.45, -0.1)], dark)
    b.polygon([(-0.1, 0.3), (0.55, -1.3), (0.5, 0.2)], light)
    b.polygon([(-0.6, 0.2), (0.6, 0.1), (0.0, 0.85)], c)
    b.polygon([(-0.5, 0.35), (-1.25, -0.55), (-0.25, 0.6)], light)
    b.polygon([(-1.25, -0.55), (-1.5, -0.2), (-1.02, -0.28)], dark)
    b.polygon([(0.4, 0.3), (1.4, -0.35), (0.25, 0.62)], dark)
    b.line([(-0.6, 0.2), (0.0, 0.85), (0.6, 0.1)], (250, 250, 250), 0.06)
