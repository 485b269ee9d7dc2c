"""Tables over several concepts: a method down, a concept across, the leading figure in the cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.measuring import Setting, setting_of
from zbench.report.standing_words import TRAININGS_AGREE
from zbench.report.tables.build import BRACKETS, RANGE, STAR, TIED, WORTH
from zbench.report.tables.columns import figure_cell, figure_heading
from zbench.report.tables.sheet import Cell, Column, Document, Row, Section, Sheet
from zbench.report.values import EMPTY, WORLD_NOTE

if TYPE_CHECKING:
    from zbench.report.standing import Standings
    from zbench.results.groups import Group

_BROKEN = "† collapsed, ‡ destroyed with this concept: no success, and never the best."


@dataclass(frozen=True)
class EntryRow:
    """A row of a group, as an overview shows it.

    Attributes:
        label: What it is called.
        method: Name of the method.
        rank: See `Standing.rank`.
        marks: † and ‡.
        cell: Its leading figure.
    """

    label: str
    method: str
    rank: int
    marks: str
    cell: Cell


@dataclass(frozen=True)
class Entry:
    """A group, as tables over several groups show it.

    Attributes:
        model: Name of the model.
        model_label: Name with revision.
        domain: What its pictures show.
        family: Of the concept.
        concept: Name of the concept.
        protocol: Label of the protocol.
        slug: Protocol and conditions as a name for files.
        setting: What was measured with.
        place: Of the group's tables below the folder of tables, without suffix.
        results: Result files behind it.
        column: The leading figure; None where nothing was measured.
        by_trainings: Whether rows differ from the original only where their trainings do, too.
        rows: In the order of the group's table.
    """

    model: str
    model_label: str
    domain: str
    family: str
    concept: str
    protocol: str
    slug: str
    setting: Setting
    place: str
    results: int
    column: Column | None
    by_trainings: bool
    rows: tuple[EntryRow, ...]

    @property
    def methods(self) -> int:
        """Methods besides the original."""
        return len({row.method for row in self.rows if row.rank})


def entry_of(group: Group, found: Standings, place: str) -> Entry:
    """What an overview needs of a group.

    Args:
        group: Results that may be compared.
        found: Their standings.
        place: Of the group's tables, without suffix.
    """
    main = found.main
    rows = tuple(
        EntryRow(row.label, row.method, row.rank, row.marks, figure_cell(row.figures.get(main or "")))
        for row in found.rows
    )
    leading = [row.figures[main] for row in found.rows if main in row.figures] if main else []
    column = figure_heading(leading[0].name, leading[0]) if leading else None
    by_trainings = any(figure.trainings_agree is not None for figure in leading)
    model, concept = group.model, group.concept
    return Entry(
        model.name, model.label, model.domain, concept.family, concept.name, group.protocol, group.slug,
        setting_of(group), place, len(group.results), column, by_trainings, rows,
    )  # fmt: skip


def family_document(entries: Sequence[Entry], setting: str = "") -> Document:
    """The table of a family.

    Args:
        entries: Groups of one model, family, protocol, conditions and setting.
        setting: What tells it from tables of the same family that were measured otherwise.
    """
    first = entries[0]
    title = ", ".join([first.family, first.model, first.slug, *([setting] if setting else [])])
    header = [f"Family {first.family}, model {first.model_label}", f"Protocol {first.protocol}"]
    header += [WORLD_NOTE] if first.domain == "world" else []
    columns = tuple(_column(entry) for entry in entries)
    sections = tuple(_sections(entries))
    by_trainings = any(entry.by_trainings for entry in entries)
    notes = tuple(line for line, holds in _legend(sections, by_trainings) if holds)
    return Document(title, (Sheet("", tuple(header), columns, sections, notes),))


def _column(entry: Entry) -> Column:
    if entry.column is None:
        return Column(entry.concept, entry.concept)
    title = f"{entry.concept}: {entry.column.title.replace(',', '')}"
    return Column(entry.concept, title, entry.column.unit, entry.column.direction)


def _sections(entries: Sequence[Entry]) -> Iterator[Section]:
    """The original, then the methods by name."""
    labels = sorted({(row.rank > 0, row.label) for entry in entries for row in entry.rows})
    cells = [{row.label: _cell(row) for row in entry.rows} for entry in entries]
    empty = Cell.of_text(EMPTY)
    for apart in (False, True):
        rows = tuple(
            Row(label, tuple(of.get(label, empty) for of in cells))
            for is_method, label in labels
            if is_method == apart
        )
        if rows:
            yield Section(rows)


def _cell(row: EntryRow) -> Cell:
    """The leading figure, with the marks of a generator that is broken here."""
    if not row.marks:
        return row.cell
    return Cell(row.cell.shown, row.cell.best, row.cell.seeds, (*row.cell.beside, row.marks))


def _legend(sections: Iterable[Section], by_trainings: bool) -> Iterator[tuple[str, bool]]:
    cells = [cell for section in sections for row in section.rows for cell in row.cells]
    yield BRACKETS, any(cell.shown.bounds for cell in cells)
    yield STAR, any(cell.shown.mark for cell in cells)
    yield TRAININGS_AGREE, by_trainings
    yield TIED, any(cell.shown.tied for cell in cells)
    yield WORTH, any("~" in cell.shown.counted for cell in cells)
    yield RANGE, any(cell.seeds for cell in cells)
    yield _BROKEN, any(cell.beside for cell in cells)
