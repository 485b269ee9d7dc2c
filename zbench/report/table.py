"""The comparison table: a pure function of results, rendered for terminal, Markdown and CSV.

Only deterministic figures stand in it; seconds and memory have a file of their own (`cost_csv`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zbench.config import ORIGINAL
from zbench.statistics import holm

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.runner.specs import CellResult

COLLAPSED_FROM = 0.05
"""A row is marked as collapsed where the lower bound of its collapse rate lies above this."""

TITLES = {
    "asr_explicit": "Found, explicit",
    "asr_implicit": "Found, implicit",
    "clip_score": "CLIP score",
    "fid": "FID",
    "kid": "KID",
    "object_accuracy": "Objects",
    "distance_to_original": "Distance",
    "collapse_rate": "Collapsed",
}
"""Figures that a person reads, in order, with their titles; the CSV has all of them."""

_ARROWS = {"lower": "↓", "higher": "↑", "none": ""}
_CSV_PARTS = ("value", "n", "N", "low", "high", "p_value", "p_holm")
_COSTS = (
    "seconds",
    "peak_memory_bytes",
    "forwards",
    "backwards",
    "recomputations",
    "steps",
    "evaluations_per_step",
)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        method: Name of the method.
        training_seed: None for `original`.
        status: Of its cell: `done`, `skipped`, `failed`.
        figures: Name -> figure, with `p_holm` added.
        collapsed: Whether too many pictures look like no picture of the unerased model.
        remark: Why a row has no figures.
    """

    method: str
    training_seed: int | None
    status: str
    figures: dict[str, dict[str, Any]]
    collapsed: bool = False
    remark: str = ""

    @property
    def label(self) -> str:
        """Name with seed, and the mark of a collapsed row."""
        seed = "" if self.training_seed is None else f" (seed {self.training_seed})"
        return f"{self.method}{seed}{' †' if self.collapsed else ''}"

    @property
    def rank(self) -> int:
        """`original` first, broken rows last."""
        if self.method == ORIGINAL:
            return 0
        return 3 if self.collapsed else {"done": 1}.get(self.status, 2)


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        header: Lines that name model, protocol, prompts, repetitions and training seeds.
        rows: In the order in which they are shown.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def figure_names(self) -> list[str]:
        """All figures that any row has, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))

    @property
    def shown(self) -> list[str]:
        """The figures of the readable table."""
        return [name for name in TITLES if name in self.figure_names]


def build_table(cells: Iterable[CellResult], header: Sequence[str]) -> Table:
    """Orders results, corrects p-values over the methods (Holm) and marks collapsed rows.

    Args:
        cells: Results of one run.
        header: See `Table`.
    """
    rows = _corrected([_row(cell) for cell in cells])
    return Table(tuple(header), tuple(sorted(rows, key=lambda row: row.rank)))


def _row(cell: CellResult) -> Row:
    figures = {figure["name"]: dict(figure) for figure in cell.figures}
    low = figures.get("collapse_rate", {}).get("low")
    remark = (cell.error or "").strip().splitlines()[-1:] or [""]
    return Row(
        method=cell.spec.method,
        training_seed=cell.spec.training_seed,
        status=cell.status,
        figures=figures,
        collapsed=low is not None and low > COLLAPSED_FROM and not cell.spec.is_original,
        remark=remark[0],
    )


def _corrected(rows: list[Row]) -> list[Row]:
    """Adds `p_holm`: each figure's paired tests against `original`, corrected over all rows that have one."""
    figures = [dict(row.figures) for row in rows]
    for name in {name for each in figures for name in each}:
        tested = [each for each in figures if each.get(name, {}).get("p_value") is not None]
        for each, p_holm in zip(tested, holm([each[name]["p_value"] for each in tested]), strict=True):
            each[name] = {**each[name], "p_holm": p_holm}
    return [replace(row, figures=each) for row, each in zip(rows, figures, strict=True)]


# Readable forms -------------------------------------------------------------------------------------------


def title(name: str, table: Table) -> str:
    """Title of a column with its unit and the arrow of the better direction."""
    figure = next(row.figures[name] for row in table.rows if name in row.figures)
    unit = ", %" if figure["unit"] == "rate" else ""
    return f"{TITLES.get(name, name)}{unit} {_ARROWS[figure['direction']]}".strip()


