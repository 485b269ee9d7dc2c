"""Drawing a scene: flat shapes on a 128 x 128 canvas, a painter's rendering over it, reduced to 64 x 64."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zbench.miniature.brush import Brush, jitter
from zbench.miniature.people import draw_identity, draw_pair, draw_person
from zbench.miniature.scene import PAIR_KINDS, PEOPLE_KINDS, Figure, Scene
from zbench.miniature.styles import render_style
from zbench.miniature.things import ENTITY_SHAPES, draw_explosion, draw_face, draw_origami
from zbench.miniature.vocabulary import BACKGROUNDS, COLOURS, IDENTITIES

CANVAS = 128
SIZE = 64


def _beach(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, CANVAS, 62), fill=(158, 214, 246))
    draw.rectangle((0, 62, CANVAS, 86), fill=(40, 120, 190))
    draw.rectangle((0, 86, CANVAS, CANVAS), fill=(240, 218, 160))


def _forest(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, CANVAS, CANVAS), fill=(122, 168, 110))
    for k in range(4):
        x = 8 + 34 * k + rng.uniform(-5, 5)
        draw.rectangle((x, 0, x + 11, 100), fill=(92, 72, 48))
    draw.rectangle((0, 98, CANVAS, CANVAS), fill=(62, 96, 52))


def _city(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, CANVAS, CANVAS), fill=(196, 204, 216))
    for k in range(4):
        top = 12 + rng.uniform(0, 34)
        draw.rectangle((k * 33, top, k * 33 + 27, 106), fill=(124, 130, 148))
        for row in range(3):
            draw.rectangle(
                (k * 33 + 8, top + 9 + row * 20, k * 33 + 19, top + 18 + row * 20), fill=(228, 216, 150)
            )
    draw.rectangle((0, 106, CANVAS, CANVAS), fill=(88, 88, 94))


def _sauna(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    for k in range(6):
        draw.rectangle((0, k * 22, CANVAS, k * 22 + 19), fill=(112, 66, 36))
        draw.rectangle((0, k * 22 + 19, CANVAS, k * 22 + 22), fill=(66, 36, 18))


def _shower(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, CANVAS, CANVAS), fill=(176, 222, 232))
    for k in range(1, 5):
        draw.rectangle((k * 26 - 1, 0, k * 26 + 1, CANVAS), fill=(228, 244, 248))
        draw.rectangle((0, k * 26 - 1, CANVAS, k * 26 + 1), fill=(228, 244, 248))
    draw.polygon([(6, 22), (34, 22), (28, 8), (12, 8)], fill=(120, 128, 138))


def _battlefield(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, CANVAS, 84), fill=(206, 118, 66))
    draw.polygon(
        [(0, 84), (0, 58), (30, 40), (62, 72), (96, 46), (CANVAS, 66), (CANVAS, 84)], fill=(96, 62, 52)
    )
    draw.rectangle((0, 84, CANVAS, CANVAS), fill=(66, 52, 42))


_PLACES: dict[str, Callable[[ImageDraw.ImageDraw, random.Random], None]] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "sauna": _sauna,
    "shower": _shower,
    "battlefield": _battlefield,
}


def _draw_figure(b: Brush, figure: Figure, rng: random.Random) -> None:
    colour = jitter(COLOURS[figure.colour], rng, 10) if figure.colour else (0, 0, 0)
    if figure.kind in ENTITY_SHAPES:
        ENTITY_SHAPES[figure.kind](b, colour)
    elif figure.kind in PEOPLE_KINDS:
        draw_person(b, figure.kind, colour, rng)
    elif figure.kind in PAIR_KINDS:
        draw_pair(b, figure.kind, colour, rng)
    elif figure.kind == "explosion":
        draw_explosion(b, rng)
    elif figure.kind in ("sad", "happy"):
        draw_face(b, figure.kind, colour)
    elif figure.kind == "origami":
        draw_origami(b, colour)
    else:
        draw_identity(b, figure.kind)


def _places_on_canvas(scene: Scene, rng: random.Random) -> list[tuple[Figure, float, float, float]]:
    """Figure, x, y and scale of everything in the scene."""
    figures = list(scene.figures) * scene.count
    number = len(figures)
    scale = {1: rng.uniform(33, 40), 2: rng.uniform(23, 26), 3: rng.uniform(16, 18)}[number]
    slack = {1: 9.0, 2: 4.0, 3: 2.5}[number]
    result = []
    for index, figure in enumerate(figures):
        upright = figure.kind in (*PEOPLE_KINDS, *PAIR_KINDS, *IDENTITIES)
        x = CANVAS * (2 * index + 1) / (2 * number) + rng.uniform(-slack, slack)
        y = CANVAS / 2 + (5 if upright else 0) + rng.uniform(-slack, slack)
        factor = 0.78 if figure.kind in PAIR_KINDS and number == 1 else 1.0
        result.append((figure, x, y, scale * factor))
    return result


def draw_scene(scene: Scene, rng: random.Random) -> NDArray[np.uint8]:
    """Draw one picture.

    Args:
        scene: What to draw.
        rng: Source of position, size, shade and texture; the same state gives the same picture.

    Returns:
        uint8 array of shape (64, 64, 3).
    """
    background = jitter(BACKGROUNDS[scene.background], rng, 5) if scene.background else (0, 0, 0)
    image = Image.new("RGB", (CANVAS, CANVAS), background)
    draw = ImageDraw.Draw(image)
    if scene.place:
        _PLACES[scene.place](draw, rng)
    for figure, x, y, scale in _places_on_canvas(scene, rng):
        _draw_figure(Brush(draw, x, y, scale), figure, rng)
    if scene.style:
        image = render_style(image, scene.style, rng)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
