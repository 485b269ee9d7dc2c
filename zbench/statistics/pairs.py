"""Two erasures on the same prompts and seeds: tests, differences with intervals, ties.

All functions take values in the same order for both; several pictures of a prompt are one cluster.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from zbench.statistics.clusters import cluster_sums, effective_total
from zbench.statistics.rates import CONFIDENCE, Interval
from zbench.statistics.resampling import RESAMPLES, cluster_bootstrap_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Key = TypeVar("_Key", bound=Hashable)
FLIPS = 9999
"""Random sign flips where trying all of them would be more."""

_BATCH = 2_000_000
"""Flipped prompts held in memory at once."""


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two erasures on the same prompts and seeds.

    Attributes:
        only_first: Pairs in which only the first hit (of continuous values: is larger).
        only_second: Pairs in which only the second hit (is larger).
        pairs: All pairs.
        p_value: Two-sided.
        test: Its name, as a table may print it.
    """

    only_first: int
    only_second: int
    pairs: int
    p_value: float
    test: str


@dataclass(frozen=True)
class Difference:
    """First minus second, over the same pictures.

    Attributes:
        value: Difference of the two rates or means.
        pairs: Number of pictures.
        clusters: Number of prompts.
        interval: None where a single prompt leaves it unknown.
    """

    value: float
    pairs: int
    clusters: int
    interval: Interval | None


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Exact McNemar test of paired outcomes, one pair for each prompt.

    Raises:
        ValueError: The two are not equally long.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    only_first, only_second = _discordant(first, second)
    both = sum(bool(a and b) for a, b in zip(first, second, strict=True))
    table = [[both, only_first], [only_second, len(first) - both - only_first - only_second]]
    p_value = float(mcnemar(table, exact=True).pvalue) if only_first + only_second else 1.0
    return PairedTest(only_first, only_second, len(first), min(p_value, 1.0), "McNemar exact")


def paired_test(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable]) -> PairedTest:
    """Exact McNemar where every prompt has one pair, else sign flips of whole prompts.

    With repetitions the pairs of a prompt are not independent; flipping the sign of a prompt's summed
    difference as a whole keeps the level, and equals McNemar's test where clusters have one member.
    """
    if len(set(clusters)) == len(clusters):
        return mcnemar_exact(first, second)
    return sign_flip_test([float(bool(a)) for a in first], [float(bool(b)) for b in second], clusters)


