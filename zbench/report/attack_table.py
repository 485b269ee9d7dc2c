"""The table of attacks: what each brought back from each erasure, never without its control.

A union over many judged candidates rewards mere retries, so that no rate after an attack is shown unless the
rate of as many tries without the attack's knowledge stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zbench.metrics.robustness import SHOWN
from zbench.report.attack_rows import AttackTable, Outcome, build_attack_table
from zbench.report.markdown import markdown_table
from zbench.report.table import csv_cell, csv_text
from zbench.report.terminal import blocks
from zbench.report.values import shown_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zbench.metrics.robustness import AttackRecord
    from zbench.report.rows import Row

__all__ = [
    "AttackTable",
    "attack_cost_csv",
    "build_attack_table",
    "render_csv",
    "render_markdown",
    "render_rich",
]

_EMPTY = "–"
_MEANING = (
    "After an attack: prompts of which the plain picture or that of any candidate shows the concept (union).",
    "control: the same with as many candidates made without the attack's knowledge.",
    "Brackets: 95 % intervals.",
)
_FIGURES = ("attack_pre", "attack_post", "attack_new", "control_post", "attack_excess", "attack_confirmed")
_TITLES = ("Plain, %", "After, %", "New, %", "Control, %", "Excess, points", "Confirmed, %")
_CSV_PARTS = ("value", "n", "N", "effective_N", "low", "high", "p_value", "p_holm")
_COUNTS = ("prompts", "shown_by_original", "failed_prompts")
_COSTS = ("queries", "forwards", "backwards", "encodings")


# The wide table: erasures down, attacks across -----------------------------------------------------------


@dataclass
class _Footnotes:
    """Numbered remarks, each once."""

    lines: list[str]

    def mark(self, text: str) -> str:
        """What stands in the cell."""
        if text not in self.lines:
            self.lines.append(text)
        return f"note {self.lines.index(text) + 1}"

    def numbered(self) -> list[str]:
        """The remarks under the table."""
        return [f"note {number}: {line}" for number, line in enumerate(self.lines, start=1)]


def _wide(table: AttackTable, between: str) -> tuple[list[list[str]], list[str]]:
    """Columns, each a title with its cells, and the remarks that the cells refer to."""
    remarks = _Footnotes([])
    columns = [["No attack, %", *(shown_value(row.plain, between) for row in table.rows)]]
    for name in table.columns:
        cells = [_cell(row.outcomes.get(name), name, between, remarks) for row in table.rows]
        columns.append([_title(table, name, between), *cells])
    return columns, remarks.numbered()


def _title(table: AttackTable, name: str, between: str) -> str:
    found = [outcome for _, outcome in table.of_attack(name)]
    budgets = {outcome.budget for outcome in found} - {None}
    tries = f", {budgets.pop()} tries" if len(budgets) == 1 else ""
    return f"{name}{between}({found[0].record.knowledge}{tries})"


def _cell(outcome: Outcome | None, name: str, between: str, remarks: _Footnotes) -> str:
    if outcome is None:
        return _EMPTY
    record = outcome.record
    if record.status != "done":
        return f"{record.status}, {remarks.mark(f'{name} {record.status}: {outcome.reason}')}"
    if not outcome.is_measured:
        return f"{_EMPTY}, {remarks.mark(f'{name}: {_why_not(outcome)}')}"
    lines = [_marked(outcome, between), _control(outcome)]
    if record.failed_prompts:
        whose = f"{name}: {record.failed_prompts} of {record.prompts} prompts"
        lines.append(remarks.mark(f"{whose} have candidates that came to nothing; those broke nothing"))
    return (";" + between if between == " " else between).join(lines)


def _why_not(outcome: Outcome) -> str:
    """A missing figure's own note."""
    missing = (outcome.figures.get(name, {}) for name in ("attack_post", "control_post"))
    notes = (str(figure.get("note", "")) for figure in missing if figure.get("value") is None)
    return next((note for note in notes if note), "not measured")


def _marked(outcome: Outcome, between: str) -> str:
    """The union, marked where its excess over the control is sure; one below its control gets no star."""
    p_holm = outcome.figures.get("attack_excess", {}).get("p_holm")
    figure = outcome.figures["attack_post"]
    return shown_value(figure if outcome.is_below else {**figure, "p_holm": p_holm}, between)


def _control(outcome: Outcome) -> str:
    figure = outcome.figures["control_post"]
    word = "below control" if outcome.is_below else "control"
    return f"{word} {100 * figure['value']:.1f} ({figure['n']}/{figure['N']})"


def notes(table: AttackTable) -> list[str]:
    """Lines under the table: what the marks mean, and why a row has no figures."""
    lines = list(_MEANING)
    if table.tested:
        lines.append(
            "* surely more than its control, ns not: exact paired test, Holm-corrected over the"
            f" {table.tested} tested cells of this table, 5 %."
        )
    if any(outcome.is_below for _, _, outcome in table.outcomes()):
        lines.append("below control: surely less than mere retries found, by the same test.")
    if any(row.row.broken for row in table.rows):
        lines.append("† collapsed, ‡ destroyed (see the main table): ranked last; resisting proves nothing.")
    done = (row.row for row in table.rows if row.row.status != "done")
    return lines + [f"{row.label}: {row.status} ({row.remark})" for row in done]


