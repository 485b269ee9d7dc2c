"""The paper's claims, one by one: holds, does not hold, undecided, each by tests over results.

Needed: both rows of a comparison are measured, with at least three trainings each (the unerased model is
never trained); else it is undecided. Differences are in percent of the unerased model's value.

A difference holds where it surely has the claimed direction, whatever its size: its 95 % interval excludes
zero, the test over prompts and the test over trainings both give p < 0.05, and all trainings of one side lie
beyond all of the other. Where it is surely smaller than half of the paper's own difference, that is said
beside it.

It does not hold where that is not so, and the interval excludes even half of the paper's own difference, or
the opposite direction is sure. Else it is undecided.

"Keeps" holds where the whole interval of the change lies within a margin, and does not hold where it lies
outside: by default half of what the paper's other rows change, their median. Of FID and CLIP score beside
those of the unerased model only a change for the worse counts.

The bound is that half of the paper's difference, or that margin; where the paper prints no number, one that
we chose.

The interval is the wider one of that over prompts and that over trainings, and p the larger one. FID, H_a and
counts of detections are figures of whole sets without pictures to pair: both sides' own intervals, as if
independent, stand in the place of those over prompts.

A generator is broken where it has collapsed or is destroyed, else whole. A broken one cannot win: where the
side that the claim favours (the one that is better if the claim is true; of "keeps" the row itself) is broken
in all trainings, the comparison does not hold; where in some, it is undecided. Where that side is whole and
the other one is broken in all trainings, it holds; where in some, it is undecided, and so is "keeps" beside
anything broken.

Claims about breakage itself ask only that: broken is a row of which all trainings are, whole one of which
none is and surely less than 5 % of whose pictures of unrelated prompts are flagged, over at least three
trainings; else it is undecided. Of what is said to erase at the cost of the pictures, the erasing counts even
where it is broken.

A claim holds where all of its comparisons do, and does not hold where one does not, for which intervals are
widened to their number (Bonferroni); else it is undecided. Claims are not corrected for one another. What
none of the tables tests is not tested: it says what does, or could.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from zbench.metrics.collapse import COLLAPSED_FROM
from zbench.report.pairing import SEEDS_FOR_METHODS
from zbench.reproduction.claim_list import Claim, Part
from zbench.reproduction.effects import Effect, effect
from zbench.reproduction.series import series_of
from zbench.reproduction.side_by_side import broken_trainings, scale_of
from zbench.reproduction.tables import ORIGINAL, Column, PaperTable
from zbench.reproduction.verdicts import Broken, Verdict, apart, kept, turned, where_broken

if TYPE_CHECKING:
    from zbench.reproduction.reading import Measured

SMALLER = "surely smaller than half of the paper's own difference"


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        subject: What is compared, for a reader.
        verdict: What came of it.
        reason: Why it is not decided, or what decided it without an effect; empty otherwise.
        effect: The difference; None where there is none.
        interval: Its 95 % interval; None where there is none.
        paper: The paper's own difference, in percent of its unerased model.
        bound: Half of it, or what stands in its place, or the margin of what is kept.
        remark: What must be said beside the verdict.
    """

    subject: str
    verdict: Verdict
    reason: str = ""
    effect: Effect | None = None
    interval: tuple[float, float] | None = None
    paper: float | None = None
    bound: float | None = None
    remark: str = ""


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

    @property
    def is_smaller(self) -> bool:
        """Whether it holds with a difference that is surely smaller than half of the paper's."""
        return self.verdict == "holds" and any(each.remark for each in self.findings)


def answer(claim: Claim, measured: Callable[[str], Measured]) -> Answer:
    """Decides one claim.

    Args:
        claim: The claim.
        measured: Name of a table -> what was measured for it.
    """
    if claim.unmeasured is not None:
        return Answer(claim, "not tested", (Finding("", "not tested", claim.unmeasured),))
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
    paper = _paper(part, other, table, columns)
    found, bound = _effect(part, other, measured, columns), _bound(part, paper, table)

    def finding(verdict: Verdict, reason: str = "", remark: str = "") -> Finding:
        own = None if isinstance(found, str) else found
        interval = own.interval() if own and math.isfinite(own.interval()[0]) else None
        subject = _subject(part, other, table, columns)
        return Finding(subject, verdict, reason, own, interval, paper, bound, remark)

    if isinstance(found, str):
        return finding("undecided", found)
    if not found.speaks_for_methods:
        return finding("undecided", _too_few(min(each for each in found.trainings if each is not None)))
    set_aside = None if part.even_broken else _set_aside(part, other, measured, columns)
    if set_aside is not None:
        return finding(*set_aside)
    if part.kind == "keeps":
        return finding(kept(found, bound or 0.0, _worse(part, columns[0]), count))
    sign = 1 if part.kind == "higher" else -1
    verdict = apart(found, sign, bound or 0.0, count)
    return finding(verdict, remark=_remark(part, found, sign, paper) if verdict == "holds" else "")


def _remark(part: Part, found: Effect, sign: int, paper: float | None) -> str:
    if paper is None or part.smallest is not None:
        return ""
    return SMALLER if turned(found.interval(), sign)[1] < abs(paper) / 2 else ""


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


def _set_aside(
    part: Part, other: str, measured: Measured, columns: tuple[Column, Column]
) -> tuple[Verdict, str] | None:
    """What broken generators decide: the better side is the one that the claim favours."""
    rows = part.row, other
    own, theirs = (
        Broken(0, 0) if row == ORIGINAL else Broken(*broken_trainings(measured, row, column))
        for row, column in zip(rows, columns, strict=True)
    )
    keeps = part.kind == "keeps"
    favours_row = keeps or part.kind == columns[0].better
    return where_broken(*((own, theirs) if favours_row else (theirs, own)), keeps=keeps)


def _worse(part: Part, column: Column) -> int | None:
    """Sign of a change for the worse where only that counts: better than kept is kept."""
    if part.than != (ORIGINAL,) or not column.utility:
        return None
    return 1 if column.better == "lower" else -1


def _effect(part: Part, other: str, measured: Measured, columns: tuple[Column, Column]) -> Effect | str:
    first, second = (
        series_of(measured, row, column) for row, column in zip((part.row, other), columns, strict=True)
    )
    whole, _ = scale_of(measured, columns[0])
    if first is None or second is None:
        return "not measured"
    if whole is None:
        return "the unerased model was not measured, or its own value is 0"
    return effect(first, second, whole)
