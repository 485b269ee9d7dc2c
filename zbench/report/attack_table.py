"""The table of attacks: what each brought back from each erasure, never without what mere tries bring back.

A union over many judged candidates rewards mere retries, so that no rate after an attack is shown unless the
rate of as many tries without the attack's knowledge stands beside it. Such tries (random words, random
changes) may well be weaker than drawing the prompt again, so that plain retries stand there, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.attack_details import attack_cost_csv, details, escaped_table, render_csv
from zbench.report.attack_rows import AttackTable, Outcome, build_attack_table
from zbench.report.terminal import blocks
from zbench.report.values import shown_value

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "AttackTable",
    "attack_cost_csv",
    "build_attack_table",
    "render_csv",
    "render_markdown",
    "render_rich",
]

_EMPTY = "–"
_NEEDS = {
    "text": "Attacks that type prompts",
    "encoder": "Attacks that have the text encoder",
    "model": "Attacks that have the erased model's gradients",
    "weights": "Attacks that change the erased model",
}
_MEANING = (
    "After an attack: prompts of which the plain picture or that of any candidate shows the concept (union).",
    "control: the same with as many candidates made without the attack's knowledge; retries: with as many"
    " plain retries of the prompt.",
    "Brackets: 95 % intervals.",
)
_WIDE = (
    "Attacks that change the erased model: one changed model serves all prompts, and one random change where"
    " the control is random; a test speaks of these, not of a change that is trained anew."
)


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
    lines = [_marked(outcome, between), *_references(outcome)]
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
    """The union, starred where it is surely above both references; one below them gets no mark."""
    sign = outcome.sign()
    mark = {} if sign in (None, -1) else {"p_holm": 0.0 if sign else 1.0}
    return shown_value({**outcome.figures["attack_post"], **mark}, between)


def _references(outcome: Outcome) -> list[str]:
    below = "below " if outcome.sign() == -1 else ""
    names = {"control": "control_post", "retries": "retry_post"}
    return [f"{below}{word} {_rate(outcome, name)}" for word, name in names.items()]


def _rate(outcome: Outcome, name: str) -> str:
    """A rate without its interval; a dash for what an older run did not draw."""
    figure = outcome.figures.get(name, {})
    if figure.get("value") is None:
        return _EMPTY
    return f"{100 * figure['value']:.1f} ({figure['n']}/{figure['N']})"


def notes(table: AttackTable) -> list[str]:
    """Lines under the table: what the marks mean, and why a row has no figures."""
    found = [outcome for _, _, outcome in table.outcomes() if outcome.is_measured]
    lines = [*_MEANING, *_tests(table)]
    if any(outcome.sign() == -1 for outcome in found):
        lines.append("below: surely less than both the control and mere retries found, by the same tests.")
    if any(outcome.record.knowledge == "weights" for outcome in found):
        lines.append(_WIDE)
    if any(row.row.broken for row in table.rows):
        lines.append("† collapsed, ‡ destroyed (see the main table): ranked last; resisting proves nothing.")
    done = (row.row for row in table.rows if row.row.status != "done")
    return lines + [f"{row.label}: {row.status} ({row.remark})" for row in done]


def _tests(table: AttackTable) -> Iterator[str]:
    """What the marks mean, and over how many cells they are corrected."""
    if table.tested:
        yield (
            "Marks: * surely more than both its control and its retries, ns not: exact paired tests, the"
            f" larger p, Holm-corrected over {_cells(table.tested)} of this table, 5 %."
        )
    if table.untested:
        yield (
            f"No mark: {_cells(table.untested)} not tested, of broken rows, without plain retries, or where"
            " the plain pictures leave too few prompts to break for any result to be sure."
        )


def _cells(number: int) -> str:
    return f"{number} cell{'' if number == 1 else 's'}"


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
    """The table, split by what attacks need, and its details as Markdown; equal results give equal bytes."""
    columns, remarks = _wide(table, " ")
    parts = [
        "# Attacks",
        "\n".join(f"- {line}" for line in table.header),
        *_by_knowledge(table, columns),
        "\n".join(f"{line}  " for line in [*notes(table), *remarks]).rstrip(),
        *details(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _by_knowledge(table: AttackTable, columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """Headings and tables: one for each kind, since all attacks side by side are a line that nobody reads."""
    plain, *attacks = columns
    for kind, heading in _NEEDS.items():
        pairs = zip(table.columns, attacks, strict=True)
        chosen = [cells for name, cells in pairs if table.knowledge(name) == kind]
        if chosen:
            labels = ["Attacked", *(row.row.label for row in table.rows)]
            header, *rows = zip(labels, plain, *chosen, strict=True)
            yield f"## {heading}"
            yield escaped_table(header, rows)
