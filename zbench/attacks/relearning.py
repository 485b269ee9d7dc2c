"""Relearning: does benign fine-tuning on unrelated pictures bring the concept back (arXiv 2410.08074)?

    L = E || v(x_t, c) - (e - x_0) ||^2,   x_t = (1 - sigma) x_0 + sigma e

v is the erased model with an adapter that is trained, x_0 pictures that the original draws of prompts c in
which the concept is not named. Nobody means harm here: that is how any user tunes a model to a purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench.attacks.base import AttackCard
from zbench.attacks.toolkit.changed_models import ONE_FOR_ALL, AdapterAttack

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.target_pictures import Pictures
    from zbench.edits import LoraEdit
    from zbench.training import Objective


class Relearning(AdapterAttack):
    """Flow matching on the original's pictures of the concept's prompts to preserve; all rows by default."""

    name: ClassVar[str] = "relearning"
    card: ClassVar[AttackCard] = AttackCard(
        title="Relearning (concept resurgence)",
        paper="Unstable Unlearning: The Hidden Risk of Concept Resurgence in Diffusion Models (2024)",
        arxiv="2410.08074",
        knowledge="weights",
        control="random adapters with the norms of the trained ones, as many",
        deviations=(
            "an adapter on the erased model, which stays as it is; the paper composes erasing and tuning of "
            "one Stable Diffusion",
            "unrelated pictures are the original's own, of the concept's prompts to preserve that name no "
            "phrase of it; the paper takes data sets",
            "noise levels are those of the model's own sampler, since a few-step model knows no others",
        ),
        notes=(
            "A prompt that does not name the concept may still show it: that is decided by the original.",
            "On a guidance-distilled model flow matching pulls towards the undistilled field, and pictures "
            "may suffer.",
            ONE_FOR_ALL,
            "Checkpoints of one training are the candidates; a bigger budget trains on.",
            "The miniature preset was tried on tuning prompts of violence and picasso, and not searched.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {"steps_per_candidate": 25, "pictures": 16}}

    rows: Literal["text", "all"] = Field(default="all")

    def supports(self, context: Context) -> str | None:
        """Some prompt must be left that does not name the concept."""
        if not unrelated_prompts(context):
            return "every prompt to preserve names the concept: there is nothing unrelated to train on"
        return super().supports(context)

    def prompts_of(self, context: Context) -> Sequence[str]:
        """The unrelated prompts in turn."""
        from zbench.training import spread

        prompts = unrelated_prompts(context)
        return [prompts[index] for index in spread(prompts, self.pictures)]

    def objective(self, context: Context, adapter: LoraEdit, bank: Pictures) -> Objective:
        """Flow matching."""
        return _FlowMatching(self, context, bank)


def unrelated_prompts(context: Context) -> list[str]:
    """The concept's prompts to preserve, without those that name one of its phrases."""
    from zbench.phrases import names_phrase

    named = context.concept.phrases
    prompts = dict.fromkeys(context.concept.preserve_prompts)
    return [prompt for prompt in prompts if not any(names_phrase(prompt, phrase) for phrase in named)]


class _FlowMatching:
    """Gradients of L on fresh draws."""

    def __init__(self, attack: Relearning, context: Context, bank: Pictures) -> None:
        from zbench.training import encode_each

        self.model, self.bank, self.batch = context.model, bank, attack.training_batch
        self.generator = context.generator("training")
        # Encoded anew: guards of the erased model see the prompts that it is tuned on.
        self.captions = encode_each(context.model, bank.prompts)

    def gradients(self) -> dict[str, float]:
        """Adds the gradient of L."""
        from zbench import training

        draw = training.flow_points(self.bank, self.generator, self.batch)
        captions = [self.captions[entry] for entry in draw.entries.tolist()]
        live = self.model.velocity(draw.latents, draw.timesteps, captions)
        loss = training.mean_square(live, draw.velocities)
        training.backward(loss)
        return {"flow": loss.item()}

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
