"""Two erasures, or all pairs of several: which differ beyond their noise, and which are shown to be alike.

That two do not differ significantly does not make them equal: equal within a margin they are where the whole
interval of their difference lies within it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from zbench.statistics import CONFIDENCE, difference_of_rates, holm, paired_test
from zbench.statistics.pairs import difference_bounds
from zbench.studies.convergence.claim import FAILS, HOLDS, OPEN, Measured, Verdict
from zbench.studies.convergence.noise import TINY, Noise, log_loss

SUCCESS_MARGIN = 0.10
"""Success rates less than so much apart are taken for alike."""

LOSS_MARGIN = 2.0
"""Losses less than this factor apart are taken for alike."""

Course = Literal["rises", "falls", "flat", "mixed"]


@dataclass(frozen=True)
class Change:
    """From one erasure to another.

    Attributes:
        sign: 1 where the second has more, -1 where it has less, 0 for neither.
        p_value: Two-sided.
    """

    sign: int
    p_value: float


Compare = Callable[[Measured, Measured], Change]


def success_change(first: Measured, second: Measured) -> Change:
    """From one success rate to another, by the paired test over the same prompts.

    A picture of a broken generator shows nothing: where the lower rate is that of a collapsed erasure, no
    change counts.
    """
    ours, theirs, prompts = _pairs(first, second)
    test = paired_test(ours, theirs, prompts)
    sign = _sign(test.only_second - test.only_first)
    lower = second if sign < 0 else first
    return Change(0, 1.0) if sign and lower["collapsed"] else Change(sign, test.p_value)


def loss_change(noise: Noise) -> Compare:
    """From one L_pr to another, against the noise over training seeds."""

    def change(first: Measured, second: Measured) -> Change:
        moved = log_loss(second["last_preserve"]) - log_loss(first["last_preserve"])
        return Change(_sign(moved), noise.ratio.p_value(moved))

    return change


def significant(changes: Sequence[Change]) -> list[int]:
    """Signs of the changes, 0 for those within the noise; Holm over the whole family."""
    corrected = holm([change.p_value for change in changes])
    return [change.sign if p < 1 - CONFIDENCE else 0 for change, p in zip(changes, corrected, strict=True)]


def course(runs: Sequence[Measured], compare: Compare) -> Course:
    """How a figure goes over some erasures: every pair is compared, Holm over all of them.

    Args:
        runs: In their order.
        compare: `success_change`, or a `loss_change`.
    """
    signs = significant([compare(a, b) for a, b in combinations(runs, 2)])
    if 1 in signs and -1 in signs:
        return "mixed"
    return "rises" if 1 in signs else "falls" if -1 in signs else "flat"


@dataclass(frozen=True)
class Agreement:
    """Whether some erasures are alike.

    Attributes:
        verdict: ``holds`` where success and L_pr of every pair lie within the margins with their whole
            intervals; ``does not hold`` where one pair lies outside with its whole interval,
            Bonferroni-corrected for the number of pairs.
        low: Least bound of a difference in success.
        high: Greatest.
        factor: Between the largest and the least L_pr.
    """

    verdict: Verdict
    low: float
    high: float
    factor: float


def agreement(runs: Sequence[Measured], noise: Noise) -> Agreement:
    """Whether some erasures are alike in success and in L_pr."""
    pairs = list(combinations(runs, 2))
    plain = [success_bounds(a, b) for a, b in pairs]
    apart = [success_bounds(a, b, len(pairs)) for a, b in pairs]
    factor = max((_factor(a, b) for a, b in pairs), default=1.0)
    alike = all(low >= -SUCCESS_MARGIN and high <= SUCCESS_MARGIN for low, high in plain)
    alike = alike and factor * noise.ratio.factor() <= LOSS_MARGIN
    far = any(low > SUCCESS_MARGIN or high < -SUCCESS_MARGIN for low, high in apart)
    far = far or factor / noise.ratio.factor(len(pairs)) > LOSS_MARGIN
    verdict = OPEN if not pairs else FAILS if far else HOLDS if alike else OPEN
    bounds = [bound for pair in plain for bound in pair]
    return Agreement(verdict, min(bounds, default=0.0), max(bounds, default=0.0), factor)


def as_good_as(run: Measured, other: Measured, noise: Noise) -> bool:
    """Whether one erasure is shown to be no worse than another by more than the margins, in both figures."""
    if run["collapsed"] and not other["collapsed"]:
        return False
    ratio = max(run["last_preserve"], TINY) / max(other["last_preserve"], TINY)
    erases = success_bounds(run, other)[1] <= SUCCESS_MARGIN
    return bool(erases and ratio * noise.ratio.factor() <= LOSS_MARGIN)


def success_bounds(first: Measured, second: Measured, comparisons: int = 1) -> tuple[float, float]:
    """Interval of the first success rate minus the second, paired; Bonferroni's for several comparisons."""
    confidence = 1 - (1 - CONFIDENCE) / max(1, comparisons)
    interval = difference_of_rates(*_pairs(first, second), confidence).interval
    assert interval is not None
    return interval.low, interval.high


def narrowest(prompts: int) -> float:
    """Half the width of the interval of a difference in success where every prompt agrees."""
    return float(difference_bounds(0.0, 0.0, prompts)[1])


def rate(run: Measured) -> str:
    """A success rate with its counts."""
    return f"{run['found']}/{run['asked']}"


def rates(runs: Iterable[Measured]) -> str:
    """Some success rates with their counts."""
    return ", ".join(rate(run) for run in runs)


def _pairs(first: Measured, second: Measured) -> tuple[list[bool], list[bool], list[str]]:
    """Outcomes of both on the same pictures, and the pictures' prompts.

    Raises:
        ValueError: The prompts are not the same ones.
    """
    if first["prompts"] != second["prompts"]:
        raise ValueError("erasures that were measured on different prompts cannot be paired")
    return [bool(hit) for hit in first["hits"]], [bool(hit) for hit in second["hits"]], list(first["prompts"])


def _factor(first: Measured, second: Measured) -> float:
    return math.exp(abs(log_loss(first["last_preserve"]) - log_loss(second["last_preserve"])))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
