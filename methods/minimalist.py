"""Minimalist concept erasure (arXiv 2507.13386): a mask on neurons, judged by the finished picture alone.

    min over m in {0, 1}^n:   E || x0(c, e; m) - x0(a, e; 1) ||^2            (erase)
                     + beta   E || x0(p, e; m) - x0(p, e; 1) ||^2            (preserve)
                     + rho    mean(1 - m)                                     (few neurons)

x0(c, e; m) is the end of the sampler from noise e under prompt c when the neurons with m = 0 are off; c names
the concept, a its anchor, p what to preserve. The gradient runs through all steps of the sampler; what
happens in between is not asked about. m is relaxed while it is learned, see `zbench.training.masks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model
    from zbench.training.masks import LearnedMask


class Minimalist(Method):
    """Neuron masks on text rows, learned end to end through the sampler.

    Attributes:
        neurons: What can be switched off: hidden neurons of the ``feed_forward``, ``head_outputs``,
            ``head_values``.
        layers: Unified layers that have masks; all if None.
        relaxation: ``hard_concrete`` (the paper's code) or ``straight_through``.
        initial: Logit of every neuron at the start; those that end below zero are switched off.
        temperature: Of the hard concrete distribution.
        preserve_weight: beta.
        sparsity_weight: rho.
        steps: Optimiser steps.
        batch_size: Pictures per step under the concept's prompts.
        preserve_batch: Pictures per step under prompts to preserve.
        sampler_steps: Steps of the sampler that is differentiated; the model's own if None.
        learning_rate: Of the logits, constant.
        weight_decay: Of the optimiser.
        trajectories: Frozen pictures of the anchor, and as many of what to preserve.
        gradient_checkpointing: Recompute activations within a step, for models that do not fit otherwise.
    """

    name: ClassVar[str] = "minimalist"
    card: ClassVar[MethodCard] = MethodCard(
        title="Minimalist concept erasure",
        paper="Zhang et al.: Minimalist Concept Erasure in Generative Models (ICML 2025)",
        arxiv="2507.13386",
        reference_code_licence="none stated",
        rows="text",
        weights="binary masks on feed-forward neurons (or attention heads) of all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "masks act on text rows only: the model has no separate text stream to mask",
            "no masks on modulation layers (the paper's norm masks): here they modulate both modalities",
            "one draw of the mask serves all sampler steps and their recomputation; the code draws anew in "
            "every call, so that its backward pass belongs to other masks than its forward pass",
            "a step sees concept and preserved prompts together; the code accumulates them over four steps",
            "preserved are the catalogue's prompts and anchors, not only the anchor of each concept prompt",
            "no filter of prompts by a CLIP model",
            "the term in rho is ours; rho = 0 is the paper",
        ),
        notes=(
            "Steps, batch, learning rate, initial logit, temperature and beta of the paper preset: from the "
            "paper's settings and released configuration for FLUX.",
            "A step costs three evaluations per sampler step, in the memory of one.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 400, "batch_size": 2, "preserve_batch": 2, "trajectories": 40,
                  "gradient_checkpointing": True},
        "miniature": {
            "steps": 24, "sampler_steps": 4, "trajectories": 16, "relaxation": "straight_through",
            "learning_rate": 2.0, "preserve_weight": 0.1,
            "neurons": ("feed_forward", "head_values"),
        },
    }  # fmt: skip

    neurons: tuple[Literal["feed_forward", "head_outputs", "head_values"], ...] = Field(
        default=("feed_forward",), min_length=1
    )
    layers: tuple[int, ...] | None = None
    relaxation: Literal["hard_concrete", "straight_through"] = "hard_concrete"
    initial: float = Field(default=3.0, gt=0)
    temperature: float = Field(default=0.83, gt=0)
    preserve_weight: float = Field(default=0.1, ge=0)
    sparsity_weight: float = Field(default=0.0, ge=0)
    steps: int = Field(default=400, ge=1)
    batch_size: int = Field(default=2, ge=1)
    preserve_batch: int = Field(default=2, ge=1)
    sampler_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=0.5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    trajectories: int = Field(default=32, ge=1)
    gradient_checkpointing: bool = False

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Learns the masks; see the head of this file for the equations."""
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        mask = training.LearnedMask(
            self.neurons, self.layers,
            initial=self.initial, relaxation=self.relaxation, temperature=self.temperature,
        )  # fmt: skip
        trace = training.train(
            model, mask, MinimalistObjective(self, model, concept, mask),
            steps=self.steps, learning_rate=self.learning_rate, weight_decay=self.weight_decay,
            gradient_checkpointing=self.gradient_checkpointing, meter=meter, progress=progress,
        )  # fmt: skip
        settings = self.model_dump(mode="json")
        return Erasure(mask.hardened(), self.name, concept.name, settings, meter.cost(self.steps), trace)


class MinimalistObjective:
    """The gradients of one step, against pictures that the frozen model draws here, once."""

    def __init__(self, method: Minimalist, model: Model, concept: Concept, mask: LearnedMask) -> None:
        self.method, self.model, self.mask = method, model, mask
        self.generator = training.generator(method.training_seed)
        chosen = training.over_members(concept, concept.training_prompts, method.trajectories)
        self.concepts = training.encode_each(model, [concept.training_prompts[index] for index in chosen])
        self.anchors = self._bank([concept.anchor_prompts[index] for index in chosen], "anchor")
        kept = training.kept_prompts(concept, anchors=True)
        chosen = training.spread(kept, method.trajectories)
        self.kept = self._bank([kept[index] for index in chosen], "preserve")

    def _bank(self, prompts: list[str], purpose: str) -> training.TrajectoryBank:
        method = self.method
        return training.sampled_bank(
            self.model, prompts, purpose, method.training_seed, method.batch_size, method.sampler_steps
        )

    def gradients(self) -> dict[str, float]:
        """Draws gates and pictures, and goes back through the sampler."""
        method, source = self.method, self.generator
        self.mask.redraw(source)
        changed = self.anchors.draw(source, method.batch_size).entries
        same = self.kept.draw(source, method.preserve_batch).entries
        noise = [*self.anchors.latents[0, changed], *self.kept.latents[0, same]]
        captions = [self.concepts[entry] for entry in changed.tolist()]
        captions += [self.kept.embeddings[entry] for entry in same.tolist()]
        run = training.SamplerRun.sample(self.model, noise, captions, method.sampler_steps)
        erase = training.mean_square(run.final[: method.batch_size], self.anchors.clean()[changed])
        preserve = training.mean_square(run.final[method.batch_size :], self.kept.clean()[same])
        run.backward(erase + method.preserve_weight * preserve)
        off = self.mask.expected_off()
        training.backward(method.sparsity_weight * off)
        return {"erase": erase.item(), "preserve": preserve.item(), "expected_off": off.item()}

    def after_step(self) -> dict[str, float]:
        """The fraction of neurons that would be off if training ended here."""
        return {"off": self.mask.fraction_off()}
