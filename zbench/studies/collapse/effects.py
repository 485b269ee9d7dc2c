"""What each factor does to a figure: a linear model over the runs of the factorial (statsmodels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from zbench.studies.collapse.plan import FACTORS

Row = Mapping[str, Any]

RESPONSES = {
    "flagged": "flagged pictures of unrelated prompts",
    "objects": "unrelated objects found",
    "success": "concept found (success rate)",
}
CONFIDENCE = 0.95


def response(reading: Row, concept: str, name: str) -> float:
    """A figure of a reading as a share in [0, 1].

    Args:
        reading: As `Reader.read` records it.
        concept: Whose success rate is meant.
        name: One of `RESPONSES`.
    """
    row = reading["found"][concept] if name == "success" else reading[name]
    return float(row["n"] / row["N"]) if row["N"] else 0.0


def effects(settings: Sequence[Row], values: Sequence[float]) -> list[dict[str, Any]]:
    """Main effects and two-factor interactions, least squares with effect coding.

    A main effect is the mean at the suspected level minus the mean at the other one, over all levels of the
    other factors. Runs are the units; what is left over (interactions of three and more factors, and training
    seeds) is the error.

    Args:
        settings: The factors' levels of every run.
        values: The figure of every run.

    Returns:
        Term, estimate, interval and p; without interval where all runs have the same value.
    """
    import numpy as np
    import statsmodels.api as sm

    columns = _columns(settings)
    if np.ptp(values) == 0:
        return [{"term": term, "estimate": 0.0, "low": None, "high": None, "p": None} for term in columns]
    table = sm.add_constant(np.stack(list(columns.values()), axis=1))
    fitted = sm.OLS(np.asarray(values, dtype=np.float64), table).fit()
    bounds = fitted.conf_int(alpha=1 - CONFIDENCE)
    return [
        {
            "term": term,
            "estimate": float(fitted.params[place]),
            "low": _finite(bounds[place][0]),
            "high": _finite(bounds[place][1]),
            "p": _finite(fitted.pvalues[place]),
        }
        for place, term in enumerate(columns, start=1)
    ]


def scale_effect(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    """Mean change from one strength to another over the same runs, with its t interval."""
    import numpy as np
    from statsmodels.stats.weightstats import DescrStatsW

    changes = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    found: dict[str, Any] = {"estimate": float(changes.mean()), "low": None, "high": None}
    if np.ptp(changes) > 0:
        low, high = DescrStatsW(changes).tconfint_mean(alpha=1 - CONFIDENCE)
        found |= {"low": float(low), "high": float(high)}
    return found


def _columns(settings: Sequence[Row]) -> dict[str, Any]:
    """Effect-coded columns: -1/2 and 1/2, products doubled, so that every coefficient is a difference."""
    import numpy as np

    single = {
        factor: np.asarray([0.5 if row[factor] == suspected else -0.5 for row in settings])
        for factor, (_, suspected) in FACTORS.items()
    }
    pairs = {f"{a} x {b}": 2 * single[a] * single[b] for a, b in combinations(single, 2)}
    return {**single, **pairs}


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None
