"""Two erased models on the same prompts and seeds, picture by picture, and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zbench.statistics import (
    CONFIDENCE,
    difference_of_means,
    difference_of_rates,
    holm,
    mcnemar_exact,
    sign_flip_test,
)

LEVEL = 1 - CONFIDENCE
_ROUNDING = 1e-9


def paired_rates(first: Sequence[bool], second: Sequence[bool]) -> dict[str, Any]:
    """First rate minus second, one pair of outcomes for each prompt.

    Returns:
        ``value``, ``low`` and ``high`` (95 %, not corrected), ``only_first``, ``only_second``, ``pairs`` and
        the ``p`` of McNemar's exact test; all but the counts None without pairs.

    Raises:
        ValueError: The two are not equally long.
    """
    test = mcnemar_exact(first, second)
    counts = {"only_first": test.only_first, "only_second": test.only_second, "pairs": test.pairs}
    if not first:
        return {"value": None, "low": None, "high": None, "p": None, **counts}
    return {**_difference(difference_of_rates(first, second)), "p": test.p_value, **counts}


def paired_means(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """First mean minus second, one pair of values for each prompt; ``p`` by sign flips, see `paired_rates`.

    Raises:
        ValueError: The two are not equally long, or a value is not finite.
    """
    if not first and not second:
        return {"value": None, "low": None, "high": None, "p": None, "pairs": 0}
    test = sign_flip_test(first, second, range(len(first)))
    return {**_difference(difference_of_means(first, second)), "p": test.p_value, "pairs": test.pairs}


def correct(family: Iterable[dict[str, Any]]) -> None:
    """Gives every row of a family of tests its Holm-corrected p as ``adjusted``.

    Rows without p could not be tested and get None; they count as members, so that what could not be tested
    makes no other test easier.
    """
    rows = list(family)
    tests = [row["p"] for row in rows]
    for row, corrected in zip(rows, holm([1.0 if p is None else p for p in tests]), strict=True):
        row["adjusted"] = None if row["p"] is None else corrected


def significant(row: Any) -> bool:
    """Whether a corrected test differs from zero."""
    return row["adjusted"] is not None and row["adjusted"] < LEVEL


def _difference(found: Any) -> dict[str, Any]:
    """Plain; without bounds where they coincide, as those of equal differences do."""
    bounds = found.interval
    known = bounds is not None and bounds.high - bounds.low > _ROUNDING
    low, high = (float(bounds.low), float(bounds.high)) if known else (None, None)
    return {"value": float(found.value), "low": low, "high": high}
