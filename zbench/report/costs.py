"""Costs of erasures and attacks: as far as they are numbers, which a result file does not promise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def mean_costs(costs: Iterable[Mapping[str, Any] | None]) -> dict[str, float]:
    """Mean of every cost over those that say it; what is no finite number is left out.

    Args:
        costs: Name -> cost, of each training.
    """
    known: dict[str, list[float]] = {}
    for cost in costs:
        for name, number in finite_costs(cost).items():
            known.setdefault(name, []).append(number)
    means = {name: sum(values) / len(values) for name, values in sorted(known.items())}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def finite_costs(cost: Mapping[str, Any] | None) -> dict[str, float]:
    """The costs that are finite numbers.

    Args:
        cost: Name -> cost; None for none.
    """
    found = {name: _finite(value) for name, value in (cost or {}).items()}
    return {name: number for name, number in found.items() if number is not None}


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number with hundreds of digits
        return None
    return number if math.isfinite(number) else None
