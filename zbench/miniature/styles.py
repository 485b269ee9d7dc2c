"""Five painters: distinct renderings of a finished drawing in which its subject stays legible."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Canvas = NDArray[np.floating[Any]]
"""Height x width x (red, green, blue), about 0 to 255."""


def _van_gogh(canvas: Canvas, rng: random.Random) -> Canvas:
    """Swirling strokes of blue and yellow over everything."""
    size = canvas.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    cx, cy, phase = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(0, 6.28)
    dx, dy = 2.5 * np.sin(yy / 9 + phase), 2.5 * np.cos(xx / 9 + phase)
    bent = canvas[np.clip(yy + dy, 0, size - 1).astype(int), np.clip(xx + dx, 0, size - 1).astype(int)]
    radius = np.hypot(xx - cx, yy - cy)
    wave = np.sin(radius / 2.6 + 1.5 * np.sin(np.arctan2(yy - cy, xx - cx) * 2 + phase))
    swirls = 30 * wave[..., None] * np.array([0.9, 0.7, -1.0])
    swirled: Canvas = bent * 0.82 + np.array([30, 36, 40]) + swirls
    return swirled


def _picasso(canvas: Canvas, rng: random.Random) -> Canvas:
    """Straight black cuts; every second facet tinted ochre or steel."""
    size = canvas.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    parity = np.zeros((size, size), dtype=int)
    lines = np.zeros((size, size), dtype=bool)
    for _ in range(4):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-30, 30)
        distance = (xx - size / 2) * np.cos(angle) + (yy - size / 2) * np.sin(angle) - offset
        parity ^= (distance > 0).astype(int)
        lines |= np.abs(distance) < 1.6
    tint = np.where(parity[..., None] == 1, np.array([214, 158, 84]), np.array([104, 124, 156]))
    result: Canvas = canvas * 0.7 + tint * 0.3
    result[lines] = 15
    return result


def _monet(canvas: Canvas, rng: random.Random) -> Canvas:
    """Pale dabs of colour."""
    size = canvas.shape[0]
    image = Image.fromarray(np.uint8(np.clip(canvas * 0.62 + 92, 0, 255)))
    pixels: Any = image.load()
    draw = ImageDraw.Draw(image)
    for _ in range(120):
        x, y = rng.randrange(size), rng.randrange(size)
        shift = rng.uniform(-20, 34)
        red, green, blue = pixels[x, y]
        colour = (int(min(255, red + shift)), int(min(255, green + shift * 0.8)), int(min(255, blue + shift)))
        draw.ellipse((x - 5, y - 3, x + 5, y + 3), fill=colour)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), dtype=np.float32)


def _rembrandt(canvas: Canvas, rng: random.Random) -> Canvas:
    """Warm brown light falling on the middle of a dark picture."""
    size = canvas.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    radius = np.hypot(xx - size / 2 - rng.uniform(-8, 8), yy - size / 2 - rng.uniform(-8, 8)) / (size / 2)
    light = np.clip(1.12 - 0.75 * radius**2, 0.16, 1.0)[..., None]
    grey = canvas.mean(axis=2, keepdims=True)
    warm = (0.6 * canvas + 0.4 * grey) * np.array([1.0, 0.8, 0.5])
    lit: Canvas = (warm * 0.9 + np.array([14, 8, 2])) * light
    return lit


def _dore(canvas: Canvas, rng: random.Random) -> Canvas:
    """Black-and-white engraving: hatching that thickens with darkness."""
    size = canvas.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    grey = canvas @ np.array([0.35, 0.45, 0.2])
    hatch = 0.5 + 0.5 * np.sin((xx + yy) * 2 * np.pi / 9 + rng.uniform(0, 6.28))
    ink = grey - (1 - grey / 255) * 130 * hatch + 46
    return np.repeat(ink[..., None], 3, axis=2)


_RENDER = {
    "van-gogh": _van_gogh,
    "picasso": _picasso,
    "monet": _monet,
    "rembrandt": _rembrandt,
    "dore": _dore,
}


def render_style(image: Image.Image, style: str, rng: random.Random) -> Image.Image:
    """Render a drawing in the manner of one painter."""
    canvas = _RENDER[style](np.asarray(image, dtype=np.float32), rng)
    return Image.fromarray(np.uint8(np.clip(canvas, 0, 255)))
