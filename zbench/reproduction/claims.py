"""The paper's claims, one by one: holds, does not hold, undecided, each by tests over results.

A comparison holds where its interval and its tests, over prompts and over trainings, say so at 5 %. It does
not hold where the interval surely excludes the smallest difference that would bear it out: half of the
paper's own. A claim holds where all of its comparisons do, and does not where one surely does not; for that,
intervals are widened to the number of its comparisons. Nothing is corrected over claims.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import median
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from zbench.metrics.collapse import COLLAPSED_FROM
from zbench.report.pairing import SEEDS_FOR_METHODS
from zbench.reproduction.effects import LEVEL, Effect, effect
from zbench.reproduction.series import series_of
from zbench.reproduction.side_by_side import broken_trainings, scale_of
from zbench.reproduction.tables import ORIGINAL, Column, PaperTable

if TYPE_CHECKING:
    from zbench.reproduction.reading import Measured

_TINY = 1e-9
"""A difference of exactly 0 is none, where no smallest one is known."""

Verdict = Literal["holds", "does not hold", "undecided"]
Kind = Literal["higher", "lower", "keeps", "broken", "intact"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Part(BaseModel):
    """What must be so for a claim to hold.

    Attributes:
        table: Name of the table.
        row: Which row.
        kind: What is said of it (``is`` in the file).
        column: In which column.
        than: Compared with which rows.
        than_column: In which column of these; the same when None.
        smallest: Difference in percent of the unerased model's value below which the claim is not borne out;
            half of the paper's own difference when None.
        margin: How far a kept value may be off, likewise; half of what other rows lose when None.
        even_broken: Whether a better value counts where it comes from a broken generator.
    """

    model_config = _FROZEN

    table: str
    row: str
    kind: Kind = Field(alias="is")
    column: str = "total"
    than: tuple[str, ...] = ()
    than_column: str | None = None
    smallest: float | None = Field(default=None, gt=0)
    margin: float | None = Field(default=None, gt=0)
    even_broken: bool = False


class Claim(BaseModel):
    """Something that the paper says.

    Attributes:
        id: Short name.
        sentence: The claim in our words.
        where: Where in the paper.
        stated: Whether the paper says it in words; else its table shows it.
        parts: What must be so, all of it.
        unmeasured: Why it is not measured here; None where it is.
    """

    model_config = _FROZEN

    id: str
    sentence: str
    where: str
    stated: bool
    parts: tuple[Part, ...] = ()
    unmeasured: str | None = None


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        subject: What is compared, for a reader.
        verdict: What came of it.
        reason: Why it is not decided, or what decided it without an effect; empty otherwise.
        effect: The difference; None where there is none.
        interval: Its 95 % interval.
        paper: The paper's own difference, in percent of its unerased model.
        bound: The smallest difference that would bear it out, or the margin of what is kept.
    """

    subject: str
    verdict: Verdict
    reason: str = ""
    effect: Effect | None = None
    interval: tuple[float, float] | None = None
    paper: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Answer:
    """A claim with its verdict.

    Attributes:
        claim: The claim.
        verdict: What came of it.
        findings: Of its comparisons.
    """

    claim: Claim
    verdict: Verdict
    findings: tuple[Finding, ...]


