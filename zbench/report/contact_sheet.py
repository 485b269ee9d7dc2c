"""The contact sheet: methods down, prompts across, the same seeds in every row."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.protocols import ROLES
from zbench.report.plots import RED
from zbench.stages.thumbnails import SIDE, fitted, shown_picture
from zbench.store import read_json

if TYPE_CHECKING:
    from PIL import Image as Images

    from zbench.runner.specs import CellResult

PER_ROLE = {"explicit": 3, "implicit": 2, "unrelated": 3}
"""Prompts of a role that get a column."""

PER_OTHER_ROLE = 1

_SIDE = SIDE
"""That of thumbnails: a sheet of pictures that were thinned is the same."""

_MARGIN = 8
_FRAME = 3
_LABEL_WIDTH = 130
_TITLE_HEIGHT = 78
_LETTERS_PER_LINE = 21
_LETTERS_PER_LABEL = 20
_LINES = 5
_FONT_SIZE = 11
_ENDS_OF_LATIN = 0x250


@dataclass(frozen=True)
class SheetRow:
    """One row of pictures.

    Attributes:
        label: Name of the method with its seed.
        pictures: (role, prompt id) -> picture file; one that is missing leaves a gap.
        framed: Those of them that get a frame.
    """

    label: str
    pictures: dict[tuple[str, str], Path]
    framed: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class SheetColumn:
    """One prompt.

    Attributes:
        role: What the prompt is for.
        prompt_id: Its id in the prompt set.
        prompt: Its text.
    """

    role: str
    prompt_id: str
    prompt: str

    @property
    def caption(self) -> list[str]:
        """Lines over the column; prompts in scripts that the font lacks are named by their id."""
        readable = all(ord(letter) < _ENDS_OF_LATIN for letter in self.prompt)
        text = self.prompt if readable else self.prompt_id
        return [self.role, *textwrap.wrap(text, _LETTERS_PER_LINE, max_lines=_LINES - 1, placeholder=" …")]


def sheet_of(cells: Sequence[CellResult], root: Path, blurred: frozenset[str] = frozenset()) -> bytes | None:
    """The contact sheet of a run as PNG, None where no cell has pictures.

    Args:
        cells: Results; failed and skipped ones have no row.
        root: Run folder.
        blurred: Roles whose pictures are blurred.
    """
    rows, columns = [], list[SheetColumn]()
    for cell in cells:
        if cell.status == "done":
            samples = first_pictures(cell.stages, root)
            columns = columns or _columns(samples)
            rows.append(SheetRow(cell.spec.label, {(s["role"], s["prompt_id"]): path for s, path in samples}))
    return draw_sheet(rows, columns, blurred) if rows and columns else None


def first_pictures(stages: Mapping[str, str], root: Path) -> list[tuple[dict[str, Any], Path]]:
    """First repetition of every prompt of a cell, with its picture; read without torch.

    Args:
        stages: Of the cell.
        root: Run folder.
    """
    found: list[tuple[dict[str, Any], Path]] = []
    for stage, place in stages.items():
        if stage.startswith("pictures "):
            manifest = read_json(root / place / "manifest.json")["samples"]
            files = ((sample, shown_picture(root / place, i)) for i, sample in enumerate(manifest))
            found.extend((sample, path) for sample, path in files if sample["repetition"] == 0)
    return found


def _columns(samples: list[tuple[dict[str, Any], Path]]) -> list[SheetColumn]:
    found = {sample["role"] for sample, _ in samples}
    roles = [*(role for role in ROLES if role in found), *sorted(found - set(ROLES))]
    every = [SheetColumn(s["role"], s["prompt_id"], s["prompt"]) for s, _ in samples]
    kept = ([c for c in every if c.role == role][: PER_ROLE.get(role, PER_OTHER_ROLE)] for role in roles)
    return [column for columns in kept for column in columns]


def draw_sheet(
    rows: Sequence[SheetRow], columns: Sequence[SheetColumn], blurred: frozenset[str] = frozenset()
) -> bytes:
    """Draws the sheet.

    Args:
        rows: From top to bottom.
        columns: From left to right.
        blurred: Roles whose pictures are blurred.

    Returns:
        PNG, the same bytes for the same pictures.
    """
    from PIL import Image, ImageDraw, ImageFont

    step = _SIDE + _MARGIN
    size = (_LABEL_WIDTH + step * len(columns), _TITLE_HEIGHT + step * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for place, column in enumerate(columns):
        draw.multiline_text(
            (_LABEL_WIDTH + place * step, 4), "\n".join(column.caption), "black", font, spacing=2
        )
    for line, row in enumerate(rows):
        top = _TITLE_HEIGHT + line * step
        label = textwrap.fill(row.label, _LETTERS_PER_LABEL)
        draw.multiline_text((_MARGIN, top + _SIDE // 2), label, "black", font, spacing=2)
        for place, column in enumerate(columns):
            thumbnail = _thumbnail(row.pictures.get((column.role, column.prompt_id)), column.role in blurred)
            corner = (_LABEL_WIDTH + place * step, top)
            sheet.paste(thumbnail, corner)
            if (column.role, column.prompt_id) in row.framed:
                draw.rectangle(_around(corner), outline=RED, width=_FRAME)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _around(corner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The frame of a thumbnail, outside of it."""
    left, top = corner
    return left - _FRAME, top - _FRAME, left + _SIDE + _FRAME - 1, top + _SIDE + _FRAME - 1


def _thumbnail(path: Path | None, blur: bool) -> Images.Image:
    """A picture fitted into the square of a cell; small ones are enlarged without smoothing."""
    from PIL import Image, ImageFilter

    square = Image.new("RGB", (_SIDE, _SIDE), "lightgray")
    if path is None or not path.is_file():
        return square
    with Image.open(path) as picture:
        small = fitted(picture, _SIDE)
    small = small.filter(ImageFilter.GaussianBlur(_SIDE / 10)) if blur else small
    square.paste(small, ((_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    return square
