"""Tables for a terminal: where one is too wide, its columns stand in several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_FRAME = 3


def blocks(
    labels: Sequence[str],
    columns: Sequence[Sequence[str]],
    dim: Sequence[bool],
    width: int,
    *,
    bold: Sequence[Sequence[bool]] = (),
    ends: Sequence[int] = (),
) -> list[RenderableType]:
    """Columns in as many tables as fit, the labels of the rows in each.

    Args:
        labels: Title of the first column, then a label for each row.
        columns: Title and cells of each column; both may have several lines.
        dim: Whether a row is shown pale.
        width: Columns of the terminal.
        bold: For each column whether each of its cells is bold; none is when empty.
        ends: Numbers of the rows that a rule stands below.
    """
    marked = {id(column): cells for column, cells in zip(columns, bold, strict=False)}
    groups = _fitting(labels, columns, width)
    return [
        _block(labels, group, dim, [marked.get(id(each), ()) for each in group], ends) for group in groups
    ]


def _fitting(
    labels: Sequence[str], columns: Sequence[Sequence[str]], width: int
) -> list[list[Sequence[str]]]:
    start = max(map(len, labels)) + _FRAME + 1
    groups: list[list[Sequence[str]]] = [[]]
    used = start
    for column in columns:
        needed = max(len(line) for cell in column for line in cell.splitlines()) + _FRAME
        if groups[-1] and used + needed > width:
            groups.append([])
            used = start
        groups[-1].append(column)
        used += needed
    return groups


def _block(
    labels: Sequence[str],
    columns: Sequence[Sequence[str]],
    dim: Sequence[bool],
    bold: Sequence[Sequence[bool]],
    ends: Sequence[int],
) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(labels[0], no_wrap=True)
    for title, *_ in columns:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for number, (label, pale) in enumerate(zip(labels[1:], dim, strict=True)):
        marked = [bool(cells) and cells[number] for cells in bold]
        texts = [column[number + 1] for column in columns]
        cells = [Text(text, "bold" if best else "") for text, best in zip(texts, marked, strict=True)]
        table.add_row(Text(label), *cells, style="dim" if pale else "", end_section=number in ends)
    return table
