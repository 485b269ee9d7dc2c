"""The comparison table: a pure function of results, rendered for terminal, Markdown and CSV.

Only deterministic figures stand in it; seconds and memory have a file of their own (`cost_csv`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zbench.report.rows import Row, Table, build_table
from zbench.report.terminal import blocks
from zbench.report.values import ARROWS, TITLES, shown_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.runner.specs import CellResult

__all__ = [
    "Row",
    "Table",
    "build_table",
    "cost_csv",
    "csv_cell",
    "csv_text",
    "notes",
    "render_csv",
    "render_markdown",
    "render_rich",
    "shown_value",
    "title",
]

_CSV_PARTS = ("value", "n", "N", "effective_N", "low", "high", "p_value", "p_holm")
_COSTS = (
    "seconds",
    "peak_memory_bytes",
    "forwards",
    "backwards",
    "recomputations",
    "steps",
    "evaluations_per_step",
)


# Readable forms -------------------------------------------------------------------------------------------


def title(name: str, table: Table) -> str:
    """Title of a column with its unit and the arrow of the better direction."""
    figure = next(row.figures[name] for row in table.rows if name in row.figures)
    unit = ", %" if figure["unit"] == "rate" else ""
    return f"{TITLES.get(name, name)}{unit} {ARROWS[figure['direction']]}".strip()


def notes(table: Table) -> list[str]:
    """Lines under the table: what the marks mean, and why something is missing."""
    figures = [figure for row in table.rows for figure in row.figures.values()]
    lines = ["Brackets: 95 % intervals."]
    if any(figure.get("p_holm") is not None for figure in figures):
        lines.append(
            "* differs from original, ns does not: exact paired test, Holm-corrected over rows, 5 %."
        )
    lines.extend(line for line, holds in _legend(table) if holds)
    shown = [(name, row.figures[name]) for row in table.rows for name in table.wanted if name in row.figures]
    lines.extend(sorted({f"{name}: {figure['note']}" for name, figure in shown if figure["value"] is None}))
    lines.extend(f"{row.label}: {row.status} ({row.remark})" for row in table.rows if row.status != "done")
    return lines


def _legend(table: Table) -> Iterator[tuple[str, bool]]:
    """What each mark means, and whether it occurs."""
    shown = [row.figures[name] for row in table.rows for name in table.shown if name in row.figures]
    yield (
        "† collapsed: surely more than 5 % of the pictures of unrelated prompts are broken; ranked last.",
        any(row.collapsed for row in table.rows),
    )
    yield (
        "‡ destroyed: unrelated objects at most 5 points above chance; ranked last.",
        any(row.destroyed for row in table.rows),
    )
    yield "= not surely worse than the best row of its column.", any(f.get("tied") for f in shown)
    yield (
        "n/N ~ M: N pictures that share prompts are worth M independent ones.",
        any(f.get("effective_N") is not None for f in shown),
    )
    yield (
        "corrected: for the detector's errors, counted on pictures of this kind (see the record).",
        any("corrected" in f for f in shown),
    )


def _cells(table: Table, row: Row) -> list[str]:
    return [row.label, *(shown_value(row.figures.get(name)) for name in table.shown)]


def render_markdown(table: Table) -> str:
    """The table as Markdown, byte-stable."""
    titles = ["Method", *(title(name, table) for name in table.shown)]
    lines = [*(f"- {line}" for line in table.header), ""]
    lines += ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    rows = [[cell.replace("|", "\\|") for cell in _cells(table, row)] for row in table.rows]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"{line}  " for line in notes(table))]).rstrip() + "\n"


def render_rich(table: Table, hints: Sequence[str] = (), width: int = 120) -> RenderableType:
    """The table for a terminal; where it is too wide, its columns stand in several blocks.

    Args:
        table: What to show.
        hints: More header lines that hold for this machine only.
        width: Columns of the terminal.
    """
    from rich.console import Group
    from rich.text import Text

    header = [Text(line) for line in (*table.header, *hints)]
    labels = ["Method", *(row.label for row in table.rows)]
    columns = [_title_and_cells(table, name) for name in table.shown]
    drawn = blocks(labels, columns, [row.broken for row in table.rows], width)
    return Group(*header, *drawn, *(Text(line, "dim") for line in notes(table)))


def _title_and_cells(table: Table, name: str) -> list[str]:
    title_lines = title(name, table).replace(", ", "\n")
    return [title_lines, *(shown_value(row.figures.get(name), "\n") for row in table.rows)]


# Forms for machines ---------------------------------------------------------------------------------------


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def csv_cell(value: Any) -> str:
    """Ten digits: more than any figure has, fewer than the last bits in which two machines may differ."""
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def render_csv(table: Table) -> str:
    """All figures with n, N, interval and p-values; deterministic."""
    names = table.figure_names
    head = ["method", "training_seed", "status", "collapsed", "destroyed"]
    head += [name if part == "value" else f"{name}_{part}" for name in names for part in _CSV_PARTS]
    lines: list[list[Any]] = [head]
    for row in table.rows:
        broken = [str(row.collapsed).lower(), str(row.destroyed).lower()]
        start = [row.method, csv_cell(row.training_seed), row.status, *broken]
        values = [csv_cell(row.figures.get(name, {}).get(part)) for name in names for part in _CSV_PARTS]
        lines.append(start + values)
    return csv_text(lines)


def cost_csv(cells: Iterable[CellResult]) -> str:
    """What each erasure took and how long the stages ran; different on every machine."""
    cells = list(cells)
    stages = sorted({stage for cell in cells for stage in cell.seconds})
    lines: list[list[Any]] = [
        ["method", "training_seed", *_COSTS, *(f"stage_seconds {stage}" for stage in stages)]
    ]
    for cell in cells:
        costs = [csv_cell((cell.cost or {}).get(name)) for name in _COSTS]
        seconds = [csv_cell(cell.seconds.get(stage)) for stage in stages]
        lines.append([cell.spec.method, csv_cell(cell.spec.training_seed), *costs, *seconds])
    return csv_text(lines)
