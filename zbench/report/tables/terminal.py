"""Tables for a terminal; where one is too wide, its columns stand in several blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zbench.report.tables.sheet import Cell, Document, Sheet, said_once
from zbench.report.terminal import blocks

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(documents: Iterable[Document], width: int = 120) -> RenderableType:
    """All tables.

    Args:
        documents: In the order in which they are shown.
        width: Columns of the terminal.
    """
    from rich.console import Group

    return Group(*(part for document in documents for part in _document(document, width)))


def _document(document: Document, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    yield Text(document.title, "bold")
    for sheet in said_once(document.sheets):
        yield from _sheet(sheet, width)
    yield Text("")


def _sheet(sheet: Sheet, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    if sheet.title:
        yield Text(f"\n{sheet.title}", "bold")
    yield from (Text(line) for line in sheet.header)
    rows = list(sheet.rows)
    labels = [sheet.label, *(row.label for row in rows)]
    columns = [
        [column.heading.replace(", ", "\n"), *(_lines(row.cells[at]) for row in rows)]
        for at, column in enumerate(sheet.columns)
    ]
    bold = [[row.cells[at].best for row in rows] for at in range(len(sheet.columns))]
    pale = [section.pale for section in sheet.sections for _ in section.rows]
    yield from blocks(labels, columns, pale, width, bold=bold, ends=_ends(sheet))
    yield from (Text(line, "dim") for line in sheet.notes)


def _ends(sheet: Sheet) -> list[int]:
    """Numbers of the rows that a rule stands below: the last one of each section."""
    ends, count = [], 0
    for section in sheet.sections[:-1]:
        count += len(section.rows)
        ends.append(count - 1)
    return ends


def _lines(cell: Cell) -> str:
    """The number with its count and marks, then everything else, a line each."""
    shown = cell.shown
    first = " ".join(
        part for part in (shown.number, f"({shown.counted})" if shown.counted else "", shown.mark,
                          "=" if shown.tied else "") if part
    )  # fmt: skip
    rest = (
        f"corrected {shown.corrected}" if shown.corrected else "",
        shown.bounds,
        f"{{{cell.seeds}}}" if cell.seeds else "",
    )
    return "\n".join([first, *(part for part in rest if part), *cell.beside])