def sign_flip_test(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable]
) -> PairedTest:
    """Scipy's paired permutation test of each prompt's summed difference; exact where few differ.

    Args:
        first: N finite values.
        second: N finite values of the same pictures.
        clusters: N cluster labels.

    Raises:
        ValueError: The three are not equally long.
    """
    import numpy as np
    from scipy.stats import permutation_test

    sums = cluster_sums(_differences(first, second), clusters)[0]
    sums = sums[sums != 0]  # flipping nothing changes nothing, and few flips can all be tried
    p_value = 1.0
    if len(sums) > 1:  # a single prompt flips to its mirror image: nothing can be shown
        result = permutation_test(
            (sums,),
            np.sum,
            permutation_type="samples",
            n_resamples=FLIPS,
            batch=max(1, _BATCH // len(sums)),
            rng=np.random.default_rng(0),
        )
        p_value = float(result.pvalue)
    larger = sum(a > b for a, b in zip(first, second, strict=True))
    smaller = sum(a < b for a, b in zip(first, second, strict=True))
    return PairedTest(larger, smaller, len(first), p_value, "sign flips by prompt")


def _differences(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    import numpy as np

    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    return np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)


def _discordant(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int]:
    pairs = list(zip(first, second, strict=True))
    return sum(bool(a and not b) for a, b in pairs), sum(bool(b and not a) for a, b in pairs)


def difference_of_rates(
    first: Sequence[bool],
    second: Sequence[bool],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Paired difference of two rates, first minus second, with Bonett and Price's adjusted interval (2012).

    One pseudo-pair is added to each kind of discordant pair, so that the interval has a width where all pairs
    agree; pairs of one prompt are worth as many independent ones as their cluster-robust variance says.

    Args:
        first: N outcomes.
        second: N outcomes of the same pictures.
        clusters: N cluster labels; None takes every pair for a cluster of its own.
        confidence: Nominal two-sided coverage.

    Raises:
        ValueError: No pairs, or sequences of different lengths.
    """
    if not first:
        raise ValueError("a difference needs at least one pair")
    only_first, only_second = (count / len(first) for count in _discordant(first, second))
    labels = list(range(len(first))) if clusters is None else list(clusters)
    worth = _pairs_behind(_differences(list(map(bool, first)), list(map(bool, second))), labels)
    low, high = difference_bounds(only_first, only_second, worth, confidence)
    interval = Interval(float(low), float(high), "Bonett-Price")
    return Difference(only_first - only_second, len(first), len(set(labels)), interval)


def _pairs_behind(differences: NDArray[np.float64], clusters: Sequence[Hashable]) -> float:
    """Independent pairs that the clustered ones are worth; prompts with a discordant pair tell."""
    sums, sizes = cluster_sums(differences, clusters)
    discordant = cluster_sums(abs(differences), clusters)[0]
    spread = differences.var()
    return float(effective_total(sums, sizes, spread, (discordant > 0).sum()))


def difference_bounds(
    only_first: NDArray[np.float64] | float,
    only_second: NDArray[np.float64] | float,
    pairs: NDArray[np.float64] | float,
    confidence: float = CONFIDENCE,
) -> tuple[Any, Any]:
    """Bonett and Price's bounds, for many differences at once.

    Args:
        only_first: Share of pairs in which only the first hit.
        only_second: Share of pairs in which only the second hit.
        pairs: Independent pairs.
        confidence: Nominal two-sided coverage.
    """
    import numpy as np
    from scipy.stats import norm

    more, fewer = ((share * pairs + 1) / (pairs + 2) for share in (only_first, only_second))
    middle = more - fewer
    half = norm.ppf((1 + confidence) / 2) * np.sqrt((more + fewer - middle**2) / (pairs + 2))
    return np.maximum(middle - half, -1.0), np.minimum(middle + half, 1.0)


def difference_of_means(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Paired difference of two means, first minus second, its pictures' differences resampled by prompt.

    Raises:
        ValueError: No pairs, sequences of different lengths, or values that are not finite.
    """
    differences = _differences(first, second)
    mean = cluster_bootstrap_mean(
        [float(d) for d in differences], clusters, confidence=confidence, resamples=resamples, seed=seed
    )
    return Difference(mean.value, mean.count, mean.clusters, mean.interval)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    As statsmodels' `multipletests` has them, which collects all garbage of the process at every call.
    """
    import numpy as np

    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in corrected]


def ties_with_best(
    rows: Mapping[_Key, Sequence[float]],
    clusters: Sequence[Hashable],
    *,
    lower_is_better: bool,
    level: float = 1 - CONFIDENCE,
) -> dict[_Key, bool]:
    """Which rows cannot be told from the best one.

    Args:
        rows: Row -> N outcomes (bool) or values (float) of the same pictures in the same order.
        clusters: N cluster labels.
        lower_is_better: Direction of the figure.
        level: Of the paired tests against the best row, Holm-corrected over the other rows.

    Returns:
        Row -> whether it is the best or tied with it; empty without rows or pictures.
    """
    if not rows or not clusters:
        return {}
    sign = 1.0 if lower_is_better else -1.0
    best = min(rows, key=lambda row: sign * sum(map(float, rows[row])))
    others = [row for row in rows if row != best]
    corrected = holm([_p_value(rows[best], rows[row], clusters) for row in others])
    return {best: True} | {row: p >= level for row, p in zip(others, corrected, strict=True)}


def _p_value(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """McNemar for outcomes, sign flips for values."""
    outcomes = all(value in (0, 1) for value in (*first, *second))
    if outcomes:
        return paired_test([bool(v) for v in first], [bool(v) for v in second], clusters).p_value
    return sign_flip_test(first, second, clusters).p_value
