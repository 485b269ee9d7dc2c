"""What is shown of a table and of the claims, as headings, lines and cells of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.values import EMPTY, WORLD_NOTE, shown_value
from zbench.reproduction.claim_list import load_rule
from zbench.reproduction.side_by_side import ColumnLines, side_by_side
from zbench.reproduction.tables import ORIGINAL, SECOND_MODEL, SOURCE, printed_numbers

if TYPE_CHECKING:
    from zbench.reproduction.claims import Answer, Finding
    from zbench.reproduction.reading import Measured
    from zbench.reproduction.series import Series
    from zbench.reproduction.side_by_side import Line
    from zbench.reproduction.tables import PaperTable

_ARROWS = {"lower": "↓", "higher": "↑"}
_WORLD = "world"

PERCENT = "Percent of the unerased model's own value: 100 is as before."
CHANGE = (
    "Of H_a, a difference, the change is taken, in percent of the unerased model's Acc_e. The paper prints no"
    " H_a of the unerased model: it is taken from its columns."
)
INTERVALS = (
    "Brackets: 95 % intervals of what was measured, over prompts and trainings, the unerased model's value"
    " taken as it is. The paper prints no intervals."
)
BROKEN = "† broken generator, collapsed or destroyed (of so many erasures): it cannot win."
DERIVED = "‡ from the paper's own columns, not as printed"


@dataclass(frozen=True)
class Section:
    """A heading with a table below it.

    Attributes:
        heading: Of the section.
        lines: Between heading and table.
        columns: Titles of the table's columns; no table when empty.
        rows: Its cells.
        notes: Below the table.
    """

    heading: str
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


# A table ----------------------------------------------------------------------------------------------------


def table_page(measured: Measured) -> tuple[Section, ...]:
    """The paper's table beside what was measured: an overview, then every column by itself."""
    table, columns = measured.table, side_by_side(measured)
    shown = [each for each in columns if each.is_measured]
    domain = table.domain(measured.domain)
    notes = [*domain.notes, *table.notes, *_second_model(table), *_missing(columns)]
    tail = Section("Notes", notes=(*notes, *measured.left_out, *measured.failed))
    head = Section(_heading(measured), _head(measured))
    if not shown:
        return head, tail
    between = Section("Column by column", (INTERVALS,))
    return head, _overview(shown), between, *(_column(each, domain.same_scale) for each in shown), tail


def _heading(measured: Measured) -> str:
    return f"{measured.table.title}: the paper's table and the version of {measured.model}"


def _head(measured: Measured) -> tuple[str, ...]:
    domain = measured.table.domain(measured.domain)
    lines = [
        f"Paper: {SOURCE}, on Z-Image-Turbo. Measured: {measured.model}, protocol {domain.protocol}, "
        f"{measured.found} of {measured.wanted} cells.",
        *([WORLD_NOTE] if measured.domain == _WORLD else []),
    ]
    return tuple(lines)


def _missing(columns: Iterable[ColumnLines]) -> Iterator[str]:
    names = [each.column.title for each in columns if not each.is_measured]
    if names:
        yield f"Not measured: {', '.join(names)}."


def _second_model(table: PaperTable) -> Iterator[str]:
    """What the paper prints of its second model, figure by figure."""
    if not table.second_model:
        return
    numbers = printed_numbers("hunyuanimage3")
    titles = {ORIGINAL: "unerased", **{row.name: row.title for row in table.rows}}
    figures = (
        f"{figure}: "
        + ", ".join(f"{titles[row]} {number(of[column])}" for row, of in numbers.items() if of[column])
        for figure, column in table.second_model.items()
    )
    yield f"On {SECOND_MODEL}, which is not measured here, the paper prints: {'; '.join(figures)}."


def _overview(columns: Sequence[ColumnLines]) -> Section:
    """Every row with every column, paper and measured, in percent of the unerased model."""
    titles = {line.row: line.title for each in columns for line in each.lines if line.row != ORIGINAL}
    cells = {(line.row, each.column.name): _both(line) for each in columns for line in each.lines}
    rows = tuple(
        (titles[row], *(cells.get((row, each.column.name), EMPTY) for each in columns)) for row in titles
    )
    return Section(
        "Overview: paper | measured",
        (PERCENT, CHANGE) if any(each.column.scale for each in columns) else (PERCENT,),
        ("Method", *(_title(each) for each in columns)),
        tuple(row for row in rows if any(cell != EMPTY for cell in row[1:])),
        (BROKEN,) if any(line.mark for each in columns for line in each.lines) else (),
    )


def _title(lines: ColumnLines) -> str:
    return f"{lines.column.title} {_ARROWS[lines.column.better]}"


def _both(line: Line) -> str:
    """Paper and measured, with what a reader must know of this number."""
    if line.paper_share is None and line.share is None:
        return EMPTY
    both = _marked(f"{percent(line.paper_share)} | {percent(line.share)}", line)
    return f"{both} ({_so_far(line)})" if line.is_incomplete else both


def _marked(text: str, line: Line) -> str:
    return f"{text} {line.mark}" if line.mark else text


