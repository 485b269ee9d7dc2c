"""Trainings that are watched: their weights are what they would be, their traces say more.

A watched method is the method itself with another `fit`: the objective is wrapped, steps may diminish, every
step may see the same points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zbench.studies.convergence.plan import Watch
from zbench.training import frozen_call, generator, gradients_of, norm_of, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.method import LoraMethod, Progress
    from zbench.model import Model
    from zbench.training import Meter

_PROBE_SEED, _CURVATURE_SEED = 90001, 90002
"""Change nothing about the training; whoever changes them raises `WATCH_VERSION`."""


def train_watched(
    method: LoraMethod, watch: Watch, model: Model, concept: Concept, progress: Progress | None = None
) -> list[dict[str, float]]:
    """Trains and returns the trace; the model is left as it was.

    Rows hold what the method traces, ``learning_rate`` of the step and, now and then, ``probe`` (L_pr on
    points that stay the same) and ``curvature`` (see `Watched.curvature`).

    Args:
        method: A method whose objective has ``generator``, ``modulation`` and ``preservation``, as Z-Erase's.
        watch: What is changed.
        model: No edit attached.
        concept: What is erased.
        progress: Told about steps.

    Raises:
        TrainingDivergedError: A figure or a weight stopped being finite.
    """
    kind = type(method)

    def fit(
        self: LoraMethod,
        model: Model,
        concept: Concept,
        edit: Edit,
        objective: Any,
        meter: Meter,
        progress: Progress | None,
    ) -> Erasure:
        from zbench.erasure import Erasure

        trace = train(
            model, edit, Watched(objective, edit, watch, self), steps=self.steps,
            learning_rate=self.learning_rate * watch.share, optimiser=self.optimiser,
            weight_decay=self.weight_decay, gradient_checkpointing=self.gradient_checkpointing,
            schedule=watched_schedule(watch), meter=meter, progress=progress,
        )  # fmt: skip
        return Erasure(edit, self.name, concept.name, trace=trace)

    changed: Any = type(f"Watched{kind.__name__}", (kind,), {"fit": fit, "__module__": __name__})
    settings = {**method.model_dump(), "trace_gradients": watch.every}
    return list(changed(**settings).erase(model, concept, progress=progress).trace)


def watched_schedule(watch: Watch) -> Callable[[int], float]:
    """Step -> factor of its learning rate."""
    return lambda step: float((step + 1) ** -watch.decay)


class Watched:
    """An objective that is watched."""

    def __init__(self, objective: Any, edit: Edit, watch: Watch, method: LoraMethod) -> None:
        self._objective, self._edit, self._watch = objective, edit, watch
        self._rate = method.learning_rate * watch.share
        self._step, self._steps = -1, method.steps
        self._points = objective.generator.get_state()
        self._start: list[Tensor] = []
        self._curvature_points = generator(_CURVATURE_SEED)
        bank = objective.preservation.bank
        self._probes = bank.draw(generator(_PROBE_SEED), watch.probes)

    def gradients(self) -> dict[str, float]:
        """One step's gradients, at the learning rate that the step will have."""
        self._step += 1
        if self._watch.same_points:
            self._objective.generator.set_state(self._points)
        rate = self._rate * watched_schedule(self._watch)(self._step)
        # The constraint is about the change of L_pr per unit of the step length.
        self._objective.modulation.learning_rate = rate
        if self._is_check():
            self._start = [parameter.detach().clone() for parameter in self._edit.parameters()]
        return {**self._objective.gradients(), "learning_rate": rate}

    def after_step(self) -> dict[str, float]:
        """What the method probes, and more now and then."""
        row: dict[str, float] = dict(self._objective.after_step())
        if self._step % self._watch.every == 0 or self._step == self._steps - 1:
            row["probe"] = frozen_call(lambda: self._objective.preservation.loss(self._probes)).item()
        if self._is_check():
            row["curvature"] = self.curvature()
        return row

    def _is_check(self) -> bool:
        last = max(1, self._watch.checks - 1)
        return self._step in {round(part * (self._steps - 1) / last) for part in range(self._watch.checks)}

    def curvature(self) -> float:
        """Largest |grad L_pr(theta + u) - grad L_pr(theta)| / |u| found, a local Lipschitz constant G.

        u is as long as the step just taken and starts along it; power iteration then turns it to where the
        gradient changes most. The points are others than any step's. What is found bounds G from below.
        """
        parameters = list(self._edit.parameters())
        draw = self._objective.preservation.bank.draw(
            self._curvature_points, self._objective.method.preserve_batch
        )
        here = [parameter.detach().clone() for parameter in parameters]
        change = [now - before for now, before in zip(here, self._start, strict=True)]
        length, found = norm_of(change), 0.0
        start = self._gradient_at(here, draw)
        for _ in range(self._watch.rounds if length > 0 else 0):
            there = self._gradient_at([a + b for a, b in zip(here, change, strict=True)], draw)
            turned = [a - b for a, b in zip(there, start, strict=True)]
            size = norm_of(turned)
            found = max(found, size / norm_of(change))
            if size == 0:
                break
            change = [part * (length / size) for part in turned]
        self._place(here)
        return found

    def _gradient_at(self, place: list[Tensor], draw: Any) -> list[Tensor]:
        self._place(place)
        return gradients_of(self._objective.preservation.loss(draw), list(self._edit.parameters()))

    @torch.no_grad()
    def _place(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._edit.parameters(), values, strict=True):
            parameter.copy_(value)
