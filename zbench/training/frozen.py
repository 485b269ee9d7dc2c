"""Predictions of the frozen model at the points of a trajectory bank, computed once.

An erasure target needs the frozen model under other conditionings than the trajectory's own (the empty
prompt, an anchor). There are only E x steps points, so all of them are predicted before training starts and
no step ever switches the edit off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.training.trajectories import Draw, TrajectoryBank

if TYPE_CHECKING:
    from zbench.model import Model


class FrozenPredictions:
    """Frozen velocities v(x_t, c, t) for every point of a bank under one conditioning c per trajectory.

    Attributes:
        velocities: [steps, E, C, h, w], in the transformer's own number format: its outputs are no finer.
    """

    def __init__(self, velocities: Tensor) -> None:
        self.velocities = velocities

    @classmethod
    @torch.no_grad()
    def compute(
        cls, model: Model, bank: TrajectoryBank, conditioning: Sequence[Tensor], *, batch_size: int
    ) -> FrozenPredictions:
        """Predicts at every point of the bank.

        Args:
            model: No edit attached.
            bank: Where to predict.
            conditioning: One embedding [L, D] per trajectory of the bank.
            batch_size: Samples per call.
        """
        velocities = torch.empty_like(bank.latents[1:], dtype=model.transformer.dtype)
        for draw in bank.batches(batch_size):
            embeddings = [conditioning[entry] for entry in draw.entries.tolist()]
            predicted = model.velocity(draw.latents, draw.timesteps, embeddings)
            velocities[draw.steps, draw.entries] = predicted.to(velocities.dtype)
        return cls(velocities)

    def at(self, draw: Draw) -> Tensor:
        """The predictions at the points of a draw, [B, C, h, w] float32."""
        return self.velocities[draw.steps, draw.entries].float()
