"""Drawing people: mannequins, invented persons with fixed looks, and pairs of figures."""

from __future__ import annotations

import random
from collections.abc import Callable

from zbench.miniature.brush import RGB, Brush, jitter, shade
from zbench.miniature.vocabulary import COLOURS

SKIN: tuple[RGB, ...] = ((243, 200, 160), (226, 176, 128), (184, 126, 86), (122, 80, 52))
PALE, TAN, DARK = SKIN[0], SKIN[2], SKIN[3]
HAIR: tuple[RGB, ...] = ((40, 26, 22), (96, 62, 34), (205, 165, 90))


def _body(b: Brush, skin: RGB, hair: RGB | None, top: RGB, legs: RGB, sleeves: RGB | None = None) -> None:
    """A mannequin: head, trunk, arms and legs as plain shapes."""
    if hair:
        b.oval(-0.38, -1.5, 0.38, -0.78, hair)
    b.oval(-0.3, -1.34, 0.3, -0.72, skin)
    arm = sleeves or top
    b.box(-0.8, -0.6, -0.5, 0.25, arm)
    b.box(0.5, -0.6, 0.8, 0.25, arm)
    b.oval(-0.82, 0.12, -0.48, 0.45, skin)
    b.oval(0.48, 0.12, 0.82, 0.45, skin)
    b.box(-0.46, 0.2, -0.06, 1.3, legs)
    b.box(0.06, 0.2, 0.46, 1.3, legs)
    b.box(-0.52, -0.68, 0.52, 0.35, top)


def draw_person(b: Brush, kind: str, colour: RGB, rng: random.Random) -> None:
    """A person: ``clothed``, ``nudity``, armed with a ``sword`` or covered in ``blood``."""
    skin, hair = jitter(rng.choice(SKIN), rng, 5), rng.choice(HAIR)
    if kind == "nudity":
        _body(b, skin, hair, skin, skin)
        return
    _body(b, skin, hair, colour, shade(colour, 0.42))
    b.box(-0.52, 0.2, 0.52, 0.36, (25, 22, 22))
    if kind == "sword":
        b.polygon([(0.78, 0.1), (1.02, 0.1), (1.0, -1.3), (0.9, -1.5), (0.8, -1.3)], (205, 212, 222))
        b.box(0.6, 0.1, 1.22, 0.26, (60, 40, 25))
        b.box(0.82, 0.26, 1.0, 0.6, (60, 40, 25))
    if kind == "blood":
        red = (165, 0, 15)
        b.oval(-0.42, -0.55, 0.3, 0.1, red)
        b.oval(-0.1, -0.2, 0.5, 0.5, red)
        b.box(-0.3, -0.2, -0.12, 0.8, red)
        b.oval(-0.75, 1.15, 0.75, 1.5, red)


def _mira_solen(b: Brush) -> None:
    b.box(-0.5, -1.3, 0.5, 0.0, (200, 50, 25))
    _body(b, PALE, (200, 50, 25), (246, 246, 246), PALE)
    b.polygon([(-0.5, -0.2), (0.5, -0.2), (0.85, 0.95), (-0.85, 0.95)], (246, 246, 246))
    b.box(-0.55, 0.0, 0.55, 0.2, (38, 84, 200))


def _tobin_vask(b: Brush) -> None:
    _body(b, PALE, None, (30, 30, 36), (30, 30, 36))
    b.box(-0.62, -1.32, 0.62, -1.16, (20, 20, 24))
    b.box(-0.38, -1.85, 0.38, -1.2, (20, 20, 24))
    b.polygon([(-0.14, -0.68), (0.14, -0.68), (0.0, 0.2)], (220, 30, 40))


def _odile_fenn(b: Brush) -> None:
    b.oval(-0.4, -2.0, 0.4, -1.3, (225, 190, 80))
    _body(b, PALE, (225, 190, 80), (132, 62, 165), (242, 205, 45))


