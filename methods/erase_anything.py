"""EraseAnything: bi-level erasure for flow transformers (arXiv 2412.20413), in the text-row framework.

    lower level, forgetting (steps 0, 2, 4, ...):
        L_esd  = E || v(x_t, c) - [ v0(x_t, r) - eta ( v0(x_t, c) - v0(x_t, r) ) ] ||^2
        L_attn = || A[image, tokens of the concept] ||
    upper level, preserving (steps 1, 3, 5, ...):
        L_fm   = E || v(y_t, c_pr) - (e - y0) ||^2,   y_t = (1 - sigma) y0 + sigma e
        L_rsc  = E log [ exp(s_0) / sum_{k=0..K} exp(s_k) ],   s_k = cos(F, F_k) / tau

v is the model being trained, v0 the frozen one, r the empty prompt or an anchor, y0 a sample of v0. F is the
attention that image rows pay to the concept's tokens, F_0 the frozen feature of the concept in other words,
F_1 ... F_K those of irrelevant concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class EraseAnything(LoraMethod):
    """EraseAnything: forgetting and preserving in turns.

    Attributes:
        eta: Negative guidance of the forgetting target.
        reference: r: the ``empty`` prompt (the paper) or the ``anchor`` prompts (its code).
        attention_weight: Weight of L_attn against L_esd.
        flow_weight: Weight of L_fm.
        contrast_weight: Weight of L_rsc.
        temperature: tau.
        irrelevant: K, concepts of other families that F is drawn towards.
        shuffle: Probability that a trajectory's prompt has its words shuffled (phrases stay whole).
        trajectories: Cached trajectories under the concept's prompts, and as many under prompts to preserve.
        contrast_points: Points of these trajectories at which frozen features are computed, once.
    """

    name: ClassVar[str] = "erase_anything"
    card: ClassVar[MethodCard] = MethodCard(
        title="EraseAnything",
        paper="Gao et al.: Enabling Concept Erasure in Rectified Flow Transformers (ICML 2025)",
        arxiv="2412.20413",
        reference_code_licence="BSD-3-Clause",
        rows="text",
        weights="low-rank updates of to_q, to_k, by default also of to_v, in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "text-row adapters on to_q, to_k: the model has no separate text projections (add_q_proj, "
            "add_k_proj); to_v is ours and not in the paper preset",
            "v0 is frozen; the code takes the reference from the model being trained",
            "the levels take turns under one optimiser, as in the code; Z-Erase's copy weighs them instead",
            "L_fm on the frozen model's own samples; the code uses a few given pictures of the concept",
            "irrelevant concepts: from the catalogue (code: a language model), each at its own tokens (code: "
            "at the erased word's position)",
            "the synonym is another training prompt (code: a random dictionary entry, put in after the token "
            "span was found)",
            "similarities are the live concept's (code: the synonym's), or nothing would pull F anywhere",
            "F: mean over heads and layers (code: head 0), one number per image row whatever the caption",
            "L_attn: norm of the span's summed columns over the root of its size, of the graded call only",
        ),
        notes=(
            "attention_weight of the paper preset: 0.001 times the root of 24 heads x 1024 queries, which "
            "turns the code's norm into ours; shuffling: as in the code of Z-Erase's copy.",
            "On a guidance-distilled model L_fm pulls towards the undistilled field: what follows from that "
            "is to be measured, not assumed.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"targets": ("to_q", "to_k"), "batch_size": 1, "trajectories": 64, "attention_weight": 0.16},
        "miniature": {
            "reference": "anchor", "steps": 60, "batch_size": 4, "learning_rate": 1e-3, "flow_weight": 1.0,
            "trajectories": 16, "contrast_points": 32,
        },
    }  # fmt: skip

    eta: float = Field(default=1.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    attention_weight: float = Field(default=0.1, ge=0)
    flow_weight: float = Field(default=0.1, ge=0)
    contrast_weight: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=0.07, gt=0)
    irrelevant: int = Field(default=3, ge=1)
    shuffle: float = Field(default=0.9, ge=0, le=1)
    trajectories: int = Field(default=32, ge=1)
    contrast_points: int = Field(default=64, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """Attention and features need the concept's tokens in its training prompts."""
        return None if concept.is_named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        meter, edit = training.Meter(model), self.lora()
        return self.fit(model, concept, edit, BilevelObjective(self, model, concept), meter, progress)


class BilevelObjective:
    """The gradients of one step, from trajectories and frozen quantities that are computed here, once."""

    def __init__(self, method: EraseAnything, model: Model, concept: Concept) -> None:
        self.method, self.model, self.step = method, model, 0
        seed, batch = method.training_seed, method.batch_size
        self.generator = training.generator(seed)
        points = training.ConceptPoints(
            model, concept,
            trajectories=method.trajectories, reference=method.reference, training_seed=seed,
            batch_size=batch, shuffle=method.shuffle, generator=self.generator,
        )  # fmt: skip
        self.bank, self.reference = points.bank, points.reference
        self.captions = training.Captions(points.bank.embeddings, points.columns)
        kept = training.kept_prompts(concept, anchors=True)
        kept = [kept[index] for index in training.spread(kept, method.trajectories)]
        self.preserve_bank = training.sampled_bank(model, kept, "preserve", seed, batch)
        others = training.irrelevant_concepts(concept, model.spec.domain, method.irrelevant, self.generator)
        self.contrast = training.ContrastBank.compute(
            model, self.bank, self.captions, others,
            count=method.contrast_points, batch_size=batch, generator=self.generator,
        )  # fmt: skip

    def gradients(self) -> dict[str, float]:
        """Adds the gradient of the lower level and of the upper level, in turns."""
        self.step += 1
        return self.forget() if self.step % 2 else self.preserve()

    def forget(self) -> dict[str, float]:
        """Adds the gradient of L_esd + w L_attn, from one call."""
        method, draw = self.method, self.bank.draw(self.generator, self.method.batch_size)
        columns = self.captions.at(draw.entries.tolist()).columns
        with training.AttentionColumns(self.model, columns) as attention:
            live = self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
            erase = training.erase_loss(live, draw.velocities, self.reference.at(draw), method.eta)
            attended = training.attention_norm(attention.masses)
            training.backward(erase + method.attention_weight * attended)
        return {"erase": erase.item(), "attention": attended.item()}

    def preserve(self) -> dict[str, float]:
        """Adds the gradient of w L_fm + w' L_rsc, from one call: points of L_fm, then of L_rsc."""
        method, count = self.method, self.method.batch_size
        noised = training.flow_points(self.preserve_bank, self.generator, count)
        compared = self.contrast.draw(self.generator, count)
        both = training.joined(noised, compared.points)
        columns: list[list[int]] = [[]] * count + compared.columns
        with training.AttentionColumns(self.model, columns) as attention:
            live = self.model.velocity(both.latents, both.timesteps, both.embeddings)
            flow = training.mean_square(live[:count], noised.velocities)
            features = training.column_features(attention.masses)[count:]
            contrast = training.reverse_contrast(features, compared.features, method.temperature)
            training.backward(method.flow_weight * flow + method.contrast_weight * contrast)
        return {"flow": flow.item(), "contrast": contrast.item()}

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
