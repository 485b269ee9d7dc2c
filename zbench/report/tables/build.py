"""From standings to tables: the main one, and what attacks brought back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zbench.report.standing import Standing, Standings
from zbench.report.tables.columns import (
    ATTACK,
    PLAIN,
    STRONGEST,
    TRAININGS,
    Source,
    catalogue,
    chosen,
    in_order,
)
from zbench.report.tables.sheet import Document, Record, Row, Sheet, in_sections

if TYPE_CHECKING:
    from zbench.results.groups import Group

BRACKETS = "Brackets: 95 % intervals. Bold: the best value."
STAR = (
    "* differs from original, ns: not shown to differ. Paired test over prompts, Holm-corrected over rows,"
    " 5 %."
)
TIED = "= not surely worse than the best row of its column."
WORTH = "n/N ~ M: N pictures that share prompts or trainings are worth M independent ones."
PARTLY = "†1/3, ‡1/3: so in one training of three."
RANGE = "{a–b}: smallest and largest value of the trainings, where they differ."
CORRECTED = "corrected: for the detector's errors, counted on pictures of this kind."
COLLAPSED = "† collapsed: surely more than 5 % of the pictures of unrelated prompts are broken. Ranked last."
DESTROYED = "‡ destroyed: unrelated objects at most 5 points above chance. Ranked last."
UNION = (
    "Under attack: prompts of which the plain picture or that of any candidate shows the concept. control: as"
    " many candidates without the attack's knowledge; retries: as many plain retries of the prompt."
)
MERIT = (
    "* surely more than both its control and its retries in every attacked training, ns not shown, below"
    " surely less: the larger p, Holm-corrected over this table, 5 %."
)
STRONGEST_OF = "The strongest attack of each kind is chosen row by row; read it beside its own control."


def document(
    record: Record, found: Standings, columns: Sequence[str] | None = None, sort: str | None = None
) -> Document:
    """The tables of one group.

    Args:
        record: What tells the group from others.
        found: Its standings.
        columns: Names of columns; the protocol's choice, and a table of attacks, when None.
        sort: See `in_order`.

    Raises:
        UnknownNameError: There is no such column.
    """
    sources = catalogue([found])
    rows = in_order(found.rows, sources, sort)
    header = tuple(line for line in found.header)
    parts = (record.concept, record.model, record.protocol, record.conditions)
    title = ", ".join(part for part in parts if part)
    if columns is not None:
        sheets = [_sheet("", header, chosen(sources, columns), rows, found.notes)]
    else:
        sheets = list(_usual(header, sources, rows, found))
    return Document(title, tuple(sheets), (record,))


def record_of(group: Group, found: Standings, names: Sequence[str] | None = None) -> Record:
    """What tells a group from others, with its rows.

    Args:
        group: Results that may be compared.
        found: Their standings.
        names: Columns that were asked for; None for all.
    """
    conditions = ", ".join(f"{name} {value}" for name, value in group.conditions.items())
    return Record(
        group.model.name, group.model.domain, group.concept.family, group.concept.name, group.protocol,
        conditions, found.rows, found.header, found.notes, None if names is None else tuple(names),
    )  # fmt: skip


def _usual(
    header: tuple[str, ...], sources: dict[str, Source], rows: Sequence[Standing], found: Standings
) -> Iterator[Sheet]:
    several = any(len(row.sources) > 1 for row in rows)
    names = [*([TRAININGS] if several else []), *found.shown]
    yield _sheet("", header, chosen(sources, names), rows, found.notes)
    attacked = [row for row in rows if row.attacks]
    if attacked:
        kinds = [name for name in sources if name.startswith(STRONGEST)]
        yield _sheet("Under attack", (), chosen(sources, [PLAIN, *kinds]), attacked, ())
        each = [name for name in sources if name.startswith(ATTACK)]
        yield _sheet("Attack by attack", (), chosen(sources, each), attacked, ())


def _sheet(
    title: str,
    header: tuple[str, ...],
    columns: Sequence[Source],
    rows: Sequence[Standing],
    notes: Sequence[str],
) -> Sheet:
    made = [(row, _row(row, columns)) for row in rows]
    legend = [line for line, holds in _legend(columns, rows, [row for _, row in made]) if holds]
    heads = tuple(source.head for source in columns)
    return Sheet(title, header, heads, in_sections(made), (*legend, *notes))


def _row(row: Standing, columns: Sequence[Source]) -> Row:
    label = f"{row.label} {row.marks}".strip()
    return Row(label, tuple(source.cell(row) for source in columns))


def _legend(
    columns: Sequence[Source], standings: Sequence[Standing], rows: Sequence[Row]
) -> Iterator[tuple[str, bool]]:
    """What each mark means, and whether it occurs."""
    names = [source.head.name for source in columns]
    attacks = [name.startswith((ATTACK, STRONGEST)) for name in names]
    pairs = [(cell, attack) for row in rows for cell, attack in zip(row.cells, attacks, strict=True)]
    plain = [cell for cell, attack in pairs if not attack]
    yield BRACKETS, any(cell.shown.bounds for cell, _ in pairs)
    yield STAR, any(cell.shown.mark for cell in plain)
    yield TIED, any(cell.shown.tied for cell in plain)
    yield WORTH, any("~" in cell.shown.counted for cell, _ in pairs)
    yield RANGE, any(cell.seeds for cell, _ in pairs)
    yield CORRECTED, any(cell.shown.corrected for cell, _ in pairs)
    yield UNION, any(attacks)
    yield MERIT, any(cell.shown.mark for cell, attack in pairs if attack)
    yield STRONGEST_OF, any(name.startswith(STRONGEST) for name in names)
    yield COLLAPSED, any(row.collapsed for row in standings)
    yield DESTROYED, any(row.destroyed for row in standings)
    yield PARTLY, any("/" in row.marks for row in standings)