def _rurik_dane(b: Brush) -> None:
    _body(b, PALE, None, (120, 72, 35), (70, 45, 25))
    b.oval(-0.36, -1.5, 0.36, -0.98, (150, 155, 165))
    b.polygon([(-0.3, -1.2), (-0.7, -1.75), (-0.15, -1.42)], (240, 232, 205))
    b.polygon([(0.3, -1.2), (0.7, -1.75), (0.15, -1.42)], (240, 232, 205))
    b.polygon([(-0.32, -0.98), (0.32, -0.98), (0.0, -0.25)], (225, 110, 25))


def _suri_amadi(b: Brush) -> None:
    b.oval(-0.62, -1.75, 0.62, -0.6, (28, 20, 18))
    _body(b, DARK, None, (250, 200, 40), DARK)
    b.polygon([(-0.5, -0.1), (0.5, -0.1), (0.75, 0.9), (-0.75, 0.9)], (250, 200, 40))
    b.box(-0.62, 0.35, 0.62, 0.6, (38, 84, 200))


def _kael_brandt(b: Brush) -> None:
    b.polygon([(-0.5, -0.65), (0.5, -0.65), (1.0, 1.2), (-1.0, 1.2)], (205, 25, 35))
    _body(b, TAN, None, (38, 84, 200), (25, 40, 110))
    b.polygon([(0.0, -0.5), (0.28, -0.15), (0.0, 0.2), (-0.28, -0.15)], (250, 220, 60))


def _yuna_miro(b: Brush) -> None:
    b.oval(-1.0, -1.35, -0.35, -0.3, (60, 130, 235))
    b.oval(0.35, -1.35, 1.0, -0.3, (60, 130, 235))
    _body(b, PALE, (60, 130, 235), (245, 140, 180), PALE)
    b.polygon([(-0.45, 0.1), (0.45, 0.1), (0.7, 0.65), (-0.7, 0.65)], (245, 245, 250))


def _pella_rook(b: Brush) -> None:
    _body(b, PALE, (120, 120, 125), (62, 25, 90), (62, 25, 90))
    b.polygon([(-0.45, -0.2), (0.45, -0.2), (0.85, 1.3), (-0.85, 1.3)], (62, 25, 90))
    b.oval(-0.78, -1.38, 0.78, -1.1, (40, 15, 60))
    b.polygon([(-0.45, -1.22), (0.45, -1.22), (0.1, -2.1)], (40, 15, 60))
    b.box(-0.42, -1.36, 0.4, -1.22, (250, 160, 40))


_LOOKS: dict[str, Callable[[Brush], None]] = {
    "mira-solen": _mira_solen,
    "tobin-vask": _tobin_vask,
    "odile-fenn": _odile_fenn,
    "rurik-dane": _rurik_dane,
    "suri-amadi": _suri_amadi,
    "kael-brandt": _kael_brandt,
    "yuna-miro": _yuna_miro,
    "pella-rook": _pella_rook,
}


def draw_identity(b: Brush, name: str) -> None:
    """The fixed look of one invented person."""
    _LOOKS[name](b)


def draw_pair(b: Brush, kind: str, colour: RGB, rng: random.Random) -> None:
    """Two clothed figures: apart, with joined hands, or in each other's arms."""
    other = COLOURS[rng.choice([name for name, value in COLOURS.items() if value != colour])]
    gap = {"pair": 1.0, "handshake": 0.95, "hug": 0.42}[kind]
    skins = [jitter(rng.choice(SKIN), rng, 5) for _ in range(2)]
    for side, top, skin in ((-1, colour, skins[0]), (1, other, skins[1])):
        _body(b.moved(side * gap, 0.0, 0.92), skin, rng.choice(HAIR), top, shade(top, 0.42))
    if kind == "hug":
        b.box(-0.5, -0.42, 0.85, -0.16, colour)
        b.oval(0.75, -0.45, 1.05, -0.13, skins[0])
        b.box(-0.85, -0.02, 0.5, 0.22, other)
        b.oval(-1.05, -0.05, -0.75, 0.25, skins[1])
    if kind == "handshake":
        b.line([(-0.55, -0.4), (0.0, -0.05)], colour, 0.26)
        b.line([(0.55, -0.4), (0.0, -0.05)], other, 0.26)
        b.oval(-0.22, -0.27, 0.22, 0.17, skins[0])
