"""The reproduction as text for a terminal, Markdown, CSV and JSON; equal results give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zbench.report.table import csv_cell, csv_text
from zbench.reproduction.side_by_side import side_by_side

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.reproduction.claims import Answer, Finding
    from zbench.reproduction.pages import Section
    from zbench.reproduction.reading import Measured
    from zbench.reproduction.side_by_side import Line


def render_markdown(pages: Iterable[Sequence[Section]]) -> str:
    """Pages one after the other, each under a heading of the first level."""
    return "\n\n".join(_page(page) for page in pages) + "\n"


def _page(page: Sequence[Section]) -> str:
    return "\n\n".join(_markdown(section, 1 if place == 0 else 2) for place, section in enumerate(page))


def _markdown(section: Section, level: int) -> str:
    parts = [f"{'#' * level} {section.heading}", _list(section.lines)]
    if section.columns:
        lines = [section.columns, ("---",) * len(section.columns), *section.rows]
        parts.append("\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines))
    return "\n\n".join(part for part in [*parts, _list(section.notes)] if part)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def render_rich(pages: Iterable[Sequence[Section]]) -> RenderableType:
    """The same for a terminal."""
    from rich.console import Group

    return Group(*(each for page in pages for section in page for each in _rich(section)))


def _rich(section: Section) -> Iterable[RenderableType]:
    from rich.table import Column, Table
    from rich.text import Text

    yield Text(f"\n{section.heading}", "bold")
    yield from (Text(line) for line in section.lines)
    if section.columns:
        table = Table(*(Column(Text(title)) for title in section.columns))
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        yield table
    yield from (Text(line, "dim") for line in section.notes)


# For machines -----------------------------------------------------------------------------------------------


def table_records(measured: Measured) -> list[dict[str, Any]]:
    """One record for each row and column of a table."""
    same = {"table": measured.table.name, "model": measured.model}
    return [
        {**same, "column": each.column.name, **_line(line)}
        for each in side_by_side(measured)
        for line in each.lines
    ]


def _line(line: Line) -> dict[str, Any]:
    found, bounds, difference = (
        line.measured,
        line.bounds or (None, None),
        line.difference_bounds or (None, None),
    )
    return {
        "row": line.row,
        "paper": line.paper,
        "printed": line.printed,
        "measured": found.value if found else None,
        "n": found.n if found else None,
        "N": found.N if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "trainings": line.trainings,
        "trainings_planned": line.planned,
        "erasures": line.erasures,
        "broken": line.broken,
        "control": line.beside.value if line.beside else None,
        "paper_percent": line.paper_share,
        "measured_percent": line.share,
        "measured_percent_low": bounds[0],
        "measured_percent_high": bounds[1],
        "difference": line.difference,
        "difference_low": difference[0],
        "difference_high": difference[1],
    }


def claim_records(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """One record for each comparison of each claim."""
    return [
        {
            "claim": each.claim.id,
            "sentence": each.claim.sentence,
            "where": each.claim.where,
            "verdict": each.verdict,
            **_finding(finding),
        }
        for each in answers
        for finding in each.findings
    ]


def _finding(found: Finding) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {
        "comparison": found.subject,
        "comparison_verdict": found.verdict,
        "paper": found.paper,
        "difference": found.effect.value if found.effect else None,
        "low": low,
        "high": high,
        "bound": found.bound,
        "p_value": found.effect.p_value if found.effect else None,
        "test": found.effect.test if found.effect else None,
        "reason": found.reason,
        "remark": found.remark,
    }


def render_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records of one kind as CSV."""
    head = list(records[0]) if records else []
    return csv_text([head, *([csv_cell(record[name]) for name in head] for record in records)])


def render_json(records: Any) -> str:
    """Records as JSON, numbers with ten digits."""
    return json.dumps(_rounded(records), indent=2, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(csv_cell(value))
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
