"""What is said about results: epsilon, beta, ways to find lambda, parts of the objective.

A verdict is more than "undecided" only where the figures are clear of their noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from zbench.studies.convergence.claim import FAILS, HOLDS, OPEN, Claim, Run, span

LOSS_NOISE = 0.15
"""Losses at the end are means over a few dozen points: differences within this share say nothing."""

Course = Literal["rises", "falls", "flat", "mixed"]


def differs(first: Run, second: Run) -> bool:
    """Whether two success rates differ beyond their noise: 95 % interval by Newcombe's method, unpaired."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(
        first["found"], first["asked"], second["found"], second["asked"], method="newcomb"
    )
    return bool(low > 0 or high < 0)


def rate(run: Run) -> str:
    """A success rate with its counts."""
    return f"{run['found']}/{run['asked']}"


def course(values: Sequence[float], noise: float) -> Course:
    """How values go from first to last; steps back within `noise` (a share of the larger) do not count."""
    steps = [0.0 if abs(b - a) <= noise * max(abs(a), abs(b)) else b - a for a, b in pairwise(values)]
    up, down = any(step > 0 for step in steps), any(step < 0 for step in steps)
    if up and down:
        return "mixed"
    ends = abs(values[-1] - values[0]) > noise * max(abs(values[0]), abs(values[-1]))
    if not (up or down or ends):
        return "flat"
    return "rises" if values[-1] > values[0] else "falls"


def course_of_success(runs: Sequence[Run]) -> Course:
    """How success goes over some erasures; differences within the noise of any two do not count."""
    up = any(differs(a, b) and b["success"] > a["success"] for i, a in enumerate(runs) for b in runs[i + 1 :])
    down = any(
        differs(a, b) and b["success"] < a["success"] for i, a in enumerate(runs) for b in runs[i + 1 :]
    )
    if up and down:
        return "mixed"
    return "rises" if up else "falls" if down else "flat"


def judge_epsilon(optimiser: str, runs: Sequence[Run]) -> Claim:
    """Larger epsilon: more erasure, less preservation, and monotonically so.

    Args:
        optimiser: Its name.
        runs: In order of epsilon.
    """
    loss, success = course([run["last_preserve"] for run in runs], LOSS_NOISE), course_of_success(runs)
    verdict = OPEN
    if loss == "rises" and success == "falls":
        verdict = HOLDS
    elif loss in ("falls", "flat", "mixed") or success in ("rises", "mixed"):
        verdict = FAILS
    first, last = runs[0], runs[-1]
    because = (
        f"From epsilon {first['settings']['epsilon']:g} to {last['settings']['epsilon']:g} L_pr"
        f" {_words(loss)} ({span(run['last_preserve'] for run in runs)}), success {_words(success)}"
        f" ({', '.join(rate(run) for run in runs)}),"
        f" the CLIP score goes from {first['clip_score']:.1f} to {last['clip_score']:.1f}."
    )
    says = "epsilon trades monotonically: larger erases more, smaller preserves more."
    return Claim("epsilon", says, optimiser, verdict, because, {"L_pr": loss, "success": success})


def _words(course: Course) -> str:
    return {"flat": "stays the same", "mixed": "goes up and down"}.get(course, course)


def judge_beta(optimiser: str, runs: Sequence[Run]) -> Claim:
    """Results hardly depend on beta.

    Args:
        optimiser: Its name.
        runs: In order of beta.
    """
    losses = [run["last_preserve"] for run in runs]
    spread, success = max(losses) / max(min(losses), 1e-12), course_of_success(runs)
    verdict = (
        HOLDS if success == "flat" and spread <= 1.5 else FAILS if success != "flat" or spread > 3 else OPEN
    )
    factor = runs[-1]["settings"]["beta"] / runs[0]["settings"]["beta"]
    because = (
        f"Over a factor of {factor:.3g} in beta success is {', '.join(rate(run) for run in runs)} and L_pr"
        f" spans a factor of {spread:.2g} ({', '.join(f'{loss:.3g}' for loss in losses)})."
    )
    says = "Results are insensitive to beta."
    return Claim("beta", says, optimiser, verdict, because, {"success": success, "L_pr_factor": spread})


