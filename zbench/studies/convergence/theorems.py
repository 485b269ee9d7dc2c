"""What the theorems say: the proxy's error, the drift of L_pr, stationarity. Arithmetic on traces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, linear_regression, median
from typing import Any

from zbench.studies.convergence.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Measured,
    Row,
    Statement,
    Verdict,
    span,
)
from zbench.studies.convergence.noise import Noise

PROXY = Statement("proxy error", "The proxy gradient is off by at most G alpha/2 ‖d‖².")
DRIFT = Statement("drift", "The preservation loss drifts by no more than O(t epsilon alpha).")
STATIONARITY = Statement(
    "stationarity", "With diminishing steps the least ‖d_t‖ tends to zero (Pareto stationarity)."
)

ROUNDING = 1e-6
"""Relative rounding error allowed to a loss in single precision."""

_STEADY = 0.1
"""A product that grows by no more than this share has stopped growing."""


@dataclass(frozen=True)
class ProxyPoint:
    """One step at which the proxy and the constraint are both known.

    Attributes:
        error: |g~ - g|.
        half_square: alpha / 2 ||d||^2, which the bound multiplies by G.
        constraint: g.
        proxy: g~.
        rounding: How much of the error single precision alone may make.
    """

    error: float
    half_square: float
    constraint: float
    proxy: float
    rounding: float


def proxy_points(trace: Sequence[Row]) -> list[ProxyPoint]:
    """The steps of a watched training at which both are known and the parameters moved."""
    found = []
    for row in trace:
        if {"constraint", "constraint_proxy"} <= row.keys() and row["direction_norm"] > 0:
            alpha = row["learning_rate"]
            found.append(
                ProxyPoint(
                    error=abs(row["constraint_proxy"] - row["constraint"]),
                    half_square=alpha / 2 * row["direction_norm"] ** 2,
                    constraint=row["constraint"],
                    proxy=row["constraint_proxy"],
                    rounding=ROUNDING * max(row["preserve"], row["preserve_after"]) / alpha,
                )
            )
    return found


def lipschitz(trace: Sequence[Row]) -> float | None:
    """The largest local Lipschitz constant G of grad L_pr that was found along a training; None for none."""
    found = [row["curvature"] for row in trace if math.isfinite(row.get("curvature", math.nan))]
    return max((value for value in found if value > 0), default=None)


def judge_proxy(optimiser: str, traces: Mapping[str, Sequence[Row]]) -> Claim:
    """|g~ - g| <= G alpha / 2 ||d||^2 at every step, at every step length tried.

    What is found of G bounds the true constant from below. So a step within the bound is within the true one;
    a step outside it says nothing, since the true G may be larger: the claim is never refuted here.

    Args:
        optimiser: Its name.
        traces: Step length (as shown) -> trace of a watched training.
    """
    rows = {label: _proxy_row(proxy_points(trace), lipschitz(trace)) for label, trace in traces.items()}
    within, total = (sum(row[key] for row in rows.values()) for key in ("within", "steps"))
    verdict = HOLDS if total and within == total else OPEN
    return PROXY.judged(optimiser, verdict, _proxy_text(rows, within, total), {"by_step_length": rows})


def _proxy_text(rows: Mapping[str, Mapping[str, Any]], within: int, total: int) -> str:
    """The usual step length stands first."""
    first = next((row for row in rows.values() if row["steps"]), None)
    if first is None:
        return "There is no step at which both g and g~ are known."
    says = [f"{within} of {total} steps are within the bound, with G as large as it was found."]
    if any(row["G"] is None for row in rows.values()):
        says.append("Where no G above zero was found, no step counts as within.")
    elif within < total:
        says.append("The true G may be larger: the others refute nothing.")
    tight = "" if first["tightness"] is None else f"{100 * first['tightness']:.2g} % of the bound and "
    says.append(
        f"At the usual step length the error is {tight}{100 * first['relative']:.3g} % of g itself (medians);"
        f" g~ has g's sign in {100 * first['same_sign']:.0f} % of steps."
    )
    return " ".join(says)


def _proxy_row(points: Sequence[ProxyPoint], constant: float | None) -> dict[str, Any]:
    if not points:
        return {"G": constant, "steps": 0, "within": 0}
    bounds = [constant * point.half_square for point in points] if constant else []
    inside = sum(p.error <= bound + p.rounding for p, bound in zip(points, bounds, strict=False))
    shares = [p.error / bound for p, bound in zip(points, bounds, strict=False) if bound > 0]
    return {
        "G": constant,
        "steps": len(points),
        "within": inside,
        "tightness": median(shares) if shares else None,
        "relative": median(p.error / max(abs(p.constraint), 1e-12) for p in points),
        "same_sign": fmean((p.proxy < 0) == (p.constraint < 0) for p in points),
        "error": median(p.error for p in points),
        "implied_G": median(p.error / p.half_square for p in points),
    }


def judge_drift(
    optimiser: str,
    runs: Sequence[Measured],
    watched: Sequence[Row],
    settings: Mapping[str, Any],
    noise: Noise,
) -> Claim:
    """L_pr(theta_t) - L_pr(theta_0) <~ O(t epsilon alpha).

    L_pr(theta_0) is 0: the adapters start without effect. With the same points in every step and lambda never
    clamped, the update rule telescopes to L_pr = t epsilon alpha + (alpha / beta) lambda_t: so what is left
    of the drift can be named, not only measured.

    Args:
        optimiser: Its name.
        runs: Measured erasures that differ in epsilon alone.
        watched: Trace of the training that sees the same points in every step.
        settings: Of that training.
        noise: Of the losses.
    """
    constants = {
        f"{run['settings']['epsilon']:g}": run["last_preserve"] / _allowed(run["settings"]) for run in runs
    }
    slope = _slope([(run["settings"]["epsilon"], run["last_preserve"]) for run in runs])
    fixed = same_points_drift(watched, settings)
    late = [(row["step"] + 1, row["preserve_after"]) for row in watched[len(watched) // 4 :]]
    figures = {
        "constants": constants,
        "slope_in_epsilon": slope,
        "slope_in_t": _slope(late),
        "same_points": fixed,
    }
    verdict = _drift_verdict(max(constants.values(), default=math.inf), slope, noise.level.factor())
    because = (
        f"L_pr ends at {span(constants.values())} times t epsilon alpha over the slacks tried, and grows as"
        f" epsilon^{slope:.2f} (the claim: epsilon^1). On fixed points it reaches {fixed['drift']:.3g}, as"
        f" t^{_slope(late):.2f}; t epsilon alpha explains {fixed['t_epsilon_alpha']:.2g} of that,"
        f" (alpha/beta) lambda_t {fixed['alpha_over_beta_lambda']:.2g}."
    )
    return DRIFT.judged(optimiser, verdict, because, figures)


def _drift_verdict(worst: float, slope: float, noise: float) -> Verdict:
    """Whether the largest multiple is at most 1; whether it is far above and does not grow with epsilon.

    Args:
        worst: Largest multiple of t epsilon alpha.
        slope: Exponent with which L_pr grows in epsilon.
        noise: Factor that chance makes of one loss.
    """
    if worst * noise <= 1:
        return HOLDS
    return FAILS if worst > 10 * noise and slope < 0.5 else OPEN


def same_points_drift(trace: Sequence[Row], settings: Mapping[str, Any]) -> dict[str, float]:
    """L_pr at the end of a training on the same points in every step, and the two terms that make it."""
    last, beta = trace[-1], settings["beta"]
    multiplier = max(0.0, last["multiplier"] - beta * last["constraint_proxy"])
    return {
        "drift": last["preserve_after"],
        "t_epsilon_alpha": settings["epsilon"] * sum(row["learning_rate"] for row in trace),
        "alpha_over_beta_lambda": last["learning_rate"] / beta * multiplier,
    }


def _allowed(settings: Mapping[str, float]) -> float:
    """Steps times epsilon times alpha."""
    return settings["steps"] * settings["epsilon"] * settings["learning_rate"]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Exponent of a power law through positive points, least squares on logarithms; 0 for fewer than two."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return 0.0
    return linear_regression(*zip(*logs, strict=True)).slope


def judge_stationarity(optimiser: str, trace: Sequence[Row]) -> Claim:
    """Min over t of ||d_t|| tends to zero with diminishing steps.

    No finite training shows a limit. Asked for instead: the least ||d|| at least halves, and falls as fast as
    gradient methods promise, min ||d||^2 = O(1 / sum of alpha), so that the product of both stops growing.

    Args:
        optimiser: Its name.
        trace: Of a training with diminishing steps that sees the same points in every step.
    """
    lengths, gradients = ([row[key] for row in trace] for key in ("direction_norm", "gradient_norm"))
    if not (lengths and lengths[0] > 0 and gradients[0] > 0):
        return STATIONARITY.judged(optimiser, OPEN, "The first step did not move the parameters.")
    products = rate_products(trace)
    halfway = products[len(products) // 2]
    ratio, growth = min(lengths) / lengths[0], products[-1] / halfway if halfway else 0.0
    steady = growth <= 1 + _STEADY
    verdict = HOLDS if ratio <= 0.5 and steady else FAILS if ratio > 0.5 and not steady else OPEN
    because = (
        f"In {len(trace)} steps the least ‖d‖ came down to {ratio:.2g} of the first ({min(lengths):.3g}), the"
        f" gradient of L_er + lambda L_pr to {min(gradients) / gradients[0]:.2g}. Over the second half"
        f" min ‖d‖² times the sum of step lengths changed by a factor of {growth:.2g} (the rate: at most 1)."
    )
    figures = {"ratio": ratio, "growth": growth, "gradient_ratio": min(gradients) / gradients[0]}
    return STATIONARITY.judged(optimiser, verdict, because, figures)


def rate_products(trace: Sequence[Row]) -> list[float]:
    """Least ||d||^2 so far times the sum of step lengths so far, at each step."""
    least = running_minimum([row["direction_norm"] for row in trace])
    sums = accumulate(row["learning_rate"] for row in trace)
    return [length**2 * total for length, total in zip(least, sums, strict=True)]


def running_minimum(values: Sequence[float]) -> list[float]:
    """The least value so far, at each place."""
    least = math.inf
    return [least := min(least, value) for value in values]