@cache
def load_claims() -> tuple[Claim, ...]:
    """The paper's claims, in its order."""
    text = (files("zbench.reproduction") / "data" / "claims.toml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(each) for each in tomllib.loads(text)["claims"])


def answer(claim: Claim, measured: Callable[[str], Measured]) -> Answer:
    """Decides one claim.

    Args:
        claim: The claim.
        measured: Name of a table -> what was measured for it.
    """
    if claim.unmeasured is not None:
        return Answer(claim, "undecided", (Finding("", "undecided", claim.unmeasured),))
    count = sum(max(1, len(part.than)) for part in claim.parts)
    found = tuple(each for part in claim.parts for each in _findings(part, measured(part.table), count))
    return Answer(claim, _verdict(found), found)


def _verdict(findings: tuple[Finding, ...]) -> Verdict:
    verdicts = {each.verdict for each in findings}
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts == {"holds"} else "undecided"


def _findings(part: Part, measured: Measured, count: int) -> Iterator[Finding]:
    if part.kind in ("broken", "intact"):
        yield _wholeness(part, measured)
        return
    for other in part.than:
        yield _comparison(part, other, measured, count)


# Whether a generator is whole -------------------------------------------------------------------------------


def _wholeness(part: Part, measured: Measured) -> Finding:
    table, column = measured.table, measured.table.column(part.column)
    broken, trainings = broken_trainings(measured, part.row, column)
    subject = f"{table.row(part.row).title}: broken generators"
    if trainings < SEEDS_FOR_METHODS:
        return Finding(subject, "undecided", _too_few(trainings))
    rate = series_of(measured, part.row, column, "collapse_rate")
    high = 1.0 if rate is None or rate.high is None else rate.high
    shown = "" if rate is None else f"; {100 * rate.value:.1f} % of pictures, at most {100 * high:.1f} %"
    surely_whole = broken == 0 and high < COLLAPSED_FROM
    wanted, unwanted = (broken == trainings, surely_whole), (surely_whole, broken == trainings)
    holds, fails = wanted if part.kind == "broken" else unwanted
    verdict: Verdict = "holds" if holds else "does not hold" if fails else "undecided"
    return Finding(subject, verdict, f"{broken} of {trainings} trainings{shown}")


def _too_few(trainings: int) -> str:
    if not trainings:
        return "not measured"
    return f"{trainings} of {SEEDS_FOR_METHODS} trainings that a claim about a method needs"


# Comparisons ------------------------------------------------------------------------------------------------


def _comparison(part: Part, other: str, measured: Measured, count: int) -> Finding:
    table = measured.table
    columns = table.column(part.column), table.column(part.than_column or part.column)
    subject, paper = _subject(part, other, table, columns), _paper(part, other, table, columns)
    bound = _bound(part, paper, table)
    set_aside = _broken(part, other, measured, columns)
    if set_aside is not None:
        return Finding(subject, *set_aside, paper=paper, bound=bound)
    found = _effect(part, other, measured, columns)
    if isinstance(found, str):
        return Finding(subject, "undecided", found, paper=paper, bound=bound)
    interval = found.interval()
    if not found.speaks_for_methods:
        least = min(number for number in found.trainings if number is not None)
        return Finding(subject, "undecided", _too_few(least), found, interval, paper, bound)
    verdict = (
        _kept(part, found, bound or 0.0, columns[0].better == "lower", count)
        if part.kind == "keeps"
        else _apart(found, 1 if part.kind == "higher" else -1, bound or 0.0, count)
    )
    return Finding(subject, verdict, "", found, interval, paper, bound)


def _subject(part: Part, other: str, table: PaperTable, columns: tuple[Column, Column]) -> str:
    titles = {ORIGINAL: "unerased model", **{row.name: row.title for row in table.rows}}
    if columns[0] == columns[1]:
        return f"{columns[0].title}: {titles[part.row]} - {titles[other]}"
    return f"{titles[part.row]}: {columns[0].title} - {columns[1].title}"


def _paper(part: Part, other: str, table: PaperTable, columns: tuple[Column, Column]) -> float | None:
    """The paper's own difference in percent of its unerased model's value in the first column."""
    first, second = table.paper(part.row, columns[0].name), table.paper(other, columns[1].name)
    whole = table.paper(ORIGINAL, columns[0].scale or columns[0].name)
    return None if first is None or second is None or not whole else 100 * (first - second) / abs(whole)


def _bound(part: Part, paper: float | None, table: PaperTable) -> float | None:
    if part.kind == "keeps":
        return part.margin or half_of_the_usual_loss(table, part.column, but=part.row)
    return part.smallest or (None if paper is None else abs(paper) / 2)


def half_of_the_usual_loss(table: PaperTable, column: str, *, but: str) -> float:
    """Half of the median change of the paper's other rows, in percent of its unerased model's value.

    Args:
        table: The table.
        column: A column of the paper's.
        but: The row that is asked about.
    """
    shares = [table.paper_share(row.name, column) for row in table.rows if row.name != but]
    return median(abs(share - 100) for share in shares if share is not None) / 2


def _broken(
    part: Part, other: str, measured: Measured, columns: tuple[Column, Column]
) -> tuple[Verdict, str] | None:
    """A broken generator cannot win: what is decided where one of the rows has one."""
    if part.even_broken or part.kind != columns[0].better:  # a broken generator may well be worse
        return None
    own = broken_trainings(measured, part.row, columns[0])[0]
    theirs = broken_trainings(measured, other, columns[1])[0]
    if own:
        return "does not hold", "its generator is broken, and a broken one cannot win"
    return ("holds", "the other generator is broken, and a broken one cannot win") if theirs else None


def _effect(part: Part, other: str, measured: Measured, columns: tuple[Column, Column]) -> Effect | str:
    first, second = (
        series_of(measured, row, column) for row, column in zip((part.row, other), columns, strict=True)
    )
    whole, _ = scale_of(measured, columns[0])
    if first is None or second is None:
        return "not measured"
    return "the unerased model's own value is 0" if whole is None else effect(first, second, whole)


def _apart(found: Effect, sign: int, smallest: float, count: int) -> Verdict:
    """Whether the first row lies above the second (`sign` 1), or below it."""
    low, high = _turned(found.interval(), sign)
    largest = _turned(found.interval(1 - LEVEL / count), sign)[1]
    if low > 0 and high >= smallest and found.separate and found.p_value < LEVEL:
        return "holds"
    return "does not hold" if largest < max(smallest, _TINY) else "undecided"


def _kept(part: Part, found: Effect, margin: float, lower_is_better: bool, count: int) -> Verdict:
    """Whether less than the margin is lost; against another setting, whether less is lost or won."""
    low, high = _turned(found.interval(), 1 if lower_is_better else -1)
    least, most = _turned(found.interval(1 - LEVEL / count), 1 if lower_is_better else -1)
    if part.than == (ORIGINAL,):
        return "holds" if high < margin else "does not hold" if least > margin else "undecided"
    kept, changed = max(high, -low) < margin, max(least, -most) > margin
    return "holds" if kept else "does not hold" if changed else "undecided"


def _turned(interval: tuple[float, float], sign: int) -> tuple[float, float]:
    low, high = sorted(sign * bound for bound in interval)
    return low, high
