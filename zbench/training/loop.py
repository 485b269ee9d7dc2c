"""The training loop that fine-tuning methods share: an objective gives gradients, the loop does the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
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


def norm_of(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm over all elements of all tensors."""
    return math.sqrt(sum(float(tensor.float().square().sum()) for tensor in tensors))


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
    schedule: Callable[[int], float] | None = None,
    meter: Meter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Trains the parameters of an edit.

    Args:
        model: The model; the edit is attached for the time of the training and detached after it.
        edit: What is trained.
        objective: Gives the gradients.
        steps: Optimiser steps.
        learning_rate: alpha; constant, no warm-up, unless there is a schedule.
        optimiser: ``adamw`` (betas 0.9, 0.999) or plain ``sgd``.
        weight_decay: Decoupled for AdamW, L2 for SGD.
        gradient_checkpointing: Recompute activations in the backward pass; done anyway where the model spares
            memory. It changes no gradient.
        schedule: Step (from 0) -> factor of its learning rate; above 0.
        meter: Counts evaluations for the trace; those before the first step are spread over the steps. Of
            several trainings under one meter, `joined_traces` makes one.
        progress: Called with (steps done, steps).

    Returns:
        One row per step: the objective's figures, ``gradient_norm``, ``direction_norm`` (||d|| of the update
        theta <- theta - alpha d, whatever the optimiser made of the gradient) and, with a meter,
        ``evaluations`` (this step's own) and ``evaluations_amortised`` (mean over the steps so far plus the
        preparation's share).

    Raises:
        TrainingDivergedError: A figure or gradient is not finite.
    """
    # Denormal activations slow CPUs fourfold after a few hundred steps (reference/miniature, traps).
    torch.set_flush_denormal(True)
    trace: list[dict[str, float]] = []
    with model.edited(edit), _checkpointing(model, gradient_checkpointing or model.spares_memory):
        parameters = list(edit.parameters())
        update = _make_optimiser(optimiser, parameters, learning_rate, weight_decay)
        prepared = meter.evaluations if meter else 0
        for step in range(steps):
            before = meter.evaluations if meter else 0
            for group in update.param_groups:
                group["lr"] = learning_rate * (schedule(step) if schedule else 1.0)
            row = _one_step(objective, update, parameters, step)
            if meter:
                row["evaluations"] = float(meter.evaluations - before)
                row["evaluations_amortised"] = (meter.evaluations - prepared) / (step + 1) + prepared / steps
            trace.append(row)
            if progress:
                progress(step + 1, steps)
    return trace


def joined_traces(traces: Sequence[list[dict[str, float]]], evaluations: int) -> list[dict[str, float]]:
    """Traces of trainings that followed each other under one meter, as one.

    Args:
        traces: As `train` gave them, each of at least one step.
        evaluations: Of everything, what belongs to no step included; that is spread over all steps.

    Returns:
        All rows with their steps counted on, and ``evaluations_amortised`` over all trainings: in the last
        row it is what `Meter.cost` gives per step.
    """
    rows = [row for trace in traces for row in trace]
    spent = list(accumulate(row["evaluations"] for row in rows))
    outside = (evaluations - spent[-1]) / len(rows)
    return [
        {**row, "step": float(step), "evaluations_amortised": so_far / (step + 1) + outside}
        for step, (row, so_far) in enumerate(zip(rows, spent, strict=True))
    ]


def _one_step(
    objective: Objective, update: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], step: int
) -> dict[str, float]:
    update.zero_grad(set_to_none=True)
    row = {"step": float(step), **objective.gradients()}
    row["gradient_norm"] = norm_of([p.grad for p in parameters if p.grad is not None])
    _require_finite(row)
    row["direction_norm"] = _take_step(update, parameters, step)
    row.update(objective.after_step())
    _require_finite(row)
    return row


def _take_step(update: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], step: int) -> float:
    """Lets the optimiser step; returns the length of the step divided by the learning rate.

    Raises:
        TrainingDivergedError: A weight is no longer finite; all are put back to what they were.
    """
    start = [parameter.detach().clone() for parameter in parameters]
    update.step()
    moved = [before - parameter.detach() for before, parameter in zip(start, parameters, strict=True)]
    length = norm_of(moved) / float(update.param_groups[0]["lr"])
    if not math.isfinite(length):
        with torch.no_grad():
            for before, parameter in zip(start, parameters, strict=True):
                parameter.copy_(before)
    _require_finite({"step": float(step), "direction_norm": length})
    return length


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
