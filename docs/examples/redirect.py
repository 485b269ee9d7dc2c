"""Redirect: teaches text rows to draw the anchor where a prompt asks for the concept. A worked example.

    L = E || v(x_t, c_er) - v0(x_t, c_a) ||^2 + w E || v(y_t, c_pr) - v0(y_t, c_pr) ||^2

v is the model being trained, v0 the frozen one; x_t lies on v0's trajectories under concept prompts c_er,
whose anchor prompts are c_a, and y_t on those under prompts to preserve c_pr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class Redirect(LoraMethod):
    """Redirects concept prompts to their anchors.

    Attributes:
        preserve_weight: w.
        trajectories: Trajectories of the frozen model under concept prompts, and as many under others.
    """

    name: ClassVar[str] = "examples/redirect"
    card: ClassVar[MethodCard] = MethodCard(
        title="Redirect (worked example)",
        paper="none: an example of how to write a method",
        arxiv="",
        reference_code_licence="none released",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 500, "batch_size": 1, "trajectories": 64},
        "miniature": {"steps": 60, "batch_size": 4, "trajectories": 16, "learning_rate": 5e-3},
    }

    preserve_weight: float = Field(default=1.0, ge=0)
    trajectories: int = Field(default=16, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """Where prompts are their own anchors there is nothing to redirect."""
        same = concept.training_prompts == concept.anchor_prompts
        return "its training prompts are their own anchors" if same else None

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equation."""
        self.require_support(concept)
        meter = training.Meter(model)
        objective = RedirectObjective(self, model, concept)
        return self.fit(model, concept, self.lora(), objective, meter, progress)


class RedirectObjective:
    """The gradients of one step, from trajectories and frozen predictions that are computed here, once."""

    def __init__(self, method: Redirect, model: Model, concept: Concept) -> None:
        self.method, self.model = method, model
        self.generator = training.generator(method.training_seed)
        chosen = training.over_members(concept, concept.training_prompts, method.trajectories)
        self.bank = self.sampled([concept.training_prompts[index] for index in chosen], "erase")
        anchors = training.encode_each(model, [concept.anchor_prompts[index] for index in chosen])
        self.targets = training.FrozenPredictions.compute(
            model, self.bank, anchors, batch_size=method.batch_size
        )
        kept = training.spread(concept.preserve_prompts, method.trajectories)
        self.kept = self.sampled([concept.preserve_prompts[index] for index in kept], "preserve")

    def sampled(self, prompts: list[str], purpose: str) -> training.TrajectoryBank:
        """Trajectories of the frozen model under `prompts`."""
        seeds = training.seeds_for(purpose, self.method.training_seed, len(prompts))
        return training.TrajectoryBank.sample(self.model, prompts, seeds, batch_size=self.method.batch_size)

    def gradients(self) -> dict[str, float]:
        """Gradient of L on a fresh draw."""
        draw = self.bank.draw(self.generator, self.method.batch_size)
        live = self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        erase = training.mean_square(live, self.targets.at(draw))
        training.backward(erase)
        kept = self.kept.draw(self.generator, self.method.batch_size)
        live = self.model.velocity(kept.latents, kept.timesteps, kept.embeddings)
        preserve = training.mean_square(live, kept.velocities)
        training.backward(self.method.preserve_weight * preserve)
        return {"erase": erase.item(), "preserve": preserve.item()}

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
