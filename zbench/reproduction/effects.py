"""How two series differ: over their pictures where there are any, and over their trainings.

What is said about a *method* must hold over its trainings as well as over the prompts, so that the interval
of a difference is the wider of both, and its p-value the larger one. Figures of whole sets (FID, H_a, counts
of detections) have no pictures to pair: in their place stand both sides' own intervals, as if independent.
Differences are in percent of the unerased model's value, which is taken as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zbench.report.pairing import SEEDS_FOR_METHODS, difference_and_test, seed_test

if TYPE_CHECKING:
    from zbench.reproduction.series import Series

LEVEL = 0.05


@dataclass(frozen=True)
class Effect:
    """First minus second.

    Attributes:
        value: In percent of the unerased model's value.
        errors: Standard errors with their degrees of freedom: over trainings, and over prompts, or of both
            sides' own intervals where there are no pictures to pair.
        p_value: The larger one of the tests; two-sided.
        test: Their names.
        separate: Whether all trainings of one side lie beyond all of the other.
        trainings: Of both sides; None for what is never trained.
    """

    value: float
    errors: tuple[tuple[float, float], ...]
    p_value: float
    test: str
    separate: bool
    trainings: tuple[int | None, int | None]

    @property
    def speaks_for_methods(self) -> bool:
        """Whether both sides have trainings enough."""
        return all(count is None or count >= SEEDS_FOR_METHODS for count in self.trainings)

    def interval(self, confidence: float = 1 - LEVEL) -> tuple[float, float]:
        """The wider of the intervals over trainings and over prompts (or from both sides' own intervals).

        Args:
            confidence: Nominal two-sided coverage.
        """
        from scipy.stats import t

        level = (1 + confidence) / 2
        half = max(float(t.ppf(level, freedom)) * error if error else 0.0 for error, freedom in self.errors)
        return self.value - half, self.value + half


def effect(first: Series, second: Series, whole: float) -> Effect:
    """How two series differ.

    Args:
        first: One series.
        second: Another one, of the same prompts.
        whole: The unerased model's value, which is 100 %.
    """
    scale = 100 / abs(whole)
    of_seeds = seed_test(first.by_seed, second.by_seed)
    of_trainings = _over_trainings(first, second)
    error, p_value, test = _over_prompts(first, second) or _from_intervals(first, second)
    return Effect(
        value=scale * (first.value - second.value),
        errors=tuple((scale * each, freedom) for each, freedom in (of_trainings, (error, math.inf))),
        p_value=max(of_seeds.p_value, p_value),
        test=f"{of_seeds.test}, {test}",
        separate=of_seeds.separate,
        trainings=tuple(len(each.by_seed) if each.trained else None for each in (first, second)),  # type: ignore[arg-type]
    )


def _over_trainings(first: Series, second: Series) -> tuple[float, float]:
    """Welch's standard error and degrees of freedom; what is the same in every training adds nothing."""
    parts = [_variance(each.by_seed) for each in (first, second)]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0, math.inf
    freedom = total**2 / sum(variance**2 / free for variance, free in parts if variance)
    return math.sqrt(total), freedom


def _variance(values: tuple[float, ...]) -> tuple[float, int]:
    """Of the mean, with its degrees of freedom."""
    if len(values) < 2:
        return 0.0, 1
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values), len(values) - 1


def _over_prompts(first: Series, second: Series) -> tuple[float, float, str] | None:
    """Standard error, p-value and test of the pictures in pairs; None where there are no pairs."""
    if first.pictures is None or second.pictures is None or first.pictures[1] != second.pictures[1]:
        return None
    (ours, prompts), (theirs, _) = first.pictures, second.pictures
    difference, test = difference_and_test(ours, theirs, prompts, first.is_rate and second.is_rate)
    if difference.interval is None:
        return None
    return _error(difference.interval.low, difference.interval.high), test.p_value, test.test


def _from_intervals(first: Series, second: Series) -> tuple[float, float, str]:
    """For figures of whole sets: as if the two intervals were independent.

    Both sides share their prompts, so that this errs towards no difference. Without it, trainings that come
    out nearly the same would make any difference certain.
    """
    from scipy.stats import norm

    test = "intervals of both, as if independent"
    bounds = [(each.low, each.high) for each in (first, second)]
    known = [(low, high) for low, high in bounds if low is not None and high is not None]
    if len(known) < len(bounds):
        return math.inf, 1.0, "no intervals"
    error = math.hypot(*(_error(low, high) for low, high in known))
    apart = abs(first.value - second.value)
    return error, float(2 * norm.sf(apart / error)) if error else float(apart == 0), test


def _error(low: float, high: float) -> float:
    return (high - low) / 2 / 1.959963984540054
