"""Paper and measured side by side: each number, in percent of the unerased model's, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.reproduction.series import Series, series_of
from zbench.reproduction.tables import ORIGINAL, Column

if TYPE_CHECKING:
    from zbench.report.trainings import Trainings
    from zbench.reproduction.reading import Measured, Place

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A column of a row.

    Attributes:
        row: Name of the row.
        title: Of the row.
        paper: The paper's number; slips corrected, and what it does not print taken from its other columns.
        printed: What the paper printed; None where it prints nothing.
        measured: What was measured; None where it was not.
        beside: The figure beside it, such as an attack's control.
        paper_share: The paper's number in percent of the unerased model's.
        share: The measured one likewise.
        bounds: 95 % interval of `share`; the unerased model's value is taken as it is.
        broken: Erasures with a broken generator.
        erasures: All erasures of the row, over trainings and concepts.
        planned: Trainings that it is to have.
        counted: Pictures of one training where the paper counts them and not their share; else None.
    """

    row: str
    title: str
    paper: float | None
    printed: float | None
    measured: Series | None
    beside: Series | None
    paper_share: float | None
    share: float | None
    bounds: Bounds | None
    broken: int = 0
    erasures: int = 0
    planned: int = 0
    counted: float | None = None

    @property
    def is_derived(self) -> bool:
        """Whether the paper's number follows from its other columns, and is not as printed."""
        return self.paper is not None and self.paper != self.printed

    @property
    def mark(self) -> str:
        """† where generators of the row are broken, with how many where not all are."""
        if not self.broken:
            return ""
        return "†" if self.broken == self.erasures else f"†{self.broken}/{self.erasures}"

    @property
    def trainings(self) -> int:
        """Trainings that were measured; 0 for what is never trained."""
        return len(self.measured.by_seed) if self.measured and self.measured.trained else 0

    @property
    def is_incomplete(self) -> bool:
        """Whether trainings are missing of what was measured."""
        return 0 < self.trainings < self.planned

    @property
    def counts(self) -> float | None:
        """Pictures that the measured share stands for, where the paper counts them."""
        return self._as_counted(self.measured.value if self.measured else None) if self.counted else None

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
        value = self._as_counted(self.measured.value if self.measured else None)
        return None if value is None or self.paper is None else value - self.paper

    @property
    def absolute_bounds(self) -> Bounds | None:
        """Its 95 % interval."""
        found, paper = self.measured, self.paper
        low, high = (self._as_counted(each) for each in ((found.low, found.high) if found else (None, None)))
        return None if low is None or high is None or paper is None else (low - paper, high - paper)

    def _as_counted(self, value: float | None) -> float | None:
        return value if value is None or self.counted is None else value * self.counted


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
    broken, erasures = broken_trainings(measured, row, column)
    return Line(
        row=row,
        title=title,
        paper=table.paper(row, column.name),
        printed=table.as_printed(row, column.name),
        measured=found,
        beside=series_of(measured, row, column, column.beside) if column.beside else None,
        paper_share=table.paper_share(row, column.name),
        share=_share(found.value, whole, start) if found else None,
        bounds=_bounds(found, whole, start),
        broken=0 if row == ORIGINAL else broken,
        erasures=0 if row == ORIGINAL else erasures,
        planned=min((measured.planned.get(place, 0) for place in _places(measured, row, column)), default=0),
        counted=found.N / len(found.by_seed) if found and column.counted else None,
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
    return [measured.rows[place] for place in _places(measured, row, column) if place in measured.rows]


def _places(measured: Measured, row: str, column: Column) -> list[Place]:
    domain = measured.table.domain(measured.domain)
    return [(row, concept, column.variant) for part in column.part for concept in domain.concepts[part]]
