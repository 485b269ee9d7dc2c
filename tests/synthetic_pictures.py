"""Made-up small pictures: a sprite of coloured tiles, drawn by a rule and the same for equal arguments."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageDraw

SIDE, COLUMNS = 64, 8


@cache
def sprite(tiles: int, erased: int, variant: int) -> bytes:
    """A WebP of `tiles` tiles in rows of `COLUMNS`: discs whose colour says how much is erased."""
    rows = -(-tiles // COLUMNS)
    picture = Image.new("RGB", (SIDE * COLUMNS, SIDE * rows), "white")
    pen = ImageDraw.Draw(picture)
    for tile in range(tiles):
        left, top = tile % COLUMNS * SIDE, tile // COLUMNS * SIDE
        sky = (150 + 6 * (tile % 8), 190 + 4 * variant, 230 - 5 * tile % 60)
        disc = (230 - 12 * erased, 60 + 10 * erased, 40 + 20 * (tile % 5))
        pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=sky)
        pen.rectangle((left, top + 44, left + SIDE - 1, top + SIDE - 1), fill=(90, 150, 80))
        pen.ellipse((left + 12, top + 12 + variant, left + 50, top + 50 + variant), fill=disc)
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=60, method=0)
    return data.getvalue()
