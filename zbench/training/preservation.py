"""What fine-tuning shall leave alone: points of the frozen model's trajectories, and the distance there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zbench.training.frozen import FrozenPredictions
from zbench.training.losses import preserve_loss
from zbench.training.trajectories import Draw, TrajectoryBank, encode_each, seeds_for, spread

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model


def kept_prompts(concept: Concept, *, anchors: bool) -> list[str]:
    """A concept's prompts to preserve, each once, the anchor prompts after them if wanted."""
    return list(dict.fromkeys([*concept.preserve_prompts, *(concept.anchor_prompts if anchors else ())]))


def sampled_bank(
    model: Model,
    prompts: Sequence[str],
    purpose: str,
    training_seed: int,
    batch_size: int,
    steps: int | None = None,
) -> TrajectoryBank:
    """A bank whose noise belongs to a purpose and a training seed, see `seeds_for`."""
    seeds = seeds_for(purpose, training_seed, len(prompts))
    return TrajectoryBank.sample(model, prompts, seeds, batch_size=batch_size, steps=steps)


class Preservation:
    """L_pr = E || v(y_t, "") - v0(y_t, "") ||^2 + E || v(y_t, c_pr) - v0(y_t, c_pr) ||^2.

    Attributes:
        bank: Trajectories of the frozen model under the prompts to preserve; `bank.draw` gives y_t.
    """

    def __init__(
        self, model: Model, prompts: Sequence[str], *, trajectories: int, training_seed: int, batch_size: int
    ) -> None:
        """Samples the trajectories and what the frozen model says of them under the empty prompt.

        Args:
            model: No edit attached.
            prompts: Prompts to preserve.
            trajectories: How many, the prompts taken in turn.
            training_seed: Of their noise.
            batch_size: Samples per call.
        """
        self._model = model
        chosen = [prompts[index] for index in spread(prompts, trajectories)]
        self.bank = sampled_bank(model, chosen, "preserve", training_seed, batch_size)
        empty = encode_each(model, [""] * len(chosen))
        self._empty = empty[0]
        self._frozen_empty = FrozenPredictions.compute(model, self.bank, empty, batch_size=batch_size)

    def loss(self, draw: Draw) -> Tensor:
        """L_pr on the points of a draw, both prompts in one call."""
        count = len(draw.entries)
        live = self._model.velocity(
            draw.latents.repeat(2, 1, 1, 1),
            draw.timesteps.repeat(2),
            [self._empty] * count + draw.embeddings,
        )
        return preserve_loss(live[:count], self._frozen_empty.at(draw), live[count:], draw.velocities)
