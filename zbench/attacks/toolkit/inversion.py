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
from zbench.attacks.toolkit.target_pictures import Pictures
from zbench.attacks.toolkit.tokens import TemplatedPrompt, Where, encode_inputs, token_table
from zbench.phrases import names_phrase, phrase_pattern
from zbench.training.flow import flow_points
from zbench.training.losses import mean_square
from zbench.training.trajectories import Draw, spread

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.concepts import Concept
    from zbench.model import Model


def layout_for(
    model: Model, prompt: str, phrases: Sequence[str], vectors: int, where: Where = "suffix"
) -> TemplatedPrompt:
    """A prompt with free places for a word wherever it names a phrase, or beside it where it names none.

    Args:
        model: The model.
        prompt: Without chat template.
        phrases: What the word stands for; overlapping ones give one place.
        vectors: Input embeddings of the word.
        where: Of a prompt that names no phrase, before it or after it.
    """
    spans = sorted(match.span() for phrase in phrases for match in phrase_pattern(phrase).finditer(prompt))
    if not spans:
        return TemplatedPrompt.of(model, prompt).insert(where, vectors)
    pieces, end = [], 0
    for begin, stop in spans:
        if begin >= end:
            pieces.append(prompt[end:begin].rstrip())
        end = max(end, stop)
    pieces.append(prompt[end:])
    return TemplatedPrompt.laid_out(model, pieces, [vectors] * (len(pieces) - 1))


def unrelated_captions(prompts: Sequence[str], concept: Concept) -> list[str]:
    """Prompts of pictures, every other one replaced by a prompt to preserve that names no phrase.

    A word that is learnt in the concept's own prompts alone leaves to them what else a picture needs: behind
    a prompt without the concept it then says too little.
    """
    named = concept.phrases
    others = [p for p in concept.preserve_prompts if not any(names_phrase(p, phrase) for phrase in named)]
    if not others:
        return list(prompts)
    # The places change with every round of the prompts, so that each is spoken both ways.
    distinct = len(set(prompts))
    places = [index for index in range(len(prompts)) if (index % distinct + index // distinct) % 2]
    spoken = list(prompts)
    for place, chosen in zip(places, spread(others, len(places)), strict=True):
        spoken[place] = others[chosen]
    return spoken


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
        untrained: The word before its first step, [vectors, d] float32.
        losses: Of every step.
        failure: Why training stopped, or an empty string.
    """

    def __init__(
        self,
        context: Context,
        *,
        vectors: int,
        start: Literal["phrase", "anchor"],
        captions: Literal["own", "mixed"],
        where: Where,
        pictures: int,
        training_batch: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Draws the pictures, with the original; see `ConceptInversion` for the arguments."""
        model, concept = context.model, context.concept
        self._effort, self._batch = Effort(model, 1), training_batch
        prompts = [concept.training_prompts[i] for i in spread(concept.training_prompts, pictures)]
        spoken = unrelated_captions(prompts, concept) if captions == "mixed" else prompts
        seeds = [context.seed("picture", str(index)) for index in range(pictures)]
        with self._effort.measured():
            self.bank = Pictures.drawn(model, prompts, seeds, batch_size=training_batch)
            self.layouts = [layout_for(model, each, concept.phrases, vectors, where) for each in spoken]
        text = concept.anchor if start == "anchor" else concept.phrases[0]
        self.untrained = first_embeddings(model, text, vectors)
        self.word = self.untrained.clone().requires_grad_()
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
