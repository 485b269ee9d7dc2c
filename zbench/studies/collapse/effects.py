"""What each factor does to a figure: a linear model over the runs of the factorial (statsmodels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from zbench.statistics import CONFIDENCE
from zbench.studies.collapse.plan import FACTORS, changes, naive_of
from zbench.studies.paired import correct

Row = Mapping[str, Any]

RESPONSES = {
    "flagged": "flagged pictures of unrelated prompts",
    "objects": "unrelated objects found",
    "success": "concept found (success rate)",
}

EXACT = 1e-12
"""A variance of shares below this is rounding: even shares of thousands of pictures lie further apart."""


def response(reading: Row, concept: str, name: str) -> float:
    """A figure of a reading as a share in [0, 1].

    Args:
        reading: As `Reader.read` records it.
        concept: Whose success rate is meant.
        name: One of `RESPONSES`.
    """
    row = reading["found"][concept] if name == "success" else reading[name]
    return float(row["n"] / row["N"]) if row["N"] else 0.0


def all_effects(rows: Sequence[Row], concept: str, scales: tuple[str, str]) -> dict[str, Any]:
    """Effects on every figure, Holm-corrected.

    Two families for each figure, over both strengths: the main effects, and the two-factor interactions.

    Args:
        rows: The study's `runs`.
        concept: Whose success rate is meant.
        scales: As trained, and the release's.

    Returns:
        Figure -> ``by_scale`` (strength -> `effects` with ``adjusted``, see `zbench.studies.paired.correct`),
        ``scale`` (`scale_effect`) and ``seeds`` (strength -> the figure of the naive run, training seed by
        training seed).
    """
    factorial = [row for row in rows if row["group"] == "factorial"]
    settings = [row["run"] for row in factorial]
    return {
        name: _effects_on(settings, _values(factorial, concept, scales, name))
        | {"seeds": _values(_repeats(rows), concept, scales, name)}
        for name in RESPONSES
    }


def effects(settings: Sequence[Row], values: Sequence[float]) -> list[dict[str, Any]]:
    """Main effects and two-factor interactions, least squares with effect coding.

    A main effect is the mean at the suspected level minus the mean at the other one, over all levels of the
    other factors. Runs are the units; what is left over is the error: interactions of three and more factors,
    which one training seed cannot tell from noise, and training seeds where there are several.

    Args:
        settings: The factors' levels of every run.
        values: The figure of every run.

    Returns:
        Term, estimate, interval and p; the last two None where nothing is left over to measure noise by: no
        more runs than terms, or an exact fit.
    """
    import numpy as np
    import statsmodels.api as sm

    columns = _columns(settings)
    table = sm.add_constant(np.stack(list(columns.values()), axis=1))
    fitted = sm.OLS(np.asarray(values, dtype=np.float64), table).fit()
    noisy = fitted.df_resid > 0 and fitted.mse_resid > EXACT
    bounds = fitted.conf_int(alpha=1 - CONFIDENCE) if noisy else None
    return [
        {
            "term": term,
            "estimate": float(fitted.params[place]),
            "low": None if bounds is None else float(bounds[place][0]),
            "high": None if bounds is None else float(bounds[place][1]),
            "p": float(fitted.pvalues[place]) if noisy else None,
        }
        for place, term in enumerate(columns, start=1)
    ]


def scale_effect(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    """Mean change from one strength to another over the same runs, with its t interval.

    Without interval where all runs change alike, or where there is one run only.
    """
    import numpy as np
    from statsmodels.stats.weightstats import DescrStatsW

    changed = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    found: dict[str, Any] = {"estimate": float(changed.mean()), "low": None, "high": None}
    if changed.var() > EXACT:
        low, high = DescrStatsW(changed).tconfint_mean(alpha=1 - CONFIDENCE)
        found |= {"low": float(low), "high": float(high)}
    return found


def _effects_on(settings: Sequence[Row], values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    by_scale = {scale: effects(settings, each) for scale, each in values.items()}
    terms = [term for found in by_scale.values() for term in found]
    for main in (True, False):
        correct(term for term in terms if (term["term"] in FACTORS) is main)
    strengths = list(values.values())
    return {"by_scale": by_scale, "scale": scale_effect(strengths[0], strengths[-1])}


def _values(rows: Sequence[Row], concept: str, scales: Sequence[str], name: str) -> dict[str, list[float]]:
    return {
        scale: [response(row["readings"][scale], concept, name) for row in rows]
        for scale in dict.fromkeys(scales)
    }


def _repeats(rows: Sequence[Row]) -> list[Row]:
    """The naive run with each of its training seeds."""
    naive = naive_of(rows)["run"]
    return [row for row in rows if not changes(row["run"], naive)]


def _columns(settings: Sequence[Row]) -> dict[str, Any]:
    """Effect-coded columns: -1/2 and 1/2, products doubled, so that every coefficient is a difference."""
    import numpy as np

    single = {
        factor: np.asarray([0.5 if row[factor] == suspected else -0.5 for row in settings])
        for factor, (_, suspected) in FACTORS.items()
    }
    pairs = {f"{a} x {b}": 2 * single[a] * single[b] for a, b in combinations(single, 2)}
    return {**single, **pairs}