def judge_implicit(optimiser: str, implicit: Run, exact: Run) -> Claim:
    """The implicit multiplier does what the exact one does."""
    ratio = implicit["last_preserve"] / max(exact["last_preserve"], 1e-12)
    far = max(ratio, 1 / max(ratio, 1e-12))
    apart = differs(implicit, exact)
    verdict = HOLDS if not apart and far <= 1.5 else FAILS if apart or far > 3 else OPEN
    because = (
        f"Success {rate(implicit)} against {rate(exact)}, L_pr {implicit['last_preserve']:.3g} against"
        f" {exact['last_preserve']:.3g}, lambda at the end {implicit['last_multiplier']:.3g} against"
        f" {exact['last_multiplier']:.3g}."
    )
    says = "Implicit modulation does what the exact solution of the dual does."
    return Claim("implicit against exact", says, optimiser, verdict, because, {"L_pr_factor": far})


def judge_adaptive(optimiser: str, implicit: Run, fixed: Sequence[Run]) -> Claim:
    """No fixed multiplier does as well as the adapted one.

    Args:
        optimiser: Its name.
        implicit: With the adapted multiplier.
        fixed: With fixed ones.
    """
    as_good = [run for run in fixed if as_good_as(run, implicit)]
    better = [run for run in as_good if differs(run, implicit) or _keeps_better(run, implicit)]
    verdict = FAILS if better else OPEN if as_good else HOLDS
    shown = "; ".join(
        f"lambda {run['settings']['multiplier']:g}: {rate(run)}, {run['last_preserve']:.3g}" for run in fixed
    )
    because = (
        f"Adapted: success {rate(implicit)}, L_pr {implicit['last_preserve']:.3g}. Fixed: {shown}."
        f" {len(as_good)} of {len(fixed)} fixed ones are as good in both, {len(better)} better in one."
    )
    says = "Adapting lambda beats fixing it."
    return Claim("adaptive against fixed", says, optimiser, verdict, because, {"better": len(better)})


def as_good_as(run: Run, other: Run) -> bool:
    """Whether one erasure is no worse than another in success and in L_pr, noise allowed for."""
    erases = run["success"] <= other["success"] or not differs(run, other)
    return bool(erases and run["last_preserve"] <= other["last_preserve"] * (1 + LOSS_NOISE))


def _keeps_better(run: Run, other: Run) -> bool:
    return bool(run["last_preserve"] < other["last_preserve"] * (1 - LOSS_NOISE))


def judge_parts(optimiser: str, rows: Mapping[str, Run]) -> list[Claim]:
    """What L_attn, L_pr and L_erase are each said to be good for.

    Args:
        optimiser: Its name.
        rows: The rows of the ablation table by their names in the plan.
    """
    erase, attended = rows["L_erase"], rows["L_erase + L_attn"]
    kept, alone, full = rows["L_erase + L_pr"], rows["L_attn + L_pr"], rows["all three"]
    return [
        _lowers_success(
            optimiser, "L_attn", "L_attn adds erasure.", [(erase, attended), (kept, full)], "without and with"
        ),
        _lowers_loss(optimiser, [(erase, kept), (attended, full)]),
        _lowers_success(
            optimiser, "L_erase", "L_attn without L_erase erases less.", [(alone, full)], "without and with"
        ),
    ]


def _lowers_success(
    optimiser: str, name: str, says: str, pairs: Sequence[tuple[Run, Run]], words: str
) -> Claim:
    down = [differs(a, b) and b["success"] < a["success"] for a, b in pairs]
    up = [differs(a, b) and b["success"] > a["success"] for a, b in pairs]
    verdict = FAILS if any(up) else HOLDS if all(down) else OPEN
    shown = "; ".join(f"{rate(a)} and {rate(b)}" for a, b in pairs)
    return Claim(f"part {name}", says, optimiser, verdict, f"Success {words} it: {shown}.")


def _lowers_loss(optimiser: str, pairs: Sequence[tuple[Run, Run]]) -> Claim:
    down = [_keeps_better(b, a) for a, b in pairs]
    verdict = HOLDS if all(down) else FAILS if not any(down) else OPEN
    shown = "; ".join(
        f"L_pr {a['last_preserve']:.3g} and {b['last_preserve']:.3g},"
        f" CLIP score {a['clip_score']:.1f} and {b['clip_score']:.1f}"
        for a, b in pairs
    )
    says = "L_pr preserves what is unrelated."
    return Claim("part L_pr", says, optimiser, verdict, f"Without and with it: {shown}.")
