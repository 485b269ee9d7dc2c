"""The training loop that fine-tuning methods share: an objective gives gradients, the loop does the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from zbench.errors import TrainingDivergedError

if TYPE_CHECKING:
    from zbench.edits import Edit
    from zbench.model import Model
    from zbench.training.meter import Meter

Optimiser = Literal["adamw", "sgd"]


class Objective(Protocol):
    """What a method minimises."""

    def gradients(self) -> dict[str, float]:
        """Adds the gradients of one step to the parameters and returns the figures to trace."""

    def after_step(self) -> dict[str, float]:
        """Runs after the optimiser's step; returns more figures to trace (may be none)."""


def backward(loss: Tensor) -> None:
    """Adds the loss's gradients to the parameters; a loss that no parameter touches adds nothing."""
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def take_gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Takes the gradients off the parameters (zeros where there is none) and leaves them without."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return taken


@torch.no_grad()
def frozen_call(function: Callable[[], Tensor]) -> Tensor:
    """Calls `function` without recording gradients."""
    return function()


def train(
    model: Model,
    edit: Edit,
    objective: Objective,
    *,
    steps: int,
    learning_rate: float,
    optimiser: Optimiser = "adamw",
    weight_decay: float = 0.0,
    gradient_checkpointing: bool = False,
    meter: Meter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Trains the parameters of an edit.

    Args:
        model: The model; the edit is attached for the time of the training and detached after it.
        edit: What is trained.
        objective: Gives the gradients.
        steps: Optimiser steps.
        learning_rate: Constant, no warm-up.
        optimiser: ``adamw`` (betas 0.9, 0.999) or plain ``sgd``.
        weight_decay: Decoupled for AdamW, L2 for SGD.
        gradient_checkpointing: Recompute activations in the backward pass, for models too large otherwise.
        meter: Counts evaluations for the trace; those before the first step are spread over the steps.
        progress: Called with (steps done, steps).

    Returns:
        One row per step: the objective's figures, ``gradient_norm`` and, with a meter, ``evaluations`` (this
        step's own) and ``evaluations_amortised`` (mean over the steps so far plus the preparation's share).

    Raises:
        TrainingDivergedError: A figure or gradient is not finite.
    """
    # Denormal activations slow CPUs fourfold after a few hundred steps (reference/miniature, traps).
    torch.set_flush_denormal(True)
    trace: list[dict[str, float]] = []
    with model.edited(edit), _checkpointing(model, gradient_checkpointing):
        parameters = list(edit.parameters())
        update = _make_optimiser(optimiser, parameters, learning_rate, weight_decay)
        prepared = meter.evaluations if meter else 0
        for step in range(steps):
            before = meter.evaluations if meter else 0
            row = _one_step(objective, update, parameters, step)
            if meter:
                row["evaluations"] = float(meter.evaluations - before)
                row["evaluations_amortised"] = (meter.evaluations - prepared) / (step + 1) + prepared / steps
            trace.append(row)
            if progress:
                progress(step + 1, steps)
    return trace


def _one_step(
    objective: Objective, update: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], step: int
) -> dict[str, float]:
    update.zero_grad(set_to_none=True)
    row = {"step": float(step), **objective.gradients()}
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    row["gradient_norm"] = math.sqrt(sum(float(gradient.float().square().sum()) for gradient in gradients))
    _require_finite(row)
    update.step()
    row.update(objective.after_step())
    _require_finite(row)
    return row


def _require_finite(row: dict[str, float]) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"Training diverged: {name} is {value} at step {row['step']:.0f}. Lower the learning rate."
            )


def _make_optimiser(
    kind: Optimiser, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)


@contextmanager
def _checkpointing(model: Model, wanted: bool) -> Iterator[None]:
    transformer: Any = model.transformer
    if wanted:
        transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if wanted:
            transformer.disable_gradient_checkpointing()