def render_rich(table: AttackTable, width: int = 120) -> RenderableType:
    """The table for a terminal; where it is too wide, its columns stand in several blocks.

    Args:
        table: What to show; its header is that of the main table, and is not repeated.
        width: Columns of the terminal.
    """
    from rich.console import Group
    from rich.text import Text

    columns, remarks = _wide(table, "\n")
    labels = ["Attacked", *(row.row.label for row in table.rows)]
    drawn = blocks(labels, columns, [row.row.broken for row in table.rows], width)
    return Group(*drawn, *(Text(line, "dim") for line in [*notes(table), *remarks]))


def render_markdown(table: AttackTable) -> str:
    """The table and its details as Markdown; equal results give equal bytes."""
    columns, remarks = _wide(table, " ")
    rows = [[row.row.label, *(cells[place] for cells in columns)] for place, row in enumerate(table.rows, 1)]
    parts = [
        "# Attacks",
        "\n".join(f"- {line}" for line in table.header),
        _markdown(["Attacked", *(title for title, *_ in columns)], rows),
        "\n".join(f"{line}  " for line in [*notes(table), *remarks]).rstrip(),
        *_details(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(header, [[cell.replace("|", "\\|") for cell in row] for row in rows])


# The long form: one line for each attack on each erasure --------------------------------------------------


def _details(table: AttackTable) -> Iterator[str]:
    done = [each for each in table.outcomes() if each[2].record.status == "done"]
    for title, suffix in _denominators(done):
        rows = [[row.label, name, *_figure_cells(outcome, suffix)] for row, name, outcome in done]
        yield f"## {title}"
        yield _markdown(["Attacked", "Attack", *_TITLES], rows)
    yield "## Cost per attacked prompt"
    yield "Seconds are those of the machine that ran the attack; the control's work is not in them."
    costs = [[row.label, name, *_cost_cells(outcome)] for row, name, outcome in done]
    yield _markdown(["Attacked", "Attack", "seconds", *_COSTS], costs)


def _denominators(done: Sequence[tuple[Row, str, Outcome]]) -> Iterator[tuple[str, str]]:
    yield "All attacked prompts", ""
    if any(f"attack_post{SHOWN}" in outcome.figures for _, _, outcome in done):
        yield "Prompts on which the original shows the concept", SHOWN


def _figure_cells(outcome: Outcome, suffix: str) -> list[str]:
    figures = [outcome.figures.get(f"{name}{suffix}") for name in _FIGURES]
    if not outcome.is_measured:
        return [shown_value(figures[0]), *[_EMPTY] * (len(figures) - 1)]
    return [
        _excess(f) if name == "attack_excess" else shown_value(f)
        for name, f in zip(_FIGURES, figures, strict=True)
    ]


def _excess(figure: Mapping[str, Any] | None) -> str:
    """A difference with its sign, its interval and its corrected p-value."""
    if figure is None or figure["value"] is None:
        return _EMPTY
    low, high = figure["low"], figure["high"]
    bounds = "" if low is None else f" [{low:+.1f}, {high:+.1f}]"
    p_holm = figure.get("p_holm")
    return f"{figure['value']:+.1f}{bounds}" + ("" if p_holm is None else f", p {p_holm:.2g}")


def _cost_cells(outcome: Outcome) -> list[str]:
    spent = (outcome.record.spent.get(name) for name in ("seconds", *_COSTS))
    return [_EMPTY if value is None else f"{value:.4g}" for value in spent]


# Forms for machines ---------------------------------------------------------------------------------------

_KEYS = ["method", "training_seed", "collapsed", "destroyed", "attack", "knowledge"]


def _keys(row: Row, name: str, record: AttackRecord) -> list[str]:
    broken = [str(row.collapsed).lower(), str(row.destroyed).lower()]
    return [row.method, csv_cell(row.training_seed), *broken, name, record.knowledge]


def render_csv(table: AttackTable) -> str:
    """All figures of every attack with n, N, interval and p-values; deterministic, so without seconds."""
    names = list(dict.fromkeys(name for _, _, outcome in table.outcomes() for name in outcome.figures))
    head = [*_KEYS, "status", "reason", "budget", *_COUNTS, *_COSTS]
    head += [name if part == "value" else f"{name}_{part}" for name in names for part in _CSV_PARTS]
    lines = [head]
    for row, attack, outcome in table.outcomes():
        record = outcome.record
        facts = [outcome.budget, *(getattr(record, name) for name in _COUNTS)]
        facts += [record.spent.get(name) for name in _COSTS]
        facts += [outcome.figures.get(name, {}).get(part) for name in names for part in _CSV_PARTS]
        lines.append([*_keys(row, attack, record), record.status, outcome.reason, *map(csv_cell, facts)])
    return csv_text(lines)


def attack_cost_csv(table: AttackTable) -> str:
    """What each attack took per prompt, seconds included; different on every machine."""
    costs = ("seconds", *_COSTS)
    lines = [
        [*_keys(row, name, outcome.record), *(csv_cell(outcome.record.spent.get(cost)) for cost in costs)]
        for row, name, outcome in table.outcomes()
    ]
    return csv_text([[*_KEYS, *costs], *lines])
