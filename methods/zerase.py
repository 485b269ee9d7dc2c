"""Z-Erase: concept erasure on the text rows of a single-stream transformer (arXiv 2603.25074).

    L_erase = E || v(x_t, c_er) - [ v0(x_t, "") - eta ( v0(x_t, c_er) - v0(x_t, "") ) ] ||^2
    L_attn  = attention that image tokens pay to the concept's tokens
    L_pr    = E || v(y_t, "") - v0(y_t, "") ||^2 + E || v(y_t, c_pr) - v0(y_t, c_pr) ||^2
    total   = L_erase + L_attn + lambda L_pr,   lambda >= 0 adapted so that L_pr rises no faster than epsilon

v is the model being trained, v0 the frozen one, x_t and y_t points on v0's trajectories under c_er and c_pr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress, concept_is_named

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.model import Model

# The paper's appendix: slack per family.
EPSILON = {"nsfw": 1e-3, "style": 1e-3, "entity": 1e-2, "abstraction": 1e-2, "identity": 1e-2}


class ZErase(LoraMethod):
    """Z-Erase as the paper states it.

    Attributes:
        eta: Negative guidance of the erase target.
        reference: What the target starts from: the ``empty`` prompt (paper) or the ``anchor`` prompts.
        attention_weight: Weight of L_attn; 0 skips it.
        modulation: How lambda is found: ``implicit`` (paper), ``exact`` (two gradients), ``fixed``.
        multiplier: lambda at the start; with ``fixed``, for good.
        multiplier_max: Upper clamp of lambda; none if None (the paper).
        beta: Step size of the implicit update of lambda.
        epsilon: Slack of the preservation constraint; the paper's value for the concept's family if None.
        shuffle: Probability that a trajectory's prompt has its words shuffled (phrases stay whole).
        trajectories: Cached trajectories under the concept's prompts.
        preserve_trajectories: Cached trajectories under prompts to preserve.
        preserve_batch: Points per step for L_pr; each is seen under the empty prompt and under its own.
        preserve_anchors: Whether the anchor prompts are preserved along with the concept's preserve prompts.
    """

    name: ClassVar[str] = "zerase"
    card: ClassVar[MethodCard] = MethodCard(
        title="Z-Erase",
        paper="Z-Erase: concept erasure for single-stream diffusion transformers (ICML 2026)",
        arxiv="2603.25074",
        reference_code_licence="contradictory: LICENSE file BSD-3-Clause, README badge CC-BY",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "lambda is clamped at zero, as the dual problem asks; the paper's algorithm omits the clamp",
            "L_pr is probed on the same samples before and after a step",
            "L_attn: mean over layers, heads and image queries of the summed columns (paper: open)",
            "trajectories and frozen predictions are cached; shuffled prompts are drawn once per trajectory",
            "squared norms are means over elements, so that beta and epsilon do not depend on resolution",
        ),
        notes=(
            "The empty-prompt velocity of a guidance-distilled model (Z-Image-Turbo, the miniature) is not a "
            "true unconditional score: what follows from that is to be measured, not assumed.",
            "rank, batch, shuffling probability and layers of the paper preset come from the released code: "
            "the paper does not state them.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "steps": 1000,
            "batch_size": 1,
            "preserve_batch": 1,
            "trajectories": 64,
            "preserve_trajectories": 64,
        },
        "miniature": {
            "steps": 140,
            "batch_size": 8,
            "preserve_batch": 4,
            "learning_rate": 3e-3,
            "eta": 1.0,
            "shuffle": 0.5,
        },
    }

    eta: float = Field(default=2.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    attention_weight: float = Field(default=1.0, ge=0)
    modulation: Literal["implicit", "exact", "fixed"] = "implicit"
    multiplier: float = Field(default=0.0, ge=0)
    multiplier_max: float | None = Field(default=None, gt=0)
    beta: float = Field(default=0.1, ge=0)
    epsilon: float | None = Field(default=None, ge=0)
    shuffle: float = Field(default=0.9, ge=0, le=1)
    trajectories: int = Field(default=32, ge=1)
    preserve_trajectories: int = Field(default=32, ge=1)
    preserve_batch: int = Field(default=4, ge=1)
    preserve_anchors: bool = True

    def supports(self, concept: Concept) -> str | None:
        """The attention loss needs a phrase of the concept in at least one training prompt."""
        named = self.attention_weight == 0 or concept_is_named(concept)
        return None if named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        meter, edit = training.Meter(model), self.lora()
        objective = ZEraseObjective(self, model, concept, edit)
        return self.fit(model, concept, edit, objective, meter, progress)


class ZEraseObjective:
    """The gradients of one step, from trajectories and frozen predictions that are computed here, once."""

    def __init__(self, method: ZErase, model: Model, concept: Concept, edit: Edit) -> None:
        self.method, self.model, self.edit = method, model, edit
        self.generator = training.generator(method.training_seed)
        epsilon = EPSILON[concept.family] if method.epsilon is None else method.epsilon
        self.modulation = training.LagrangianModulation(
            method.modulation, method.beta, epsilon, method.learning_rate, method.multiplier
        )
        if method.multiplier_max is not None:
            self.modulation.maximum = method.multiplier_max
        self._prepare_erasure(concept)
        self._prepare_preservation(concept)

    def _prepare_erasure(self, concept: Concept) -> None:
        method, chosen = self.method, training.spread(concept.training_prompts, self.method.trajectories)
        prompts = [concept.training_prompts[index] for index in chosen]
        prompts = training.shuffle_some(prompts, concept.phrases, method.shuffle, self.generator)
        self.columns = [training.concept_columns(self.model, concept, prompt) for prompt in prompts]
        self.erase_bank = self._bank(prompts, "erase")
        anchors = [concept.anchor_prompts[index] for index in chosen]
        references = [""] * len(chosen) if method.reference == "empty" else anchors
        self.reference = self._frozen(self.erase_bank, references)

    def _prepare_preservation(self, concept: Concept) -> None:
        kept = list(concept.preserve_prompts) + list(concept.anchor_prompts) * self.method.preserve_anchors
        kept = list(dict.fromkeys(kept))
        chosen = training.spread(kept, self.method.preserve_trajectories)
        self.preserve_bank = self._bank([kept[index] for index in chosen], "preserve")
        self.empty = self.model.encode([""])[0]
        self.frozen_empty = self._frozen(self.preserve_bank, [""] * len(chosen))

    def _bank(self, prompts: list[str], purpose: str) -> training.TrajectoryBank:
        seeds = training.seeds_for(purpose, self.method.training_seed, len(prompts))
        return training.TrajectoryBank.sample(self.model, prompts, seeds, batch_size=self.method.batch_size)

    def _frozen(self, bank: training.TrajectoryBank, prompts: list[str]) -> training.FrozenPredictions:
        conditioning = training.encode_each(self.model, prompts)
        batch = self.method.batch_size
        return training.FrozenPredictions.compute(self.model, bank, conditioning, batch_size=batch)

    def gradients(self) -> dict[str, float]:
        """Gradient of L_erase + L_attn + lambda L_pr on a fresh draw."""
        self.kept = self.preserve_bank.draw(self.generator, self.method.preserve_batch)
        figures = self.erase_gradients()
        if self.method.modulation == "exact":
            self.before = self.exact_gradients()
        elif self.modulation.value > 0:
            loss = self.preserve_loss()
            training.backward(self.modulation.value * loss)
            self.before = loss.item()
        else:
            self.before = training.frozen_call(self.preserve_loss).item()
        return {**figures, "preserve": self.before, "multiplier": self.modulation.value}

    def erase_gradients(self) -> dict[str, float]:
        """Adds the gradient of L_er = L_erase + L_attn."""
        draw = self.erase_bank.draw(self.generator, self.method.batch_size)
        columns = [self.columns[entry] for entry in draw.entries.tolist()]
        watched: list[int] | None = None if self.method.attention_weight else []
        with training.AttentionColumns(self.model, columns, watched) as attention:
            live = self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
            erase = training.erase_loss(live, draw.velocities, self.reference.at(draw), self.method.eta)
            attended = training.attention_loss(attention.masses) if attention.masses else erase.new_zeros(())
            training.backward(erase + self.method.attention_weight * attended)
        return {"erase": erase.item(), "attention": attended.item()}

    def preserve_loss(self) -> Tensor:
        """L_pr on this step's points, both prompts in one call."""
        kept, count = self.kept, len(self.kept.entries)
        live = self.model.velocity(
            kept.latents.repeat(2, 1, 1, 1), kept.timesteps.repeat(2), [self.empty] * count + kept.embeddings
        )
        return training.preserve_loss(live[:count], self.frozen_empty.at(kept), live[count:], kept.velocities)

    def exact_gradients(self) -> float:
        """Adds lambda* grad L_pr, lambda* solved from both gradients; returns L_pr."""
        parameters = list(self.edit.parameters())
        erase = training.take_gradients(parameters)
        loss = self.preserve_loss()
        training.backward(loss)
        preserve = training.take_gradients(parameters)
        weight = self.modulation.update_exact(erase, preserve)
        for parameter, left, right in zip(parameters, erase, preserve, strict=True):
            parameter.grad = left + weight * right
        return loss.item()

    def after_step(self) -> dict[str, float]:
        """Probes L_pr again on the same points and moves lambda (implicit mode only)."""
        if self.method.modulation != "implicit":
            return {}
        after = training.frozen_call(self.preserve_loss).item()
        self.modulation.update_implicit(self.before, after)
        return {"preserve_after": after}
