"""A table before it has a form: columns, rows in sections, and lines over and under it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from zbench.report.values import ARROWS, EMPTY, Shown

if TYPE_CHECKING:
    from zbench.report.standing import Standing


@dataclass(frozen=True)
class Cell:
    """What stands in a column of a row.

    Attributes:
        shown: The figure, or a text in its place.
        best: Whether it is printed in bold.
        seeds: Smallest and largest value of the trainings; empty where there is one.
        beside: What must be read with it, such as the control of an attack.
    """

    shown: Shown
    best: bool = False
    seeds: str = ""
    beside: tuple[str, ...] = ()

    @classmethod
    def of_text(cls, text: str) -> Cell:
        """A cell without a figure; a dash for no text."""
        return cls(Shown(text or EMPTY))

    @property
    def details(self) -> list[str]:
        """Everything after the number, each part apart."""
        shown = self.shown
        parts = [
            f"({shown.counted})" if shown.counted else "",
            " ".join(mark for mark in (shown.mark, "=" if shown.tied else "") if mark),
            f"corrected {shown.corrected}" if shown.corrected else "",
            shown.bounds,
            f"{{{self.seeds}}}" if self.seeds else "",
            *self.beside,
        ]
        return [part for part in parts if part]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: As `--columns` takes it.
        title: As a person reads it.
        unit: Such as ``%``; empty where there is none.
        direction: Which way is better: ``lower``, ``higher`` or ``none``.
    """

    name: str
    title: str
    unit: str = ""
    direction: str = "none"

    @property
    def heading(self) -> str:
        """Title, unit and the arrow of the better way."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit} {ARROWS[self.direction]}".strip()


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        label: What it is called, with its marks.
        cells: One for each column.
    """

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Rows that stand together.

    Attributes:
        rows: The rows.
        title: What sets them apart; empty where a rule says enough.
        pale: Whether they take no part in the comparison.
    """

    rows: tuple[Row, ...]
    title: str = ""
    pale: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: Heading; empty for the first table of several.
        header: Lines over it.
        columns: Without that of the labels.
        sections: Rows.
        notes: Lines under it.
        label: Title of the column of labels.
    """

    title: str
    header: tuple[str, ...]
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    label: str = "Method"

    @property
    def rows(self) -> Iterator[Row]:
        """All rows."""
        return (row for section in self.sections for row in section.rows)


def said_once(sheets: Iterable[Sheet]) -> Iterator[Sheet]:
    """The sheets of one page: what stands under one is not repeated under the next.

    Args:
        sheets: In the order of the page.
    """
    said: set[str] = set()
    for sheet in sheets:
        yield replace(sheet, notes=tuple(line for line in sheet.notes if line not in said))
        said.update(sheet.notes)


@dataclass(frozen=True)
class Document:
    """Tables that belong together: those of one group.

    Attributes:
        title: Heading.
        sheets: The tables, the main one first.
        data: What the tables were made of, for forms that machines read.
    """

    title: str
    sheets: tuple[Sheet, ...]
    data: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Record:
    """The rows of one group with what tells the group from others.

    Attributes:
        model: Name of the model.
        domain: What the model's pictures show; empty where nobody says.
        family: Of the concept.
        concept: Name of the concept.
        protocol: Its label.
        conditions: What was asked for instead of the protocol's own choice, in words.
        rows: The rows.
        header: Lines over the table.
        notes: Lines under it.
        names: Figures and attacks that were asked for; None for all.
    """

    model: str
    domain: str
    family: str
    concept: str
    protocol: str
    conditions: str
    rows: tuple[Standing, ...] = field(repr=False)
    header: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


def in_sections(rows: Sequence[tuple[Standing, Row]]) -> tuple[Section, ...]:
    """Rows by rank: the original apart, then the ranked ones, those without figures, broken ones last.

    Args:
        rows: Standings with their rows, in order.
    """
    titles = {0: "", 1: "", 2: "Without figures", 3: "Broken, ranked last"}
    ranks = {rank: tuple(row for standing, row in rows if standing.rank == rank) for rank in titles}
    return tuple(Section(found, titles[rank], pale=rank == 3) for rank, found in ranks.items() if found)
