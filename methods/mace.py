"""MACE, mass concept erasure (Lu et al., CVPR 2024), on text rows, in three stages.

    (a) refine   W' = argmin  sum_i sum_f || W' f - W g ||^2 + l1 sum_p || W' p - W p ||^2  =  W + W R
    (b) train    min_{A_i, B_i}  E_{t ~ xi}  mean_layers || A_t[:, S] o M ||^2 ,   W' + B_i A_i per concept i
                 xi(t) ~ sigmoid(gamma (t - t1)) - sigmoid(gamma (t - t2))
    (c) fuse     W* = argmin  sum_i sum_e || W* e - (W' + B_i A_i) e ||^2 + l2 sum_p || W* p - W p ||^2

f and g are what a layer sees at words beside the concept, and at the same words beside its anchor; p, under
prompts to preserve; e, at all rows of concept i's prompts. A_t[:, S] is the attention that image tokens pay
to the concept's tokens, M the concept's region. With E = sum_i e e^T and P = sum p p^T, stage (c) is

    W* - W = ( W R sum_i E_i + sum_i B_i A_i E_i ) ( sum_i E_i + l2 P + l I )^-1
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
    from zbench.training import MemberForms, TrajectoryBank


class MACE(LoraMethod):
    """Mass concept erasure; a composite concept is erased member by member, then fused.

    Attributes:
        targets: Projections that are edited.
        steps: Optimiser steps per member.
        preserve_scale: l1.
        fuse_preserve_scale: l2.
        regularisation: l, in both closed forms.
        words: Rows that (a) maps: words beside the concept (``others``), or ``all`` of the prompt.
        region_threshold: Of the normalised attention map; 0 is the whole picture, as for every style.
        focus: (t1, t2) of xi; None draws steps uniformly.
        sharpness: gamma.
        trajectories: Frozen trajectories per member, and as many under prompts to preserve.
    """

    name: ClassVar[str] = "mace"
    card: ClassVar[MethodCard] = MethodCard(
        title="MACE (mass concept erasure)",
        paper="Lu et al.: MACE: Mass Concept Erasure in Diffusion Models (CVPR 2024)",
        arxiv="2403.06135",
        reference_code_licence="NTUITIVE dual licence: non-commercial use only",
        rows="text",
        weights="full-rank updates of to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "no text-only cross-attention here: to_k and to_v change on text rows only",
            "the region is where the frozen model's own attention to the concept exceeds a threshold, "
            "instead of Grounded-SAM's segment: no other network is needed",
            "closed forms are solved in the space that each layer sees along the sampler, (c) in that of the "
            "refined and trained model; sums over a prompt's rows, its template and padding included",
            "the prior, throughout the frozen model's, is the concept's prompts to preserve and its anchor "
            "prompts, not COCO; l is added",
            "t of xi is 1000 (1 - k / K) before step k of K: the sampler's progress, whatever its time shift",
            "attention on the tokens of a phrase is summed before it is squared; norms are means",
        ),
        notes=(
            "The Z-Erase release has no MACE. Paper preset: t1, t2, gamma and 8 pictures per concept are the "
            "authors'; rank, learning rate and steps those of Z-Erase's text-row adapters; l1 and l2 ours, "
            "since the authors' weigh a sum over a cache of captions, with a value per task.",
            "R has full rank, and so has the fused update: 3.5 GB on a model of width 3840 with 30 layers.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 200, "batch_size": 1, "trajectories": 8},
        "miniature": {"steps": 30, "batch_size": 4, "learning_rate": 1e-3, "words": "others",
                      "trajectories": 16},
    }  # fmt: skip

    targets: tuple[Literal["to_q", "to_k", "to_v"], ...] = Field(default=("to_k", "to_v"), min_length=1)
    preserve_scale: float = Field(default=2.0, ge=0)
    fuse_preserve_scale: float = Field(default=2.0, ge=0)
    regularisation: float = Field(default=0.1, gt=0)
    words: Literal["others", "all"] = "others"
    region_threshold: float = Field(default=0.5, ge=0, le=1)
    focus: tuple[float, float] | None = (200.0, 400.0)
    sharpness: float = Field(default=0.05, gt=0)
    trajectories: int = Field(default=16, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """The tokens to silence are found by the concept's phrases."""
        return None if concept.is_named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Refines, trains one adapter per member, fuses; see the head of this file for the equations."""
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        forms, objectives = self.prepare(model, concept)
        traces = []
        with model.edited(forms.refined(self.preserve_scale)):
            for index, objective in enumerate(objectives):
                lora, told = self.lora(), training.progress_part(progress, index, len(objectives))
                traces.append(self.fit(model, concept, lora, objective, meter, told).trace)
                forms.add(lora, objective.bank, self.batch_size)
        trace = training.joined_traces(traces, meter.evaluations)
        edit, cost = forms.fused(self.fuse_preserve_scale), meter.cost(len(trace))
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), cost, trace)

    def prepare(self, model: Model, concept: Concept) -> tuple[MemberForms, list[AttentionObjective]]:
        """What the frozen model says of all members; one objective each."""
        layers = list(range(len(model.transformer.layers)) if self.layers is None else self.layers)
        drawn = self.model_dump(include={"trajectories", "batch_size", "training_seed"})
        prior = training.prior_moments(model, concept, layers, **drawn)
        forms = training.MemberForms(model, layers, self.targets, prior, self.regularisation)
        objectives = []
        for member in training.member_concepts(concept, model.spec.domain):
            pairs = training.context_row_pairs(model, member, whole=self.words == "all")
            found = training.pair_moments(model, member, pairs, layers, **drawn)
            forms.gather(found)
            objectives.append(AttentionObjective(self, model, member, found.bank))
        return forms, objectives


class AttentionObjective:
    """Stage (b) for one concept, on trajectories and regions of the frozen model."""

    def __init__(self, method: MACE, model: Model, concept: Concept, bank: TrajectoryBank) -> None:
        self.method, self.model, self.bank = method, model, bank
        self.generator = training.generator(method.training_seed)
        self.columns = [training.concept_columns(model, concept, prompt) for prompt in bank.prompts]
        maps = training.attention_maps(model, bank, self.columns, batch_size=method.batch_size)
        # The authors use no mask for styles, which have no place of their own in a picture.
        self.regions = training.regions_of(maps, 0 if concept.family == "style" else method.region_threshold)
        steps = len(bank.timesteps)
        self.importance = method.focus and training.focal_importance(steps, method.focus, method.sharpness)

    def gradients(self) -> dict[str, float]:
        """Gradient of the loss of stage (b) on a fresh draw."""
        draw = self.bank.draw(self.generator, self.method.batch_size, self.importance)
        columns = [self.columns[entry] for entry in draw.entries.tolist()]
        with training.AttentionColumns(self.model, columns) as attention:
            self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
            loss = training.region_loss(attention.masses, self.regions[draw.entries])
            training.backward(loss)
        return {"attention": loss.item()}

    def after_step(self) -> dict[str, float]:
        """Nothing more to trace."""
        return {}
