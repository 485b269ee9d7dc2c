"""A sheet of the world for people to look at."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image

from zbench.miniature.drawing import draw_scene
from zbench.miniature.scene import COLOURED, PEOPLE_KINDS, Figure, Scene
from zbench.miniature.vocabulary import BACKGROUNDS, COLOURS, ENTITIES, IDENTITIES, PLACES, STYLES

KINDS = (
    *(*ENTITIES, *PEOPLE_KINDS, *IDENTITIES),
    *("hug", "handshake", "pair", "explosion", "sad", "happy", "origami"),
)


def draw_sheet(seed: int = 0) -> Image.Image:
    """Everything the world shows: a plain row, a row for each painter, a row of places."""
    rng = random.Random(seed)

    def figure(kind: str) -> Figure:
        return Figure(kind, rng.choice(list(COLOURS)) if kind in COLOURED else None)

    rows = [
        [
            draw_scene(Scene((figure(kind),), background=rng.choice(list(BACKGROUNDS)), style=style), rng)
            for kind in KINDS
        ]
        for style in (None, *STYLES)
    ]
    places = [list(PLACES)[index % len(PLACES)] for index in range(len(KINDS))]
    rows.append([draw_scene(Scene((figure(k),), place=p), rng) for k, p in zip(KINDS, places, strict=True)])
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0))
