"""The contact sheet: the right picture in the right place, gaps for missing ones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from zbench.report.contact_sheet import SheetColumn, SheetRow, draw_sheet

LABEL, TITLE, STEP, SIDE = 130, 78, 136, 128


def picture(folder: Path, name: str, colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Path:
    path = folder / f"{name}.png"
    Image.new("RGB", size, colour).save(path)
    return path


def drawn(
    rows: list[SheetRow], columns: list[SheetColumn], blurred: frozenset[str] = frozenset()
) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(draw_sheet(rows, columns, blurred))))


def centre(sheet: np.ndarray, row: int, column: int) -> tuple[int, ...]:
    return tuple(sheet[TITLE + row * STEP + SIDE // 2, LABEL + column * STEP + SIDE // 2].tolist())


def test_pictures_stand_in_their_row_and_column(tmp_path: Path) -> None:
    red, blue = picture(tmp_path, "red", (255, 0, 0)), picture(tmp_path, "blue", (0, 0, 255), (300, 200))
    columns = [SheetColumn("explicit", "a", "one"), SheetColumn("unrelated", "a", "two")]
    rows = [SheetRow("original", {("explicit", "a"): red}), SheetRow("uce s0", {("unrelated", "a"): blue})]
    sheet = drawn(rows, columns)
    assert sheet.shape == (TITLE + 2 * STEP, LABEL + 2 * STEP, 3)
    assert centre(sheet, 0, 0) == (255, 0, 0)
    assert centre(sheet, 1, 1) == (0, 0, 255)
    assert centre(sheet, 0, 1) == centre(sheet, 1, 0) == (211, 211, 211)


def test_sheet_is_byte_stable_and_labelled(tmp_path: Path) -> None:
    red = picture(tmp_path, "red", (255, 0, 0))
    columns = [SheetColumn("explicit", "a", "one")]
    first, second = (
        draw_sheet([SheetRow(name, {("explicit", "a"): red})], columns) for name in ("uce", "uce")
    )
    assert first == second
    assert first != draw_sheet([SheetRow("ac", {("explicit", "a"): red})], columns)


def test_blurred_roles_show_no_detail(tmp_path: Path) -> None:
    checkers = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "checkers.png"
    Image.fromarray(np.stack([checkers] * 3, -1)).save(path)
    columns = [SheetColumn("explicit", "a", "one"), SheetColumn("unrelated", "a", "one")]
    row = SheetRow("x", {("explicit", "a"): path, ("unrelated", "a"): path})
    sheet = drawn([row], columns, frozenset({"explicit"}))
    inner = sheet[TITLE + 20 : TITLE + 100]
    assert inner[:, LABEL + 20 : LABEL + 100].std() < 5
    assert inner[:, LABEL + STEP + 20 : LABEL + STEP + 100].std() > 100


def test_captions_name_prompts_that_the_font_cannot_show() -> None:
    assert SheetColumn("explicit", "p-7", "一只猫").caption == ["explicit", "p-7"]
    assert SheetColumn("explicit", "p-7", "a cat").caption == ["explicit", "a cat"]
    assert len(SheetColumn("explicit", "p-7", "word " * 100).caption) == 5
