"""Tables for a terminal: where one is too wide, its columns stand in several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_FRAME = 3


def blocks(
    labels: Sequence[str], columns: Sequence[Sequence[str]], dim: Sequence[bool], width: int
) -> list[RenderableType]:
    """Columns in as many tables as fit, the labels of the rows in each.

    Args:
        labels: Title of the first column, then a label for each row.
        columns: Title and cells of each column; both may have several lines.
        dim: Whether a row is shown pale.
        width: Columns of the terminal.
    """
    return [_block(labels, group, dim) for group in _fitting(labels, columns, width)]


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


def _block(labels: Sequence[str], columns: Sequence[Sequence[str]], dim: Sequence[bool]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(labels[0], no_wrap=True)
    for title, *_ in columns:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for position, (label, pale) in enumerate(zip(labels[1:], dim, strict=True), start=1):
        cells = [Text(column[position]) for column in columns]
        table.add_row(Text(label), *cells, style="dim" if pale else "")
    return table