def _so_far(line: Line) -> str:
    return f"{line.trainings} of {line.planned} trainings"


def _column(lines: ColumnLines, same_scale: bool) -> Section:
    titles = ["Method", "Paper", "Measured", "Paper, %", "Measured, %", "Difference, points"]
    more = ["Difference as it is"] if same_scale else []
    return Section(
        _title(lines),
        columns=(*titles, *more),
        rows=tuple(tuple(_cells(line, same_scale)) for line in lines.lines),
        notes=tuple(_derived(lines)),
    )


def _derived(lines: ColumnLines) -> Iterator[str]:
    derived = [line for line in lines.lines if line.is_derived]
    slips = [f"{line.title} is printed as {number(line.printed)}" for line in derived if line.printed]
    if derived:
        yield f"{'; '.join([DERIVED, *slips])}."


def _cells(line: Line, same_scale: bool) -> Iterator[str]:
    yield _marked(line.title, line)
    yield f"{number(line.paper)} ‡" if line.is_derived else number(line.paper)
    yield measured_cell(line)
    yield percent(line.paper_share)
    yield with_bounds(percent(line.share), line.bounds)
    if line.row == ORIGINAL:  # 100 % on both sides
        yield EMPTY
    else:
        yield with_bounds(percent(line.difference, signed=True), line.difference_bounds)
    if same_scale:
        yield _as_it_is(line)


def _as_it_is(line: Line) -> str:
    bounds = line.absolute_bounds
    between = "" if bounds is None else f" [{number(bounds[0])}, {number(bounds[1])}]"
    return f"{number(line.absolute)}{between}"


def measured_cell(line: Line) -> str:
    """What was measured, with counts, interval, missing trainings, and what stands beside it."""
    if line.measured is None:
        return EMPTY
    beside = "" if line.beside is None else f" (control {_value(line.beside)})"
    counted = "" if line.counts is None else f", {line.counts:.0f} pictures"
    missing = f", {_so_far(line)}" if line.is_incomplete else ""
    return f"{_value(line.measured)}{counted}{missing}{beside}"


def _value(series: Series) -> str:
    figure = {"value": series.value, "n": series.n, "N": series.N, "low": series.low, "high": series.high}
    return shown_value({**figure, "unit": series.unit})


# Claims -----------------------------------------------------------------------------------------------------


_VERDICTS = ("holds", "does not hold", "undecided", "not tested")


def claims_page(
    answers: Sequence[Answer], model: str, domain: str, failed: Sequence[str] = ()
) -> tuple[Section, ...]:
    """All claims with their verdicts and the rule, then each with its comparisons.

    Args:
        answers: Of all claims.
        model: Label of the model.
        domain: Of the model.
        failed: What is missing of the results that they follow from.
    """
    count = {verdict: sum(each.verdict == verdict for each in answers) for verdict in _VERDICTS}
    total = ", ".join(f"{verdict} {number}" for verdict, number in count.items())
    world = (WORLD_NOTE,) if domain == _WORLD else ()
    rows = tuple((each.claim.sentence, _source(each), _decided(each)) for each in answers)
    head = Section(
        f"The paper's claims on {model}: {total}",
        (f"Claims: {SOURCE}, in our words, about Z-Image-Turbo.", *world),
        ("Claim", "Where", "Verdict"),
        rows,
        tuple(failed),
    )
    rule = Section("How claims are decided", load_rule())
    return head, rule, *(_claim(each) for each in answers)


def _source(each: Answer) -> str:
    return f"{each.claim.where}{'' if each.claim.stated else ' (shown, not said)'}"


def _decided(each: Answer) -> str:
    return f"{each.verdict}, smaller than in the paper" if each.is_smaller else each.verdict


def _claim(each: Answer) -> Section:
    heading = f"{each.claim.sentence} {_decided(each).capitalize()}."
    if each.claim.unmeasured is not None:
        return Section(heading, (f"Not measured here: {each.claim.unmeasured}.",))
    titles = ("Comparison", "Paper", "Measured", "Bound", "p", "Test", "Verdict")
    return Section(heading, columns=titles, rows=tuple(_finding(finding) for finding in each.findings))


def _finding(found: Finding) -> tuple[str, ...]:
    effect = found.effect
    return (
        found.subject,
        percent(found.paper, signed=True),
        with_bounds(percent(effect.value if effect else None, signed=True), found.interval),
        percent(found.bound),
        EMPTY if effect is None else f"{effect.p_value:.2g}",
        effect.test if effect and not found.reason else found.reason or EMPTY,
        f"{found.verdict}, {found.remark}" if found.remark else found.verdict,
    )


# Numbers ----------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Four digits; a dash for nothing."""
    return EMPTY if value is None else f"{value:.4g}"


def percent(value: float | None, *, signed: bool = False) -> str:
    """One digit after the point; never a negative zero."""
    if value is None:
        return EMPTY
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f}" if signed else f"{rounded:.1f}"


def with_bounds(text: str, bounds: tuple[float, float] | None) -> str:
    """A number with its interval, where there is one."""
    return text if bounds is None or text == EMPTY else f"{text} [{percent(bounds[0])}, {percent(bounds[1])}]"
