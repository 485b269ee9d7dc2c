"""Which rows surely differ from the original, and which are best or cannot be told from the best one.

A row that stands for a method is surely worse only where its pictures are, tested in pairs on the same
prompts, *and* its trainings are: at least three on both sides, all of one side worse than all of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zbench.report.pairing import LEVEL, SEEDS_FOR_METHODS
from zbench.report.pooling import NORMAL, spread
from zbench.report.trainings import Pictures, Trainings
from zbench.statistics import holm
from zbench.statistics.flips import flip_p_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zbench.report.standing import StandingFigure


@dataclass(frozen=True)
class Entry:
    """One row's figure on its way into a table.

    Attributes:
        row: The row's trainings.
        figure: Its figure, None where the row has none.
        competes: Whether the row can be best: `original` and broken rows cannot.
    """

    row: Trainings
    figure: StandingFigure | None
    competes: bool

    @property
    def value(self) -> float | None:
        """Of the figure; None where it was not measured."""
        return None if self.figure is None else self.figure.value

    @property
    def by_seed(self) -> tuple[float, ...]:
        """The value of each training."""
        assert self.figure is not None and self.figure.value is not None
        return self.figure.seeds.values if self.figure.seeds else (self.figure.value,)


def speak_of_methods(rows: Sequence[tuple[Trainings, bool]]) -> bool:
    """Whether at least two rows have the trainings that a claim about a method needs.

    Args:
        rows: Each row, and whether it competes.
    """
    return sum(competes and len(row.results) >= SEEDS_FOR_METHODS for row, competes in rows) > 1


# Against the original -------------------------------------------------------------------------------------


def against_original(
    entries: Sequence[Entry], original: Trainings | None, name: str
) -> list[StandingFigure | None]:
    """Every row's figure with its paired test against `original`, Holm-corrected over the rows.

    Args:
        entries: All rows but `original`.
        original: The unerased model; None where it is not in the table.
        name: Of the figure.
    """
    figures = [entry.figure for entry in entries]
    tested = [
        place for place, figure in enumerate(figures) if figure is not None and figure.value is not None
    ]
    p_values = _p_to_original([entries[place] for place in tested], original, name)
    known = {place: p for place, p in zip(tested, p_values, strict=True) if p is not None}
    corrected = holm(list(known.values()))
    agree = _trainings_agree([entries[place] for place in known], original, name)
    for (place, p), p_holm, agrees in zip(known.items(), corrected, agree, strict=True):
        figure = figures[place]
        assert figure is not None
        differs = p_holm < LEVEL and agrees is not False
        figures[place] = replace(figure, p_value=p, p_holm=p_holm, differs=differs, trainings_agree=agrees)
    return figures


def _p_to_original(entries: Sequence[Entry], original: Trainings | None, name: str) -> list[float | None]:
    """The stored test of a single training; of several, the test over the pictures of all."""
    found = [entry.figure.p_value if entry.figure else None for entry in entries]
    theirs = None if original is None else original.pictures(name)
    pooled = [
        place
        for place, entry in enumerate(entries)
        if entry.figure and entry.figure.seeds and entry.figure.n is not None
    ]
    if theirs is None:
        return found
    p_values = paired_p_values(theirs, [entries[place].row.pictures(name) for place in pooled])
    for place, p in zip(pooled, p_values, strict=True):
        found[place] = p
    return found


def _trainings_agree(entries: Sequence[Entry], original: Trainings | None, name: str) -> list[bool | None]:
    """Whether the trainings differ from the original; None where too few of them speak of their method."""
    measured = [] if original is None else original.measured(name)
    if not measured:
        return [None] * len(entries)
    theirs = [float(each["value"]) for each in measured]
    differ = trainings_differ(theirs, [entry.by_seed for entry in entries])
    return [
        differs if len(entry.by_seed) >= SEEDS_FOR_METHODS else None
        for entry, differs in zip(entries, differ, strict=True)
    ]


# Among each other -----------------------------------------------------------------------------------------


def with_best(entries: Sequence[Entry], name: str, *, of_methods: bool) -> list[StandingFigure | None]:
    """Marks the best row of a figure and the rows that are not surely worse.

    Args:
        entries: All rows.
        name: Of the figure.
        of_methods: Whether only rows with enough trainings compete; see `speak_of_methods`.
    """
    figures = [entry.figure for entry in entries]
    places = [place for place, entry in enumerate(entries) if _competes(entry, of_methods)]
    if len(places) < 2:
        return figures
    lower = entries[places[0]].figure.direction == "lower"  # type: ignore[union-attr]
    values = {place: (1 if lower else -1) * (entries[place].value or 0.0) for place in places}
    first = min(places, key=values.__getitem__)
    tied = [first, *_not_worse(entries, first, [at for at in places if at != first], name, of_methods)]
    for place in places:
        figure = figures[place]
        assert figure is not None
        best, same = values[place] == values[first], len(tied) > 1 and place in tied
        if best or same:
            figures[place] = replace(figure, best=best, tied=same)
    return figures


def _competes(entry: Entry, of_methods: bool) -> bool:
    if not entry.competes or entry.figure is None or entry.figure.value is None:
        return False
    enough = len(entry.by_seed) >= SEEDS_FOR_METHODS or not of_methods
    return enough and entry.figure.direction != "none"


def _not_worse(
    entries: Sequence[Entry], first: int, others: Sequence[int], name: str, of_methods: bool
) -> list[int]:
    """Rows that are not surely worse than the first."""
    best = entries[first]
    corrected = holm(_p_to_best(best, [entries[place] for place in others], name))
    apart = [True] * len(others)
    if of_methods:
        apart = trainings_differ(best.by_seed, [entries[place].by_seed for place in others])
    found = zip(others, corrected, apart, strict=True)
    return [place for place, p_holm, differ in found if p_holm >= LEVEL or not differ]


def _p_to_best(best: Entry, others: Sequence[Entry], name: str) -> list[float]:
    """From the pictures where both have the same ones, else from the two intervals."""
    ours = best.row.pictures(name)
    found = [entry.row.pictures(name) for entry in others]
    paired = paired_p_values(ours, found) if ours is not None else [None] * len(others)
    return [
        p if p is not None else interval_p_value(best.figure, entry.figure)
        for p, entry in zip(paired, others, strict=True)
    ]


# Tests ----------------------------------------------------------------------------------------------------


def paired_p_values(first: Pictures, others: Sequence[Pictures | None]) -> list[float | None]:
    """Tests one row against each of several on the same prompts, trainings weighted alike.

    Args:
        first: Pictures of the one row.
        others: Of the others.

    Returns:
        Two-sided p-values; None where a row has none, or of other prompts.
    """
    import numpy as np

    p_values: list[float | None] = [None] * len(others)
    differences: dict[int, NDArray[np.float64]] = {}
    for place, other in enumerate(others):
        if other is not None and other.prompts is not None and other.prompts == first.prompts:
            # Whole numbers stay whole where the two have different numbers of trainings.
            differences[place] = first.hits * len(other.sums) - other.hits * len(first.sums)
    if differences:
        found = flip_p_values(np.stack(list(differences.values())))
        for place, p in zip(differences, found, strict=True):
            p_values[place] = p
    return p_values


def interval_p_value(first: StandingFigure | None, second: StandingFigure | None) -> float:
    """Of figures that are not made picture by picture: from their intervals, as if these were independent.

    Rows share their prompts, so that this errs towards ties. 1 where an interval is missing.
    """
    from scipy.special import ndtr

    if first is None or second is None or None in (first.low, first.high, second.low, second.high):
        return 1.0
    lower, upper = sorted((first, second), key=lambda figure: figure.value or 0.0)
    up, down = (upper.value - upper.low), (lower.high - lower.value)  # type: ignore[operator]
    half = (up**2 + down**2) ** 0.5
    apart = upper.value - lower.value  # type: ignore[operator]
    if half == 0:
        return 0.0 if apart > 0 else 1.0
    return float(2 * ndtr(-NORMAL * apart / half))


def trainings_differ(first: Sequence[float], others: Sequence[Sequence[float]]) -> list[bool]:
    """Whether all trainings of one side are better than all of another, and surely so.

    The test is that of `zbench.report.pairing.seed_test`, of many rows at once and uncorrected: few trainings
    have no power to spare, and the pictures are corrected for the number of rows.

    Args:
        first: Value of each training of the one side.
        others: Of each other side.
    """
    import numpy as np
    from scipy.stats import ttest_ind_from_stats

    if not others:
        return []
    one, many = _summary(first), np.array([_summary(other) for other in others]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = ttest_ind_from_stats(*one, *many, equal_var=False).pvalue
    # Without any spread the values themselves decide.
    sure = np.isnan(p_values) | (p_values < LEVEL)
    apart = [max(first) < min(other) or max(other) < min(first) for other in others]
    return [bool(both) for both in sure & np.array(apart)]


def _summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation and number; with no spread Welch's test is Student's of the other side."""
    mean = sum(values) / len(values)
    if max(values) == min(values):
        return values[0], 0.0, 2.0
    return mean, (spread(values) * len(values)) ** 0.5, float(len(values))
