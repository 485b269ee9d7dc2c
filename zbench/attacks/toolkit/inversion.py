"""Learning input embeddings of a new word on the erased model, from pictures of the original."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zbench.attacks.candidates import Spent
from zbench.attacks.toolkit.effort import Effort
from zbench.attacks.toolkit.tokens import TemplatedPrompt, encode_inputs, token_table
from zbench.phrases import phrase_pattern
from zbench.training.flow import flow_points
from zbench.training.losses import mean_square
from zbench.training.trajectories import Draw, TrajectoryBank, spread

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.model import Model


def layout_for(model: Model, prompt: str, phrases: Sequence[str], vectors: int) -> TemplatedPrompt:
    """A prompt with free places for a word wherever it names a phrase, or after it where it names none.

    Args:
        model: The model.
        prompt: Without chat template.
        phrases: What the word stands for; overlapping ones give one place.
        vectors: Input embeddings of the word.
    """
    spans = sorted(match.span() for phrase in phrases for match in phrase_pattern(phrase).finditer(prompt))
    pieces, end = [], 0
    for begin, stop in spans:
        if begin >= end:
            pieces.append(prompt[end:begin].rstrip())
        end = max(end, stop)
    pieces.append(prompt[end:] if spans else prompt.rstrip())
    pieces += [] if spans else [""]
    return TemplatedPrompt.laid_out(model, pieces, [vectors] * (len(pieces) - 1))


def captions_with(model: Model, layouts: Sequence[TemplatedPrompt], word: Tensor) -> list[Tensor]:
    """Captions [L_i, D] with the word [vectors, d] in all free places, differentiable in it."""
    return encode_inputs(model, [layout.inputs(word.repeat(len(layout.counts), 1)) for layout in layouts])


def first_embeddings(model: Model, text: str, vectors: int) -> Tensor:
    """Input embeddings of the last tokens of a text, over and over where it has too few, [vectors, d]."""
    ids = model.pipeline.tokenizer(f" {text}", add_special_tokens=False)["input_ids"][-vectors:]
    return token_table(model)[[ids[index % len(ids)] for index in range(vectors)]].float().clone()


@dataclass(frozen=True)
class Checkpoint:
    """The word after some steps.

    Attributes:
        number: Counts from 1.
        step: Optimiser steps so far.
        loss: Mean since the checkpoint before.
        word: Input embeddings, [vectors, d] float32.
        spent: Everything so far.
    """

    number: int
    step: int
    loss: float
    word: Tensor
    spent: Spent


class Inversion:
    """The word on its way.

    Attributes:
        checkpoints: One for every stretch of training that ended well.
        losses: Of every step.
        failure: Why training stopped, or an empty string.
    """

    def __init__(
        self,
        context: Context,
        *,
        vectors: int,
        start: Literal["phrase", "anchor"],
        pictures: int,
        training_batch: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Draws the pictures, with the original; see `ConceptInversion` for the arguments."""
        model, concept = context.model, context.concept
        self._effort, self._batch = Effort(model, 1), training_batch
        prompts = [concept.training_prompts[i] for i in spread(concept.training_prompts, pictures)]
        seeds = [context.seed("picture", str(index)) for index in range(pictures)]
        with self._effort.measured():
            self.bank = TrajectoryBank.sample(model, prompts, seeds, batch_size=training_batch)
            self.layouts = [layout_for(model, prompt, concept.phrases, vectors) for prompt in prompts]
        text = concept.anchor if start == "anchor" else concept.phrases[0]
        self.word = first_embeddings(model, text, vectors).requires_grad_()
        self._optimiser = torch.optim.AdamW([self.word], lr=learning_rate, weight_decay=weight_decay)
        self._source = context.generator("points")
        self.checkpoints: list[Checkpoint] = []
        self.losses: list[float] = []
        self.failure = ""

    @property
    def spent(self) -> Spent:
        """Everything so far."""
        return self._effort.spent

    def train(self, context: Context, steps: int) -> None:
        """Takes steps and makes a checkpoint; does nothing once the loss was not a number."""
        with self._effort.measured(), context.erased() as model, torch.enable_grad():
            for _ in range(steps):
                if not self.failure:
                    self._step(model)
        if not self.failure:
            loss, word = math.fsum(self.losses[-steps:]) / steps, self.word.detach().clone()
            number = len(self.checkpoints) + 1
            self.checkpoints.append(Checkpoint(number, len(self.losses), loss, word, self.spent))

    def loss(self, model: Model, points: Draw) -> Tensor:
        """Flow matching loss at points of the bank, under captions with the word."""
        layouts = [self.layouts[entry] for entry in points.entries.tolist()]
        captions = captions_with(model, layouts, self.word)
        return mean_square(model.velocity(points.latents, points.timesteps, captions), points.velocities)

    def _step(self, model: Model) -> None:
        loss = self.loss(model, flow_points(self.bank, self._source, self._batch))
        [gradient] = torch.autograd.grad(loss, self.word)
        self._effort.encoded(self._batch)
        if not (torch.isfinite(loss) and torch.isfinite(gradient).all()):
            self.failure = f"the loss is not a number at step {len(self.losses) + 1}"
            return
        self.losses.append(loss.item())
        self.word.grad = gradient
        self._optimiser.step()
        self._optimiser.zero_grad()
