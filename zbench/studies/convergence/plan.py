"""What is trained: settings of the method, one name for each, nothing left to presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Optimiser = Literal["adamw", "sgd"]

Settings = dict[str, Any]

Positive = Annotated[float, Field(gt=0)]

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


class Scale(BaseModel):
    """Sizes that suit one optimiser: a direction of AdamW is hundreds of times longer than a gradient.

    Attributes:
        optimiser: The optimiser.
        learning_rate: alpha.
        beta: Step size of lambda; `betas` are its multiples.
        epsilon: Slack wherever it is not what is varied.
        epsilons: Slacks that are tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Optimiser
    learning_rate: Positive
    beta: Positive
    epsilon: Positive
    epsilons: Annotated[tuple[Positive, ...], Field(min_length=2)]


class Grid(BaseModel):
    """What is tried with every optimiser.

    Attributes:
        steps: Of every training but the one with diminishing steps.
        long_steps: Of that one.
        seeds: Training seeds from which the noise of L_pr is measured.
        beta_factors: Multiples of an optimiser's beta that are tried.
        multipliers: Fixed lambdas that are tried.
        shares: Learning rates at which the proxy is watched, as shares of the usual one; the usual one first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[int, Field(ge=2)]
    long_steps: Annotated[int, Field(ge=2)]
    seeds: Annotated[int, Field(ge=1)]
    beta_factors: Annotated[tuple[Positive, ...], Field(min_length=2)]
    multipliers: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    shares: Annotated[tuple[Positive, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Watch:
    """What is done to a training that is watched step by step.

    Attributes:
        share: Learning rate, as a share of the optimiser's usual one.
        decay: Step t is shortened by (t + 1) ** -decay; 0 keeps it constant.
        same_points: Whether every step sees the same points: gradient descent without sampling noise.
        every: Both gradients are taken at every so many steps.
        probes: Points on which L_pr is followed, the same ones throughout.
        checks: Moments at which the curvature is looked for, the first and the last step among them.
        rounds: Power iterations at each of them.
    """

    share: float = 1.0
    decay: float = 0.0
    same_points: bool = False
    every: int = 2
    probes: int = 8
    checks: int = 4
    rounds: int = 6


@dataclass(frozen=True)
class Plan:
    """Everything that the study trains, by name.

    Attributes:
        trials: Settings of erasures that are measured on prompts.
        repeated: Optimiser -> trials that are repeated with other training seeds: by how much L_pr comes out
            otherwise then is its noise.
        watched: Settings and watch of trainings whose steps are looked at.
    """

    trials: dict[str, Settings] = field(default_factory=dict)
    repeated: dict[Optimiser, tuple[str, ...]] = field(default_factory=dict)
    watched: dict[str, tuple[Settings, Watch]] = field(default_factory=dict)


def trial_name(optimiser: Optimiser, what: str, value: float | str = "") -> str:
    """Name of a trial, such as ``adamw epsilon 0.1``."""
    shown = value if isinstance(value, str) else f"{value:g}"
    return " ".join(part for part in (optimiser, what, shown) if part)


def make_plan(scales: Sequence[Scale], grid: Grid) -> Plan:
    """The plan of the study.

    Args:
        scales: One for each optimiser, the paper's first: it gets the ablation.
        grid: What is tried with each.
    """
    plan = Plan()
    for place, scale in enumerate(scales):
        base = _base(scale, grid.steps)
        plan.trials.update(_trials(scale, base, grid))
        if place == 0:
            rows = {trial_name(scale.optimiser, "parts", name): {**base, **left} for name, left in ABLATION}
            plan.trials.update(rows)
        plan.repeated[scale.optimiser] = _repeated(scale.optimiser, grid.multipliers)
        plan.watched.update(_watched(scale, base, grid))
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


def _trials(scale: Scale, base: Settings, grid: Grid) -> Mapping[str, Settings]:
    name = scale.optimiser
    changed: dict[str, Settings] = {
        **{trial_name(name, "epsilon", value): {"epsilon": value} for value in scale.epsilons},
        **{trial_name(name, "beta", f * scale.beta): {"beta": f * scale.beta} for f in grid.beta_factors},
        trial_name(name, "implicit"): {},
        trial_name(name, "exact"): {"modulation": "exact"},
        **{
            trial_name(name, "fixed", value): {"modulation": "fixed", "multiplier": value}
            for value in grid.multipliers
        },
    }
    return {key: {**base, **values} for key, values in changed.items()}


def _repeated(name: Optimiser, multipliers: Sequence[float]) -> tuple[str, ...]:
    """One trial for each way to find lambda; the largest fixed one differs most from adapting."""
    return (
        trial_name(name, "implicit"),
        trial_name(name, "exact"),
        trial_name(name, "fixed", max(multipliers)),
    )


def _watched(scale: Scale, base: Settings, grid: Grid) -> Mapping[str, tuple[Settings, Watch]]:
    name = scale.optimiser
    return {
        **{trial_name(name, "steps of", share): (base, Watch(share=share)) for share in grid.shares},
        trial_name(name, "same points"): (base, Watch(same_points=True)),
        trial_name(name, "diminishing"): (
            {**base, "steps": grid.long_steps},
            Watch(share=FIRST_STEP, decay=DECAY, same_points=True, every=4),
        ),
    }
