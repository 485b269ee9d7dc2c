"""What is trained: settings of the method, one name for each, nothing left to presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Optimiser = Literal["adamw", "sgd"]

Settings = dict[str, Any]

COMMON: Settings = {
    "batch_size": 4,
    "preserve_batch": 2,
    "trajectories": 8,
    "preserve_trajectories": 8,
    "rank": 8,
    "eta": 1.0,
    "shuffle": 0.5,
    "weight_decay": 0.0,
}
"""Of every training. Weight decay is no part of the theorems, and at these lengths it moves nothing."""

ABLATION: tuple[tuple[str, Settings], ...] = (
    ("L_erase", {"attention_weight": 0.0, "modulation": "fixed"}),
    ("L_erase + L_attn", {"modulation": "fixed"}),
    ("L_erase + L_pr", {"attention_weight": 0.0}),
    ("L_attn + L_pr", {"erase_weight": 0.0}),
    ("all three", {}),
)
"""Rows of the paper's ablation table, and what is left out in them."""

FIRST_STEP, DECAY = 3.0, 0.6
"""Diminishing steps: the first as a share of alpha, and the power of t by which they fall. Between 0.5 and 1
their sum is infinite and that of their squares is not, as theorems about stationarity want it."""


@dataclass(frozen=True)
class Scale:
    """Sizes that suit one optimiser: a direction of AdamW is hundreds of times longer than a gradient.

    Attributes:
        optimiser: The optimiser.
        learning_rate: alpha.
        beta: Step size of lambda; `betas` are its multiples.
        epsilon: Slack wherever it is not what is varied.
        epsilons: Slacks that are tried.
    """

    optimiser: Optimiser
    learning_rate: float
    beta: float
    epsilon: float
    epsilons: tuple[float, ...]


@dataclass(frozen=True)
class Watch:
    """What is done to a training that is watched step by step.

    Attributes:
        share: Learning rate, as a share of the optimiser's usual one.
        decay: Step t is shortened by (t + 1) ** -decay; 0 keeps it constant.
        same_points: Whether every step sees the same points: gradient descent without sampling noise.
        every: Both gradients are taken at every so many steps.
    """

    share: float = 1.0
    decay: float = 0.0
    same_points: bool = False
    every: int = 2


@dataclass(frozen=True)
class Plan:
    """Everything that the study trains, by name.

    Attributes:
        trials: Settings of erasures that are measured on prompts.
        watched: Settings and watch of trainings whose steps are looked at.
    """

    trials: dict[str, Settings] = field(default_factory=dict)
    watched: dict[str, tuple[Settings, Watch]] = field(default_factory=dict)


def trial_name(optimiser: Optimiser, what: str, value: float | str = "") -> str:
    """Name of a trial, such as ``adamw epsilon 0.1``."""
    shown = f"{value:g}" if isinstance(value, float) else value
    return " ".join(part for part in (optimiser, what, shown) if part)


def make_plan(
    scales: Sequence[Scale],
    *,
    steps: int,
    long_steps: int,
    beta_factors: Sequence[float],
    multipliers: Sequence[float],
    shares: Sequence[float],
) -> Plan:
    """The plan of the study.

    Args:
        scales: One for each optimiser, the paper's first: it gets the ablation.
        steps: Of every training but the one with diminishing steps.
        long_steps: Of that one.
        beta_factors: Multiples of an optimiser's beta that are tried.
        multipliers: Fixed lambdas that are tried.
        shares: Learning rates at which the proxy is watched, as shares of the usual one.
    """
    plan = Plan()
    for place, scale in enumerate(scales):
        base = _base(scale, steps)
        plan.trials.update(_trials(scale, base, beta_factors, multipliers))
        if place == 0:
            rows = {trial_name(scale.optimiser, "parts", name): {**base, **left} for name, left in ABLATION}
            plan.trials.update(rows)
        plan.watched.update(_watched(scale, base, long_steps, shares))
    return plan


def _base(scale: Scale, steps: int) -> Settings:
    return {
        **COMMON,
        "steps": steps,
        "optimiser": scale.optimiser,
        "learning_rate": scale.learning_rate,
        "beta": scale.beta,
        "epsilon": scale.epsilon,
    }


def _trials(
    scale: Scale, base: Settings, beta_factors: Sequence[float], multipliers: Sequence[float]
) -> Mapping[str, Settings]:
    name = scale.optimiser
    changed: dict[str, Settings] = {
        **{trial_name(name, "epsilon", value): {"epsilon": value} for value in scale.epsilons},
        **{trial_name(name, "beta", f * scale.beta): {"beta": f * scale.beta} for f in beta_factors},
        trial_name(name, "implicit"): {},
        trial_name(name, "exact"): {"modulation": "exact"},
        **{
            trial_name(name, "fixed", value): {"modulation": "fixed", "multiplier": value}
            for value in multipliers
        },
    }
    return {key: {**base, **values} for key, values in changed.items()}


def _watched(
    scale: Scale, base: Settings, long_steps: int, shares: Sequence[float]
) -> Mapping[str, tuple[Settings, Watch]]:
    name = scale.optimiser
    return {
        **{trial_name(name, "steps of", share): (base, Watch(share=share)) for share in shares},
        trial_name(name, "same points"): (base, Watch(same_points=True)),
        trial_name(name, "diminishing"): (
            {**base, "steps": long_steps},
            Watch(share=FIRST_STEP, decay=DECAY, same_points=True, every=4),
        ),
    }
