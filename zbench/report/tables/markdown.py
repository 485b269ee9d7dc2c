"""Tables as Markdown; equal results give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from zbench.report.markdown import markdown_table
from zbench.report.tables.sheet import Cell, Document, Section, Sheet, said_once


def render(documents: Iterable[Document]) -> str:
    """All tables, each document under a heading of its own where there are several.

    Args:
        documents: In the order in which they are shown.
    """
    return "\n".join(_document(document) for document in documents)


def _document(document: Document) -> str:
    parts = [f"# {escaped(document.title)}"]
    for sheet in said_once(document.sheets):
        parts += sheet_parts(sheet)
    return "\n\n".join(parts) + "\n"


def sheet_parts(sheet: Sheet) -> Iterator[str]:
    """Heading, header, table and notes, each a block of lines."""
    if sheet.title:
        yield f"## {escaped(sheet.title)}"
    if sheet.header:
        yield "\n".join(f"- {escaped(line)}" for line in sheet.header)
    header = [sheet.label, *(escaped(column.heading) for column in sheet.columns)]
    lines = (line for section in sheet.sections for line in _lines(section, len(sheet.columns)))
    yield markdown_table(header, lines)
    if sheet.notes:
        yield "\n".join(f"{escaped(line)}  " for line in sheet.notes).rstrip()


def _lines(section: Section, columns: int) -> Iterator[list[str]]:
    if section.title:
        yield [f"*{escaped(section.title)}*", *[""] * columns]
    for row in section.rows:
        yield [escaped(row.label), *(cell_text(cell) for cell in row.cells)]


def cell_text(cell: Cell) -> str:
    """The number, in bold where it is the best, and what belongs to it."""
    number = escaped(cell.shown.number)
    beside = [escaped(part) for part in cell.beside]
    figures = cell.details[: len(cell.details) - len(beside)]
    return "; ".join([" ".join([f"**{number}**" if cell.best else number, *figures]), *beside])


_ALWAYS = {letter: f"\\{letter}" for letter in "\\`*|$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_AT_WORDS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<! )~|~(?! )|(?<=\])\(")
"""Letters that mean something only where words begin or end, or after a bracket."""


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line.

    Args:
        text: Anything.
    """
    line = " ".join(text.split())
    marked = _AT_WORDS.sub(lambda found: f"\0{found.group()}", line)
    return "".join(_ALWAYS.get(letter, letter) for letter in marked).replace("\0", "\\")
