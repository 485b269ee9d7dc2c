"""All figures of every attack on every erasure: the long form under the table, and files for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zbench.metrics.robustness import SHOWN
from zbench.report.attack_rows import EXCESSES
from zbench.report.markdown import markdown_table
from zbench.report.table import csv_cell, csv_text
from zbench.report.values import shown_value

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord
    from zbench.report.attack_rows import AttackTable, Outcome
    from zbench.report.rows import Row

P_HOLM = "attack_p_holm"
"""The larger p of the two paired tests, corrected over the table."""

_EMPTY = "–"
_SUFFIXES = ("", SHOWN)
_COLUMNS = {
    "attack_pre": "Plain, %",
    "attack_post": "After, %",
    "attack_new": "New, %",
    "control_post": "Control, %",
    "retry_post": "Retries, %",
    "attack_excess": "Over control, points",
    "attack_excess_retry": "Over retries, points",
    P_HOLM: "p",
    "attack_confirmed": "Confirmed, %",
    "control_confirmed": "Control confirmed, %",
}
_FIGURES, _TITLES = tuple(_COLUMNS), tuple(_COLUMNS.values())
_CSV_PARTS = ("value", "n", "N", "effective_N", "low", "high", "p_value")
_COUNTS = ("prompts", "shown_by_original", "failed_prompts")
_COSTS = ("queries", "forwards", "backwards", "encodings")


def escaped_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose cells may hold bars."""
    return markdown_table(header, [[cell.replace("|", "\\|") for cell in row] for row in rows])


# The long form: one line for each attack on each erasure --------------------------------------------------


def details(table: AttackTable) -> Iterator[str]:
    """The sections under the table: every figure over both denominators, and what the attacks cost."""
    done = [each for each in table.outcomes() if each[2].record.status == "done"]
    for title, suffix in _denominators(done):
        rows = [[row.label, name, *_figure_cells(outcome, suffix)] for row, name, outcome in done]
        tested = sum(suffix in outcome.p_holm for _, _, outcome in done)
        yield f"## {title}"
        yield f"p: the larger of both excesses, Holm-corrected; tested here: {tested} of {len(done)}."
        yield escaped_table(["Attacked", "Attack", *_TITLES], rows)
    yield "## Cost per attacked prompt"
    yield "Seconds are those of the machine that ran the attack; the control's work is not in them."
    costs = [[row.label, name, *_cost_cells(outcome)] for row, name, outcome in done]
    yield escaped_table(["Attacked", "Attack", "seconds", *_COSTS], costs)


def _denominators(done: Sequence[tuple[Row, str, Outcome]]) -> Iterator[tuple[str, str]]:
    yield "All attacked prompts", ""
    if any(f"attack_post{SHOWN}" in outcome.figures for _, _, outcome in done):
        yield "Prompts on which the original shows the concept", SHOWN


def _figure_cells(outcome: Outcome, suffix: str) -> list[str]:
    figures = {name: outcome.figures.get(f"{name}{suffix}") for name in _FIGURES if name != P_HOLM}
    if not outcome.is_measured:
        return [shown_value(figures["attack_pre"]), *[_EMPTY] * (len(_FIGURES) - 1)]
    cells = {name: _excess(f) if name in EXCESSES else shown_value(f) for name, f in figures.items()}
    p_holm = outcome.p_holm.get(suffix)
    cells[P_HOLM] = _EMPTY if p_holm is None else f"{p_holm:.2g}"
    return [cells[name] for name in _FIGURES]


def _excess(figure: Mapping[str, Any] | None) -> str:
    """A difference with its sign and its interval."""
    if figure is None or figure["value"] is None:
        return _EMPTY
    low, high = figure["low"], figure["high"]
    return f"{figure['value']:+.1f}" + ("" if low is None else f" [{low:+.1f}, {high:+.1f}]")


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
    head += [f"{P_HOLM}{suffix}" for suffix in _SUFFIXES]
    lines = [head]
    for row, attack, outcome in table.outcomes():
        record = outcome.record
        facts = [outcome.budget, *(getattr(record, name) for name in _COUNTS)]
        facts += [record.spent.get(name) for name in _COSTS]
        facts += [outcome.figures.get(name, {}).get(part) for name in names for part in _CSV_PARTS]
        facts += [outcome.p_holm.get(suffix) for suffix in _SUFFIXES]
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
