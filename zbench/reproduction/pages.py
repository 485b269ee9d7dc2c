"""What is shown of a table and of the claims, as headings, lines and cells of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.values import EMPTY, WORLD_NOTE, shown_value
from zbench.reproduction.side_by_side import ColumnLines, side_by_side
from zbench.reproduction.tables import ORIGINAL, SOURCE

if TYPE_CHECKING:
    from zbench.reproduction.claims import Answer, Finding
    from zbench.reproduction.reading import Measured
    from zbench.reproduction.series import Series
    from zbench.reproduction.side_by_side import Line

_ARROWS = {"lower": "↓", "higher": "↑"}
_WORLD = "world"

READING = (
    "Percent of the unerased model's own value: 100 is as before. Of H_a, a difference, the change is taken,"
    " in percent of the unerased model's Acc_e.",
    "Brackets: 95 % intervals of what was measured, over prompts and trainings, the unerased model's value"
    " taken as it is. The paper prints no intervals.",
)


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
    notes = [*table.domain(measured.domain).notes, *table.notes, *_missing(columns), *measured.failed]
    head, tail = Section(_heading(measured), _head(measured)), Section("Notes", notes=tuple(notes))
    if not shown:
        return head, tail
    same = table.domain(measured.domain).same_scale
    return head, _overview(shown), *(_column(each, same) for each in shown), tail


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


def _overview(columns: Sequence[ColumnLines]) -> Section:
    """Every row with every column, paper and measured, in percent of the unerased model."""
    titles = {line.row: line.title for each in columns for line in each.lines if line.row != ORIGINAL}
    cells = {(line.row, each.column.name): _both(line) for each in columns for line in each.lines}
    rows = tuple(
        (titles[row], *(cells.get((row, each.column.name), EMPTY) for each in columns)) for row in titles
    )
    return Section(
        "Overview: paper | measured",
        READING,
        ("Method", *(_title(each) for each in columns)),
        tuple(row for row in rows if any(cell != EMPTY for cell in row[1:])),
        _marks(titles.values()),
    )


def _title(lines: ColumnLines) -> str:
    return f"{lines.column.title} {_ARROWS[lines.column.better]}"


def _marks(titles: Iterable[str]) -> tuple[str, ...]:
    if not any("†" in title for title in titles):
        return ()
    return ("† broken generator, collapsed or destroyed (of so many trainings): it cannot win.",)


def _both(line: Line) -> str:
    if line.paper_share is None and line.share is None:
        return EMPTY
    return f"{percent(line.paper_share)} | {percent(line.share)}"


def _column(lines: ColumnLines, same_scale: bool) -> Section:
    titles = ["Method", "Paper", "Measured", "Paper, %", "Measured, %", "Difference, points"]
    more = ["Difference as it is"] if same_scale else []
    return Section(
        _title(lines),
        columns=(*titles, *more),
        rows=tuple(tuple(_cells(line, same_scale)) for line in lines.lines),
        notes=tuple(f"{each.title}: printed as {number(each.slip)}." for each in lines.lines if each.slip),
    )


def _cells(line: Line, same_scale: bool) -> Iterator[str]:
    yield line.title
    yield number(line.paper)
    yield measured_cell(line)
    yield percent(line.paper_share)
    yield with_bounds(percent(line.share), line.bounds)
    if line.row == ORIGINAL:  # 100 % on both sides
        yield EMPTY
    else:
        yield with_bounds(percent(line.difference, signed=True), line.difference_bounds)
    if same_scale:
        yield number(line.absolute)


def measured_cell(line: Line) -> str:
    """What was measured, with counts and interval; what stands beside it in parentheses."""
    if line.measured is None:
        return EMPTY
    beside = "" if line.beside is None else f" (control {_value(line.beside)})"
    counted = "" if line.counts is None else f", {line.counts:.0f} pictures"
    return f"{_value(line.measured)}{counted}{beside}"


def _value(series: Series) -> str:
    unit = "rate" if series.is_rate else "points"
    figure = {"value": series.value, "n": series.n, "N": series.N, "low": series.low, "high": series.high}
    return shown_value({**figure, "unit": unit})


# Claims -----------------------------------------------------------------------------------------------------


def claims_page(answers: Sequence[Answer], model: str, domain: str) -> tuple[Section, ...]:
    """All claims with their verdicts, then each with its comparisons."""
    count = {verdict: sum(each.verdict == verdict for each in answers) for verdict in _VERDICTS}
    total = ", ".join(f"{verdict} {number}" for verdict, number in count.items())
    world = (WORLD_NOTE,) if domain == _WORLD else ()
    rows = tuple((each.claim.sentence, _source(each), each.verdict) for each in answers)
    head = Section(
        f"The paper's claims on {model}: {total}",
        (f"Claims: {SOURCE}, in our words, about Z-Image-Turbo.", *world),
        ("Claim", "Where", "Verdict"),
        rows,
        _RULES,
    )
    return head, *(_claim(each) for each in answers)


_VERDICTS = ("holds", "does not hold", "undecided")

_RULES = (
    "A comparison holds where difference, tests over prompts and tests over at least three trainings agree at"
    " 5 %; it does not hold where the interval excludes the smallest difference that counts, by default half"
    " of the paper's own; else it is undecided. Differences are in percent of the unerased model's value.",
    "A claim holds where all of its comparisons do, and does not hold where one surely does not, intervals"
    " widened to their number. Claims are not corrected for one another.",
    "FID and H_a are figures of whole sets: what is said of them is tested over trainings, on these prompts.",
)


def _source(each: Answer) -> str:
    return f"{each.claim.where}{'' if each.claim.stated else ' (shown, not said)'}"


def _claim(each: Answer) -> Section:
    titles = ("Comparison", "Paper", "Measured", "Counts from", "p", "Test", "Verdict")
    return Section(
        f"{each.claim.sentence} {each.verdict.capitalize()}.",
        columns=titles,
        rows=tuple(_finding(finding) for finding in each.findings),
    )


def _finding(found: Finding) -> tuple[str, ...]:
    effect = found.effect
    return (
        found.subject or EMPTY,
        percent(found.paper, signed=True),
        with_bounds(percent(effect.value if effect else None, signed=True), found.interval),
        percent(found.bound),
        EMPTY if effect is None else f"{effect.p_value:.2g}",
        effect.test if effect and not found.reason else found.reason or EMPTY,
        found.verdict,
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
