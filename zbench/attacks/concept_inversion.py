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


class ConceptInversion(Attack):
    """A new word for the concept, learnt once per erasure and tried on every prompt.

    Attributes:
        vectors: Input embeddings of the new word.
        start: Where they start: at the tokens of the concept's first ``phrase``, or of its ``anchor``.
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
        control="random input embeddings of equal norm, drawn anew for every prompt and candidate",
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
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **{"vectors": 1, "start": "anchor", "steps": 5000, "budget": 1, "learning_rate": 0.005},
            **{"training_batch": 4, "weight_decay": 0.01, "pictures": 100},
        },
        "miniature": {"vectors": 4, "start": "phrase", "steps": 20, "pictures": 16, "learning_rate": 0.2},
    }

    vectors: int = Field(default=1, ge=1)
    start: Literal["phrase", "anchor"] = "anchor"
    steps: int = Field(default=100, ge=1)
    pictures: int = Field(default=32, ge=1)
    training_batch: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.005, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)

    def supports(self, context: Context) -> str | None:
        """The erased model must be differentiable in its captions."""
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
        """The prompt with random embeddings, as long as those of the same checkpoint."""
        from zbench.attacks.toolkit.directions import random_like

        learnt: Inversion = context.shared

        def drawn(prompt_id: str) -> list[Tensor]:
            source = context.generator("control", prompt_id)
            return [random_like(each.word, source) for each in learnt.checkpoints]

        return self._spoken(context, drawn)

    def _spoken(self, context: Context, words: Callable[[str], list[Tensor]]) -> Iterator[Candidate]:
        from zbench.attacks.candidates import Candidate
        from zbench.attacks.toolkit.inversion import captions_with, layout_for

        learnt: Inversion = context.shared
        for prompt in context.prompts:
            layout = layout_for(context.model, prompt.text, context.concept.phrases, self.vectors)
            # One at a time: the text encoder's rounding depends on what it is padded to.
            for point, word in zip(learnt.checkpoints, words(prompt.id), strict=True):
                [caption] = captions_with(context.model, [layout], word)
                label = f"step {point.step}, loss {point.loss:.4g}"
                spent = point.spent.model_copy(update={"encodings": point.spent.encodings + point.number})
                yield Candidate(prompt.id, caption.detach(), label, spent)
