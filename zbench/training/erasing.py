"""Where fine-tuning erases: points of the frozen model's trajectories under the concept's own prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from zbench.training.attention import concept_columns
from zbench.training.frozen import FrozenPredictions
from zbench.training.members import over_members
from zbench.training.preservation import sampled_bank
from zbench.training.trajectories import encode_each
from zbench.training.words import shuffle_some

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model

Reference = Literal["empty", "anchor"]


class ConceptPoints:
    """Points x_t under prompts c_er, some of them with their words shuffled.

    Attributes:
        bank: Trajectories of the frozen model; `bank.draw` gives x_t and the frozen v0(x_t, c_er).
        columns: Per trajectory, where the concept stands in its prompt (`concept_columns`).
        reference: v0(x_t, "") or v0(x_t, anchor), what an erasing target starts from.
    """

    def __init__(
        self,
        model: Model,
        concept: Concept,
        *,
        trajectories: int,
        reference: Reference,
        training_seed: int,
        batch_size: int,
        shuffle: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Samples the trajectories and what the frozen model says of them under the reference.

        Args:
            model: No edit attached.
            concept: Its training prompts are taken in turn, each with its own anchor.
            trajectories: How many; more where a member of a composite concept would have none.
            reference: The ``empty`` prompt, or the ``anchor`` prompts.
            training_seed: Of the noise.
            batch_size: Samples per call.
            shuffle: Probability that the words of a prompt are shuffled (phrases stay whole).
            generator: Which prompts are shuffled, and how; none are without it.
        """
        chosen = over_members(concept, concept.training_prompts, trajectories)
        prompts = [concept.training_prompts[index] for index in chosen]
        if generator is not None:
            prompts = shuffle_some(prompts, concept.phrases, shuffle, generator)
        self.columns = [concept_columns(model, concept, prompt) for prompt in prompts]
        self.bank = sampled_bank(model, prompts, "erase", training_seed, batch_size)
        starts = [concept.anchor_prompts[index] if reference == "anchor" else "" for index in chosen]
        self.reference = FrozenPredictions.compute(
            model, self.bank, encode_each(model, starts), batch_size=batch_size
        )
