"""What the paper printed, below what was measured: rows of another model, set apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from zbench.report.tables.sheet import Cell, Document, Record, Row, Section, Sheet
from zbench.reproduction.tables import SOURCE, TABLES, Column, PaperTable, load_table


def with_paper(made: Document) -> Document:
    """The tables of a group with the paper's rows below the main one, where its numbers have the same scale.

    Args:
        made: Tables of one group.
    """
    record, (main, *others) = made.data[0], made.sheets
    tables = [load_table(name) for name in TABLES]
    sections = tuple(section for table in tables for section in _sections(table, record, main))
    note = (
        f"The paper's rows: as printed in {SOURCE}; other prompts, seeds and code, without intervals."
        if sections
        else "The paper's numbers have another scale than these: `zbench reproduce` puts them side by side."
    )
    whole = replace(main, sections=(*main.sections, *sections), notes=(*main.notes, note))
    return replace(made, sheets=(whole, *others))


def _sections(table: PaperTable, record: Record, main: Sheet) -> Iterator[Section]:
    domain = table.domains.get(record.domain)
    if domain is None or not domain.same_scale:
        return
    parts = {part for part, concepts in domain.concepts.items() if record.concept in concepts}
    columns = [_printed(table, column.name, record.domain, parts) for column in main.columns]
    if any(columns):
        rows = tuple(
            Row(row.title, tuple(_cells(table, row.name, columns))) for row in table.rows if row.paper
        )
        yield Section(rows, f"The paper's table “{table.title}”", pale=True)


def _printed(table: PaperTable, figure: str, domain: str, parts: set[str]) -> Column | None:
    """The paper's column of a figure, where it is printed as it is measured."""
    fitting = (
        column
        for column in table.columns
        if column.figure.get(domain) == figure and set(column.part) <= parts and not column.counted
    )
    return next((column for column in fitting if not column.hidden and not column.paper_mean), None)


def _cells(table: PaperTable, row: str, columns: Sequence[Column | None]) -> Iterator[Cell]:
    for column in columns:
        value = None if column is None else table.paper(row, column.name)
        yield Cell.of_text("" if value is None else f"{value:g}")
