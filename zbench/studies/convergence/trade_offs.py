"""What is said about results: epsilon, beta, ways to find lambda, parts of the objective.

A verdict is more than "undecided" only where the figures are clear of their noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zbench.studies.convergence.claim import FAILS, HOLDS, OPEN, Claim, Measured, Statement, span
from zbench.studies.convergence.comparing import (
    Agreement,
    Course,
    agreement,
    as_good_as,
    course,
    loss_change,
    rate,
    rates,
    significant,
    success_change,
)
from zbench.studies.convergence.noise import Noise

EPSILON = Statement("epsilon", "epsilon trades monotonically: larger erases more, smaller preserves more.")
BETA = Statement("beta", "Results are insensitive to beta.")
IMPLICIT = Statement(
    "implicit against exact", "Implicit modulation does what the exact solution of the dual does."
)
ADAPTIVE = Statement("adaptive against fixed", "Adapting lambda beats fixing it.")


@dataclass(frozen=True)
class Part:
    """What a part of the objective is said to be good for.

    Attributes:
        statement: The claim.
        figure: What it is said to lower.
        pairs: Rows of the ablation table without the part, each beside the one with it.
    """

    statement: Statement
    figure: Literal["success", "L_pr"]
    pairs: tuple[tuple[str, str], ...]


PARTS = (
    Part(
        Statement("part L_attn", "L_attn adds erasure."),
        "success",
        (("L_erase", "L_erase + L_attn"), ("L_erase + L_pr", "all three")),
    ),
    Part(
        Statement("part L_pr", "L_pr preserves what is unrelated."),
        "L_pr",
        (("L_erase", "L_erase + L_pr"), ("L_erase + L_attn", "all three")),
    ),
    Part(
        Statement("part L_erase", "L_attn without L_erase erases less."),
        "success",
        (("L_attn + L_pr", "all three"),),
    ),
)


def judge_epsilon(optimiser: str, runs: Sequence[Measured], noise: Noise) -> Claim:
    """Larger epsilon: more erasure, less preservation, and monotonically so.

    Args:
        optimiser: Its name.
        runs: In order of epsilon.
        noise: Of the losses.
    """
    loss, success = course(runs, loss_change(noise)), course(runs, success_change)
    verdict = OPEN
    if loss in ("falls", "mixed") or success in ("rises", "mixed"):
        verdict = FAILS
    elif loss == "rises" and success == "falls":
        verdict = HOLDS
    first, last = runs[0], runs[-1]
    because = (
        f"From epsilon {first['settings']['epsilon']:g} to {last['settings']['epsilon']:g} L_pr"
        f" {_words(loss)} ({span(run['last_preserve'] for run in runs)}), success {_words(success)}"
        f" ({rates(runs)}), the CLIP score goes from {first['clip_score']:.1f} to {last['clip_score']:.1f}."
    )
    return EPSILON.judged(optimiser, verdict, because, {"L_pr": loss, "success": success})


def _words(course: Course) -> str:
    words = {"flat": "moves by no more than its noise", "mixed": "goes up and down"}
    return words.get(course, course)


def judge_beta(optimiser: str, runs: Sequence[Measured], noise: Noise) -> Claim:
    """Results hardly depend on beta.

    Args:
        optimiser: Its name.
        runs: In order of beta.
        noise: Of the losses.
    """
    found = agreement(runs, noise)
    factor = runs[-1]["settings"]["beta"] / runs[0]["settings"]["beta"]
    because = (
        f"Over a factor of {factor:.3g} in beta success is {rates(runs)} ({_points(found)}) and L_pr spans a"
        f" factor of {found.factor:.2g} ({', '.join(format(run['last_preserve'], '.3g') for run in runs)})."
    )
    return BETA.judged(optimiser, found.verdict, because, _figures(found))


def judge_implicit(optimiser: str, implicit: Measured, exact: Measured, noise: Noise) -> Claim:
    """The implicit multiplier does what the exact one does.

    Args:
        optimiser: Its name.
        implicit: With the implicit multiplier.
        exact: With the exact one.
        noise: Of the losses.
    """
    found = agreement([implicit, exact], noise)
    because = (
        f"Success {rate(implicit)} against {rate(exact)} ({_points(found)}), L_pr"
        f" {implicit['last_preserve']:.3g} against {exact['last_preserve']:.3g}, lambda at the end"
        f" {implicit['last_multiplier']:.3g} against {exact['last_multiplier']:.3g}."
    )
    return IMPLICIT.judged(optimiser, found.verdict, because, _figures(found))


def _points(found: Agreement) -> str:
    return f"intervals of differences from {100 * found.low:.0f} to {100 * found.high:.0f} points"


def _figures(found: Agreement) -> dict[str, float]:
    return {"success_low": found.low, "success_high": found.high, "L_pr_factor": found.factor}


def judge_adaptive(optimiser: str, implicit: Measured, fixed: Sequence[Measured], noise: Noise) -> Claim:
    """No fixed multiplier does as well as the adapted one.

    It holds where the adapted one is as good as every fixed one in both figures and better in one; it does
    not where a fixed one is as good as the adapted one in both and better in one.

    Args:
        optimiser: Its name.
        implicit: With the adapted multiplier.
        fixed: With fixed ones.
        noise: Of the losses.
    """
    signs = _signs_against(implicit, fixed, noise)
    wins = sum(
        -1 in signs_of and as_good_as(implicit, run, noise)
        for run, signs_of in zip(fixed, signs, strict=True)
    )
    beaten = sum(
        1 in signs_of and as_good_as(run, implicit, noise) for run, signs_of in zip(fixed, signs, strict=True)
    )
    verdict = FAILS if beaten else HOLDS if fixed and wins == len(fixed) else OPEN
    shown = "; ".join(
        f"lambda {run['settings']['multiplier']:g}: {rate(run)}, {run['last_preserve']:.3g}" for run in fixed
    )
    because = (
        f"Adapted: success {rate(implicit)}, L_pr {implicit['last_preserve']:.3g}. Fixed: {shown}. The"
        f" adapted one is as good in both and better in one against {wins} of {len(fixed)}; the same is true"
        f" the other way round of {beaten}."
    )
    return ADAPTIVE.judged(optimiser, verdict, because, {"wins": wins, "beaten": beaten})


def _signs_against(implicit: Measured, fixed: Sequence[Measured], noise: Noise) -> list[tuple[int, int]]:
    """For each fixed multiplier the signs of success and L_pr, -1 where the adapted one has less."""
    both = (success_change, loss_change(noise))
    signs = significant([compare(run, implicit) for compare in both for run in fixed])
    return list(zip(signs[: len(fixed)], signs[len(fixed) :], strict=True))


def judge_part(optimiser: str, part: Part, rows: Mapping[str, Measured], noise: Noise) -> Claim:
    """Whether a part of the objective lowers what it is said to lower, in every pair of rows.

    Args:
        optimiser: Its name.
        part: The part.
        rows: The rows of the ablation table by their names in the plan.
        noise: Of the losses.
    """
    pairs = [(rows[without], rows[with_it]) for without, with_it in part.pairs]
    compare = success_change if part.figure == "success" else loss_change(noise)
    signs = significant([compare(a, b) for a, b in pairs])
    verdict = FAILS if 1 in signs else HOLDS if set(signs) == {-1} else OPEN
    shown = "; ".join(f"{_shown(part, a)} and {_shown(part, b)}" for a, b in pairs)
    return part.statement.judged(optimiser, verdict, f"{_HEADS[part.figure]} without and with it: {shown}.")


_HEADS = {"success": "Success", "L_pr": "L_pr (and CLIP score)"}


def _shown(part: Part, run: Measured) -> str:
    return rate(run) if part.figure == "success" else f"{run['last_preserve']:.3g} ({run['clip_score']:.1f})"
