"""Concept inversion (Pham et al., ICLR 2024): textual inversion on the erased model.

    minimise over w   E || v_erased(x_t, c(w), t) - (e - x0) ||^2,   x_t = (1 - sigma) x0 + sigma e

x0 are pictures that the original draws for the concept's training prompts, c(w) is the caption of the same
prompt with w in the place of the concept's phrases: input embeddings of a new word, through the text encoder.
If the erased model can still draw the concept, some word brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench.attacks.base import Attack, AttackCard

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.inversion import Inversion

_WORLD = {
    **{"vectors": 32, "start": "anchor", "captions": "mixed", "where": "prefix", "pictures": 32},
    **{"training_batch": 8, "learning_rate": 0.02},
}


class ConceptInversion(Attack):
    """A new word for the concept, learnt once per erasure and tried on every prompt.

    Attributes:
        vectors: Input embeddings of the new word.
        start: Where they start: at the tokens of the concept's first ``phrase``, or of its ``anchor``.
        captions: Those of the pictures, ``own``, or ``mixed``: every other one is a prompt to preserve with
            the word, so that the word learns to bring the concept where nothing else does.
        where: Of a prompt that names no phrase: before it or after it.
        batch_size: All prompts by default: the word is learnt in the preparation, which would be made again,
            and on a GPU not bit for bit, for batches that an interrupted attack has left.
        steps: Optimiser steps before each candidate; the training goes on from one to the next.
        pictures: Of the original, spread over the training prompts.
        training_batch: Points per step.
        learning_rate: Of AdamW, constant.
        weight_decay: Decoupled.
    """

    name: ClassVar[str] = "concept_inversion"
    card: ClassVar[AttackCard] = AttackCard(
        title="Concept inversion (CCE)",
        paper="Pham et al.: Circumventing Concept Erasure Methods For Text-to-Image Generative Models "
        "(ICLR 2024)",
        arxiv="2308.01508",
        knowledge="model",
        control="random input embeddings of equal norm, drawn anew for every prompt and candidate; "
        "the untrained word where it starts as the concept's phrase",
        deviations=(
            "flow matching instead of noise prediction, at the levels of the model's sampler",
            "captions are the concept's training prompts with the new word for its phrases; the paper fills "
            "generic templates",
            "one pipeline for all erasures; the paper adapts the inversion to some of the methods",
        ),
        notes=(
            "The word stands where the attacked prompt names a phrase of the concept, after the prompt where "
            "it names none. Payloads are embeddings, which guards that read prompts do not see, neither in "
            "training nor when they are drawn.",
            "Trained in the attack's preparation; every prompt is charged all of it.",
            "paper preset: one vector, 5000 steps, learning rate 0.005 and decay as released; batch and "
            "number of pictures are chosen here.",
            "A word that starts at the phrase may succeed untrained, so presets start at the anchor.",
            "Composite concepts are skipped: one word cannot stand for several.",
            "miniature and thorough: chosen on 10 tuning prompts each of nudity and violence that do not "
            "show it, unerased, union of four candidates. 16 vectors at 0.01: of 40 steps 0 and 6, of 100 6 "
            "and 8; at 0.03 4 and 7; 32 vectors at 0.02, of 100 steps, 9 and 10 (thorough, which has 6 "
            "candidates). On nudity the word comes at once, after 200 to 300 steps.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **{"vectors": 1, "start": "anchor", "steps": 5000, "budget": 1, "learning_rate": 0.005},
            **{"training_batch": 4, "weight_decay": 0.01, "pictures": 100},
        },
        "miniature": {**_WORLD, "steps": 60},
        "thorough": {**_WORLD, "steps": 100, "budget": 6},
    }

    vectors: int = Field(default=1, ge=1)
    start: Literal["phrase", "anchor"] = "anchor"
    captions: Literal["own", "mixed"] = "own"
    where: Literal["prefix", "suffix"] = "suffix"
    steps: int = Field(default=100, ge=1)
    pictures: int = Field(default=32, ge=1)
    training_batch: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.005, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=100_000, ge=1)

    def supports(self, context: Context) -> str | None:
        """The erased model must be differentiable in its captions, and one word is for one concept."""
        from zbench.attacks.toolkit.directions import many_concepts

        if several := many_concepts(context.concept):
            return several
        return None if context.gives_gradients() else "the erased model gives no gradients to its captions"

    def prepare(self, context: Context) -> Inversion:
        """Learns the word on the erased model."""
        from zbench.attacks.toolkit.inversion import Inversion

        settings = self.model_dump(exclude={"budget", "batch_size", "attack_seed", "steps"})
        inversion = Inversion(context, **settings)
        for _ in range(self.budget):
            inversion.train(context, self.steps)
        return inversion

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The prompt with the word as it was after every stretch of steps."""
        from zbench.attacks.candidates import Candidate

        learnt: Inversion = context.shared
        yield from self._spoken(context, lambda prompt_id: [each.word for each in learnt.checkpoints])
        if learnt.failure:
            for prompt in context.prompts:
                yield Candidate.failed(prompt.id, learnt.failure, learnt.spent)

    def control(self, context: Context) -> Iterator[Candidate]:
        """The prompt with random embeddings as long as the checkpoint's.

        A word that starts as the phrase may succeed untrained: then the untrained word is the control.
        """
        from zbench.attacks.toolkit.directions import random_like

        learnt: Inversion = context.shared

        def drawn(prompt_id: str) -> list[Tensor]:
            if self.start == "phrase":
                return [learnt.untrained] * len(learnt.checkpoints)
            source = context.generator("control", prompt_id)
            return [random_like(each.word, source) for each in learnt.checkpoints]

        return self._spoken(context, drawn)

    def _spoken(self, context: Context, words: Callable[[str], list[Tensor]]) -> Iterator[Candidate]:
        from zbench.attacks.candidates import Candidate
        from zbench.attacks.toolkit.inversion import captions_with, layout_for

        learnt: Inversion = context.shared
        for prompt in context.prompts:
            layout = layout_for(context.model, prompt.text, context.concept.phrases, self.vectors, self.where)
            # One at a time: the text encoder's rounding depends on what it is padded to.
            for point, word in zip(learnt.checkpoints, words(prompt.id), strict=True):
                [caption] = captions_with(context.model, [layout], word)
                label = f"step {point.step}, loss {point.loss:.4g}"
                spent = point.spent.model_copy(update={"encodings": point.spent.encodings + point.number})
                yield Candidate(prompt.id, caption.detach(), label, spent)
