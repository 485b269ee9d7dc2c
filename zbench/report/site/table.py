"""The main table of a group: a row for each method, its trainings below it, each with its own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from zbench.report.pooling import single
from zbench.report.site.cells import Cell, Column, cell_of, columns_of
from zbench.report.site.places import RESULTS, keys_of, method_page, reference

if TYPE_CHECKING:
    from zbench.report.standing import Source, Standing, Standings
    from zbench.results.schema import PublishedResult

ORIGINAL, DONE, UNDONE, BROKEN = "original", "done", "undone", "broken"

_KINDS = (ORIGINAL, DONE, UNDONE, BROKEN)
"""By `Standing.rank`."""

Results = Mapping[str, "PublishedResult"]
"""Id -> result."""


@dataclass(frozen=True)
class File:
    """A result file behind a row.

    Attributes:
        label: Such as ``seed 0``.
        href: Of its copy in the site, from the page.
    """

    label: str
    href: str


@dataclass(frozen=True)
class TrainingRow:
    """One training of a row with several.

    Attributes:
        key: Its fragment on the page.
        file: Its result file.
        cells: One for each column.
    """

    key: str
    file: File
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        key: Its fragment on the page, which ties it to its point, pictures and traces.
        label: What it is called.
        method: Name of the method.
        card: Link to the method's card; empty for the original.
        kind: ``original``, ``done``, ``undone`` or ``broken``.
        marks: † and ‡.
        remark: Why it is broken, or has no figures.
        cells: One for each column.
        files: The result files behind it.
        trainings: The trainings, where there are several.
    """

    key: str
    label: str
    method: str
    card: str
    kind: str
    marks: str
    remark: str
    cells: tuple[Cell, ...]
    files: tuple[File, ...]
    trainings: tuple[TrainingRow, ...] = ()

    @property
    def href(self) -> str:
        """Where a figure of the row leads: to its file, or to its trainings, which lead to theirs."""
        return f"#{self.trainings[0].key}" if self.trainings else self.files[0].href


@dataclass(frozen=True)
class MainTable:
    """Columns and rows.

    Attributes:
        columns: Figures that a person reads.
        rows: In the order of the standings.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def sections(self) -> list[tuple[str, int]]:
        """What columns are about, and how many there are of it."""
        abouts = [column.about for column in self.columns]
        return [(about, abouts.count(about)) for about in dict.fromkeys(abouts)]


def main_table(found: Standings, results: Results, page: PurePosixPath) -> MainTable:
    """The table of a group.

    Args:
        found: Its standings.
        results: Id -> result, of the group.
        page: That it will stand on.
    """
    columns = columns_of(found.shown, [row.figures for row in found.rows])
    keys = keys_of(row.label for row in found.rows)
    rows = (_row(key, row, columns, results, page) for key, row in zip(keys, found.rows, strict=True))
    return MainTable(tuple(columns), tuple(rows))


def _row(key: str, row: Standing, columns: Sequence[Column], results: Results, page: PurePosixPath) -> Row:
    files = tuple(file_of(source, page) for source in row.sources)
    return Row(
        key=key,
        label=row.label,
        method=row.method,
        card="" if row.is_original else reference(method_page(row.method), page),
        kind=_KINDS[row.rank],
        marks=row.marks,
        remark=row.remark,
        cells=tuple(cell_of(row.figures.get(column.name), column) for column in columns),
        files=files,
        trainings=_trainings(key, row, columns, results, page) if len(files) > 1 else (),
    )


def file_of(source: Source, page: PurePosixPath) -> File:
    """A result file as a page links to it."""
    label = "result" if source.training_seed is None else f"seed {source.training_seed}"
    return File(label, reference(RESULTS / source.place, page))


def _trainings(
    key: str, row: Standing, columns: Sequence[Column], results: Results, page: PurePosixPath
) -> tuple[TrainingRow, ...]:
    return tuple(
        TrainingRow(f"training-{at}-of-{key}", file_of(source, page), _own_cells(results[source.id], columns))
        for at, source in enumerate(row.sources)
    )


def _own_cells(result: PublishedResult, columns: Sequence[Column]) -> tuple[Cell, ...]:
    """Figures of one training as its file has them."""
    figure: Callable[[str], Mapping[str, object] | None] = result.result.figure
    found = ((figure(column.name), column) for column in columns)
    return tuple(cell_of(None if of is None else single(of), column) for of, column in found)
