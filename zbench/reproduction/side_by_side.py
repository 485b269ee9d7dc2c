"""Paper and measured side by side: each number, in percent of the unerased model's, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.reproduction.series import Series, series_of
from zbench.reproduction.tables import ORIGINAL, Column

if TYPE_CHECKING:
    from zbench.report.pooling import Trainings
    from zbench.reproduction.reading import Measured

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A column of a row.

    Attributes:
        row: Name of the row.
        title: Of the row, marked where its generator is broken.
        paper: The paper's number; slips corrected.
        slip: What the paper printed instead.
        measured: What was measured; None where it was not.
        beside: The figure beside it, such as an attack's control.
        paper_share: The paper's number in percent of the unerased model's.
        share: The measured one likewise.
        bounds: 95 % interval of `share`; the unerased model's value is taken as it is.
        counts: Pictures that the measured share stands for, where the paper counts them; else None.
    """

    row: str
    title: str
    paper: float | None
    slip: float | None
    measured: Series | None
    beside: Series | None
    paper_share: float | None
    share: float | None
    bounds: Bounds | None
    counts: float | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus paper, both in percent of the unerased model's."""
        return None if self.share is None or self.paper_share is None else self.share - self.paper_share

    @property
    def difference_bounds(self) -> Bounds | None:
        """Its 95 % interval; the paper's numbers have none of their own."""
        if self.bounds is None or self.paper_share is None:
            return None
        return self.bounds[0] - self.paper_share, self.bounds[1] - self.paper_share

    @property
    def absolute(self) -> float | None:
        """Measured minus paper as they are; means something only on the same scale."""
        value = self.counts if self.counts is not None else self.measured.value if self.measured else None
        return None if value is None or self.paper is None else value - self.paper


@dataclass(frozen=True)
class ColumnLines:
    """A column with all of its rows.

    Attributes:
        column: The column.
        lines: The unerased model first; the paper's rows in its order, then rows that only claims need.
    """

    column: Column
    lines: tuple[Line, ...]

    @property
    def is_measured(self) -> bool:
        """Whether any row but the unerased model has a number."""
        return any(line.measured is not None for line in self.lines if line.row != ORIGINAL)


def side_by_side(measured: Measured) -> tuple[ColumnLines, ...]:
    """Every column of a table that the model's domain has, with every row that anybody has a number for."""
    shown = [c for c in measured.table.columns if not c.hidden and measured.domain in c.figure]
    return tuple(ColumnLines(column, _lines(measured, column)) for column in shown)


def _lines(measured: Measured, column: Column) -> tuple[Line, ...]:
    titles = {ORIGINAL: "Unerased model", **{row.name: row.title for row in measured.table.rows}}
    lines = (_line(measured, column, name, title) for name, title in titles.items())
    return tuple(line for line in lines if line.paper is not None or line.measured is not None)


def _line(measured: Measured, column: Column, row: str, title: str) -> Line:
    table, found = measured.table, series_of(measured, row, column)
    whole, start = scale_of(measured, column)
    return Line(
        row=row,
        title=f"{title}{marks(measured, row, column)}",
        paper=table.paper(row, column.name),
        slip=table.slip(row, column.name),
        measured=found,
        beside=series_of(measured, row, column, column.beside) if column.beside else None,
        paper_share=table.paper_share(row, column.name),
        share=_share(found.value, whole, start) if found else None,
        bounds=_bounds(found, whole, start),
        counts=found.value * found.N / len(found.by_seed) if found and column.counted else None,
    )


def scale_of(measured: Measured, column: Column) -> tuple[float | None, float | None]:
    """The unerased model's value that is 100 %, and what is subtracted from a value first.

    Of a difference such as H_a the change is taken, in percent of another column's value.
    """
    other = measured.table.column(column.scale) if column.scale else column
    whole, own = series_of(measured, ORIGINAL, other), series_of(measured, ORIGINAL, column)
    start = 0.0 if column.scale is None else own.value if own else None
    return (whole.value if whole and whole.value else None), start


def _share(value: float, whole: float | None, start: float | None) -> float | None:
    return None if whole is None or start is None else 100 * (value - start) / abs(whole)


def _bounds(found: Series | None, whole: float | None, start: float | None) -> Bounds | None:
    if found is None or found.low is None or found.high is None:
        return None
    low, high = _share(found.low, whole, start), _share(found.high, whole, start)
    return None if low is None or high is None else (low, high)


# Broken generators ----------------------------------------------------------------------------------------


def broken_trainings(measured: Measured, row: str, column: Column) -> tuple[int, int]:
    """How many of a row's erasures have a broken generator, and how many there are."""
    found = [result for each in trainings_of(measured, row, column) for result in each.results]
    verdicts = [result.result.verdict or {} for result in found]
    return sum(bool(each.get("collapsed") or each.get("destroyed")) for each in verdicts), len(found)


def trainings_of(measured: Measured, row: str, column: Column) -> list[Trainings]:
    """The trainings of a row on each of a column's concepts, as far as there are any."""
    domain = measured.table.domain(measured.domain)
    places = [(row, concept, column.variant) for part in column.part for concept in domain.concepts[part]]
    return [measured.rows[place] for place in places if place in measured.rows]


def marks(measured: Measured, row: str, column: Column) -> str:
    """† where generators of the row are broken, with how many where not all are."""
    broken, count = broken_trainings(measured, row, column) if row != ORIGINAL else (0, 0)
    return "" if not broken else " †" if broken == count else f" †{broken}/{count}"
