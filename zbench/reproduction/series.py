"""One column of one row as it was measured: value, interval, trainings, and the pictures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zbench.report.pooling import pooled
from zbench.reproduction.tables import ORIGINAL, Column

if TYPE_CHECKING:
    from zbench.report.standing import StandingFigure
    from zbench.report.trainings import Trainings
    from zbench.reproduction.reading import Measured
    from zbench.results.schema import PublishedResult

_NORMAL = 1.959963984540054
"""Half width of a 95 % interval in standard errors."""

Pictures = tuple[list[list[float]], list[tuple[str, int]]]
"""For each training the values of N pictures, and the prompts that these belong to."""


@dataclass(frozen=True)
class Series:
    """A column of a row.

    Attributes:
        value: Over all trainings and concepts.
        low: Lower bound of its 95 % interval; None where there is none.
        high: Upper bound.
        by_seed: Of each training; one value for what is never trained.
        unit: Of the figure: ``rate`` for shares of pictures, ``count`` for sums over them, ``points`` ...
        n: Pictures counted, over all trainings; None for what is no count.
        N: Pictures looked at.
        trained: Whether there is a training to speak of: `original` has none.
        concepts: Concepts that it is the mean of.
        pictures: What it is made of; None for figures of whole sets.
    """

    value: float
    low: float | None
    high: float | None
    by_seed: tuple[float, ...]
    unit: str
    n: int | None
    N: int
    trained: bool
    concepts: tuple[str, ...]
    pictures: Pictures | None = field(default=None, repr=False)

    @property
    def is_rate(self) -> bool:
        """Whether it is a share of pictures."""
        return self.unit == "rate"


def series_of(measured: Measured, row: str, column: Column, figure: str | None = None) -> Series | None:
    """What was measured of a column for a row.

    Args:
        measured: Of the table.
        row: Name of the row, or ``original``.
        column: The column.
        figure: Another figure of the same runs; the column's own when None.

    Returns:
        None where the domain has no such figure, or where a concept of the column was not measured.
    """
    name = figure or column.figure.get(measured.domain)
    concepts = _concepts(measured, column)
    trainings = [measured.rows.get((row, concept, column.variant)) for concept in concepts]
    known = [each for each in trainings if each is not None]
    if name is None or not known or len(known) < len(concepts):
        return None
    figures = [pooled([each], name)[0] for each in known]
    found = [each for each in figures if each is not None and each.value is not None]
    return _series(row, concepts, known, found, name) if len(found) == len(known) else None


def _concepts(measured: Measured, column: Column) -> tuple[str, ...]:
    domain = measured.table.domain(measured.domain)
    return tuple(concept for part in column.part for concept in domain.concepts[part])


def _series(
    row: str,
    concepts: tuple[str, ...],
    known: Sequence[Trainings],
    found: Sequence[StandingFigure],
    name: str,
) -> Series | None:
    seeds = [_by_seed(each, name) for each in known]
    shared = sorted(set.intersection(*(set(of) for of in seeds)))
    if not shared:
        return None
    low, high = _bounds(found)
    counted = all(each.n is not None for each in found)
    return Series(
        value=sum(each.value or 0.0 for each in found) / len(found),
        low=low,
        high=high,
        by_seed=tuple(sum(of[seed] for of in seeds) / len(seeds) for seed in shared),
        unit=found[0].unit,
        n=sum(each.n or 0 for each in found) if counted else None,
        N=sum(each.N for each in found),
        trained=row != ORIGINAL,
        concepts=concepts,
        pictures=_pictures(known, name),
    )


def _by_seed(trainings: Trainings, name: str) -> dict[int, float]:
    """Training seed -> value; what is never trained has the seed -1."""
    pairs = zip(trainings.results, trainings.figures, strict=True)
    seeds = {-1 if (seed := result.result.spec.training_seed) is None else seed: of for result, of in pairs}
    return {seed: float(of[name]["value"]) for seed, of in seeds.items() if _is_there(of, name)}


def _is_there(figures: Mapping[str, Mapping[str, object]], name: str) -> bool:
    return name in figures and figures[name]["value"] is not None


def _bounds(found: Sequence[StandingFigure]) -> tuple[float | None, float | None]:
    """Of one concept its own interval; of several that of the mean, their variances added up."""
    if any(each.low is None or each.high is None for each in found):
        return None, None
    if len(found) == 1:
        return found[0].low, found[0].high
    variance = sum((((each.high or 0.0) - (each.low or 0.0)) / 2 / _NORMAL) ** 2 for each in found)
    mean, half = sum(each.value or 0.0 for each in found) / len(found), _NORMAL * variance**0.5 / len(found)
    return mean - half, mean + half


def _pictures(known: Sequence[Trainings], name: str) -> Pictures | None:
    """Side by side over the concepts, training by training; None where some have more trainings."""
    parts = [_of_concept(each, name) for each in known]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len({len(values) for values, _ in found}) != 1:
        return None
    by_training = zip(*(values for values, _ in found), strict=True)
    values = [[value for part in each for value in part] for each in by_training]
    return values, [prompt for _, prompts in found for prompt in prompts]


def _of_concept(trainings: Trainings, name: str) -> Pictures | None:
    rows: list[list[float]] = []
    prompts: list[tuple[str, int]] | None = None
    for result in trainings.results:
        outcomes, repetitions = result.outcomes.get(name), result.result.spec.repetitions
        if outcomes is None:
            return None
        numbers = outcomes.numbers
        whose = " ".join([result.concept.name, *(_prompt_set(result, role) for role in outcomes.roles)])
        own = [(whose, place // repetitions) for place, value in enumerate(numbers) if value is not None]
        if prompts not in (None, own):
            return None
        rows, prompts = [*rows, [float(v) for v in numbers if v is not None]], own
    return (rows, prompts) if prompts else None


def _prompt_set(result: PublishedResult, role: str) -> str:
    """A role with the hash of its prompts: pictures are compared where they show the same prompt."""
    return f"{role}:{result.prompts[role].sha256}" if role in result.prompts else role
