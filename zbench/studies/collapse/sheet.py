"""The contact sheet: one line for each fine-tuning, its pictures of unrelated prompts at two strengths."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image as Images
    from torch import Tensor

SIDE = 64
"""Pixels of a thumbnail, the side of the miniature's own pictures."""

SHOWN = 6
"""Pictures at each strength."""

_GAP, _LABEL, _TOP, _FONT = 4, 300, 22, 11


@dataclass(frozen=True)
class Line:
    """One line of the sheet.

    Attributes:
        label: The fine-tuning.
        strips: PNG files of `strip`, one for each strength; None leaves a gap.
    """

    label: str
    strips: tuple[bytes | None, ...]


def strip(pictures: Tensor) -> bytes:
    """The first pictures side by side as a PNG file.

    Args:
        pictures: uint8 [N, 3, H, W] of unrelated prompts.
    """
    from PIL import Image, ImageOps

    row = Image.new("RGB", (SHOWN * (SIDE + _GAP) - _GAP, SIDE), "white")
    for place, picture in enumerate(pictures[:SHOWN]):
        image = Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())
        row.paste(ImageOps.pad(image, (SIDE, SIDE), color="white"), (place * (SIDE + _GAP), 0))
    return _png(row)


def draw_sheet(titles: Sequence[str], lines: Sequence[Line]) -> bytes:
    """The sheet as a PNG file.

    Args:
        titles: Over the columns of strips.
        lines: From top to bottom.
    """
    from PIL import Image, ImageDraw, ImageFont

    step = SHOWN * (SIDE + _GAP) + 4 * _GAP
    sheet = Image.new("RGB", (_LABEL + step * len(titles), _TOP + len(lines) * (SIDE + _GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for place, title in enumerate(titles):
        draw.text((_LABEL + place * step, 4), title, "black", font)
    for number, line in enumerate(lines):
        top = _TOP + number * (SIDE + _GAP)
        draw.text((_GAP, top + SIDE // 2), line.label, "black", font, anchor="lm")
        for place, data in enumerate(line.strips):
            if data is not None:
                with Image.open(io.BytesIO(data)) as pictures:
                    sheet.paste(pictures.convert("RGB"), (_LABEL + place * step, top))
    return _png(sheet)


def _png(image: Images.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
