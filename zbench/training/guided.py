"""Negatively guided erasure, the term that ESD began with and that several methods add theirs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.training.erasing import ConceptPoints, Reference
from zbench.training.losses import erase_loss, mean_square
from zbench.training.trajectories import Draw

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


def drift(model: Model, draw: Draw) -> Tensor:
    """E || v(x_t, c) - v0(x_t, c) ||^2 on points (x_t, c) of v0's trajectories, as a bank gives them."""
    return mean_square(model.velocity(draw.latents, draw.timesteps, draw.embeddings), draw.velocities)


class GuidedErasure:
    """E || v(x_t, c_er) - [ v0(x_t, r) - eta ( v0(x_t, c_er) - v0(x_t, r) ) ] ||^2, x_t on v0's trajectories.

    Attributes:
        bank: Frozen trajectories under the concept's training prompts.
        reference: v0(x_t, r) at their points.
    """

    def __init__(
        self,
        model: Model,
        concept: Concept,
        *,
        reference: Reference,
        eta: float,
        trajectories: int,
        training_seed: int,
        batch_size: int,
    ) -> None:
        """Samples the trajectories and predicts the reference along them.

        Args:
            model: No edit attached.
            concept: What is erased.
            reference: r: the empty prompt, or the anchor of each training prompt.
            eta: Negative guidance.
            trajectories: How many; more where a member of a composite concept would have none.
            training_seed: Of the noise.
            batch_size: Samples per call, and points per loss.
        """
        self._model, self._eta, self._batch_size = model, eta, batch_size
        points = ConceptPoints(
            model, concept,
            trajectories=trajectories, reference=reference, training_seed=training_seed,
            batch_size=batch_size,
        )  # fmt: skip
        self.bank, self.reference = points.bank, points.reference

    def loss(self, generator: torch.Generator) -> Tensor:
        """The loss on a fresh draw."""
        draw = self.bank.draw(generator, self._batch_size)
        live = self._model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        return erase_loss(live, draw.velocities, self.reference.at(draw), self._eta)