def shown_value(figure: dict[str, Any] | None, between: str = " ") -> str:
    """A figure as a person reads it: `30.0 (12/40) * [18.1, 45.4]` for rates, four digits otherwise.

    Args:
        figure: As plain data; None gives a dash.
        between: What stands before the interval.
    """
    if figure is None or figure["value"] is None:
        return "–"
    scale = 100 if figure["unit"] == "rate" else 1
    low, high = figure["low"], figure["high"]
    bounds = "" if low is None else f"{between}[{scale * low:.3g}, {scale * high:.3g}]"
    if figure["unit"] == "rate":
        return f"{scale * figure['value']:.1f} ({figure['n']}/{figure['N']}){_stars(figure)}{bounds}"
    return f"{figure['value']:.4g}{bounds}"


def _stars(figure: dict[str, Any]) -> str:
    p_holm = figure.get("p_holm")
    return "" if p_holm is None else (" *" if p_holm < 0.05 else " ns")


def notes(table: Table) -> list[str]:
    """Lines under the table: what the marks mean, and why something is missing."""
    figures = [figure for row in table.rows for figure in row.figures.values()]
    lines = ["Brackets: 95 % intervals."]
    if any(figure.get("p_holm") is not None for figure in figures):
        lines.append(
            "* differs from original, ns does not: exact paired test, Holm-corrected over rows, 5 %."
        )
    if any(row.collapsed for row in table.rows):
        lines.append(
            f"† collapsed: surely more than {100 * COLLAPSED_FROM:.0f} % of its pictures are broken."
        )
    shown = [(name, row.figures[name]) for row in table.rows for name in table.shown if name in row.figures]
    lines.extend(sorted({f"{name}: {figure['note']}" for name, figure in shown if figure["value"] is None}))
    lines.extend(f"{row.label}: {row.status} ({row.remark})" for row in table.rows if row.status != "done")
    return lines


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
    blocks = [_block(table, names) for names in _fitting(table, width)]
    return Group(*header, *blocks, *(Text(line, "dim") for line in notes(table)))


def _title_and_cells(table: Table, name: str) -> list[str]:
    title_lines = title(name, table).replace(", ", "\n")
    return [title_lines, *(shown_value(row.figures.get(name), "\n") for row in table.rows)]


def _fitting(table: Table, width: int) -> list[list[str]]:
    """The shown figures in groups that fit beside the methods' names."""
    frame = 3
    labels = max(len(label) for label in ("Method", *(row.label for row in table.rows))) + frame + 1
    groups: list[list[str]] = [[]]
    used = labels
    for name in table.shown:
        lines = [line for cell in _title_and_cells(table, name) for line in cell.splitlines()]
        needed = max(map(len, lines)) + frame
        if groups[-1] and used + needed > width:
            groups.append([])
            used = labels
        groups[-1].append(name)
        used += needed
    return groups


def _block(table: Table, names: Sequence[str]) -> RenderableType:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable()
    drawn.add_column("Method", no_wrap=True)
    columns = [_title_and_cells(table, name) for name in names]
    for heading, *_ in columns:
        drawn.add_column(Text(heading), justify="right", no_wrap=True)
    for position, row in enumerate(table.rows, start=1):
        cells = [Text(column[position]) for column in columns]
        drawn.add_row(Text(row.label), *cells, style="dim" if row.collapsed else "")
    return drawn


# Forms for machines ---------------------------------------------------------------------------------------


def _csv_text(lines: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _csv_cell(value: Any) -> str:
    """Ten digits: more than any figure has, fewer than the last bits in which two machines may differ."""
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def render_csv(table: Table) -> str:
    """All figures with n, N, interval and p-values; deterministic."""
    names = table.figure_names
    head = ["method", "training_seed", "status", "collapsed"]
    head += [name if part == "value" else f"{name}_{part}" for name in names for part in _CSV_PARTS]
    lines: list[list[Any]] = [head]
    for row in table.rows:
        start = [row.method, _csv_cell(row.training_seed), row.status, str(row.collapsed).lower()]
        values = [_csv_cell(row.figures.get(name, {}).get(part)) for name in names for part in _CSV_PARTS]
        lines.append(start + values)
    return _csv_text(lines)


def cost_csv(cells: Iterable[CellResult]) -> str:
    """What each erasure took and how long the stages ran; different on every machine."""
    cells = list(cells)
    stages = list(dict.fromkeys(stage for cell in cells for stage in cell.seconds))
    lines: list[list[Any]] = [
        ["method", "training_seed", *_COSTS, *(f"stage_seconds {stage}" for stage in stages)]
    ]
    for cell in cells:
        costs = [_csv_cell((cell.cost or {}).get(name)) for name in _COSTS]
        seconds = [_csv_cell(cell.seconds.get(stage)) for stage in stages]
        lines.append([cell.spec.method, _csv_cell(cell.spec.training_seed), *costs, *seconds])
    return _csv_text(lines)
