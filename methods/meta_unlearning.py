"""Meta-Unlearning (Gao et al., ICCV 2025) on ESD, on text rows: a model that resists being taught again.

    L_D(theta) = E || v_theta(x_t, c) - v0(x_t, c) ||^2,   (x_t, c) on v0's trajectories under D's prompts
    L_erase    = E || v(x_t, c_er) - [ v0(x_t, r) - eta ( v0(x_t, c_er) - v0(x_t, r) ) ] ||^2
    theta'     = theta - sum over inner steps of share L_con / ||grad L_con||^2 grad L_con
    min over theta:  L_erase(theta) + g_unr L_unr(theta) + g_rel L_rel(theta)
                     - [ m_con L_con(theta') + m_rel L_rel(theta') + m_unr L_unr(theta') ]

v0 is the frozen model, r the empty prompt or the anchor. D is `con`, the concept's prompts (malicious data);
`rel`, its anchor prompts (benign, but related); `unr`, prompts to preserve. theta' is what fine-tuning on the
concept would make of theta; there the concept shall stay forgotten and what is related to it be lost. The
gradient of the bracket is first order: grad L_D(theta'), that is with d theta' / d theta = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.model import Model


class MetaUnlearning(LoraMethod):
    """ESD with a meta objective against relearning.

    Attributes:
        eta: Negative guidance of the erase target.
        reference: r, what the target starts from: the ``empty`` prompt or the ``anchor`` prompts.
        trajectories: Cached trajectories under each kind of prompts.
        unrelated_weight: g_unr.
        related_weight: g_rel.
        preserve_batch: Points per step for each of L_unr(theta) and L_rel(theta).
        meta_concept: m_con.
        meta_related: m_rel.
        meta_unrelated: m_unr.
        meta_batch: Points for an inner step, and for each term of the bracket.
        inner_steps: Steps of simulated fine-tuning.
        inner_share: share: how much of L_con a step would undo if it were linear (Polyak's step).
        gradient_clip: Largest norm of the whole gradient; none if None.
    """

    name: ClassVar[str] = "meta_unlearning"
    card: ClassVar[MethodCard] = MethodCard(
        title="Meta-Unlearning",
        paper="Gao et al.: Meta-Unlearning on Diffusion Models (ICCV 2025)",
        arxiv="2410.12777",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "text-row adapters on to_q, to_k, to_v; fine-tuning is simulated on them, not on all weights",
            "data are the frozen model's own samples; a fine-tuning loss compares with its own velocities, "
            "since flow matching would pull a few-step model towards its undistilled field",
            "noise levels are the sampler's; the authors fix those of the meta terms to nearly clean ones",
            "inner steps are Polyak's, whose length needs no tuning since L_con is 0 for the unerased model; "
            "the authors run an epoch of AdamW",
            "the meta gradient is first order, as in the authors' code",
        ),
        notes=(
            "The Z-Erase release has no code for it. Weights, eta and clipping of the paper preset: the "
            "authors' example script, which passes gamma2_1 three times, read here as gamma2_1 to gamma2_3; "
            "rank, learning rate and steps: Z-Erase's.",
            "The bracket is unbounded: with m_rel above g_rel, related prompts may be lost with no attack.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **{"steps": 1000, "batch_size": 1, "preserve_batch": 1, "meta_batch": 1, "eta": 3.0},
            **{"trajectories": 64, "unrelated_weight": 0.1, "related_weight": 0.01},
            **{"meta_concept": 0.1, "meta_related": 0.1, "meta_unrelated": 0.01},
        },
        "miniature": {
            **{"steps": 30, "batch_size": 4, "preserve_batch": 2, "meta_batch": 2, "trajectories": 16},
            **{"learning_rate": 5e-3, "meta_concept": 0.1, "meta_related": 0.1},
        },
    }

    eta: float = Field(default=1.0, ge=0)
    reference: Literal["empty", "anchor"] = "empty"
    trajectories: int = Field(default=32, ge=1)
    unrelated_weight: float = Field(default=1.0, ge=0)
    related_weight: float = Field(default=1.0, ge=0)
    preserve_batch: int = Field(default=4, ge=1)
    meta_concept: float = Field(default=0.1, ge=0)
    meta_related: float = Field(default=0.1, ge=0)
    meta_unrelated: float = Field(default=0.0, ge=0)
    meta_batch: int = Field(default=4, ge=1)
    inner_steps: int = Field(default=1, ge=1)
    inner_share: float = Field(default=0.5, gt=0, le=1)
    gradient_clip: float | None = Field(default=1.0, gt=0)

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        meter, edit = training.Meter(model), self.lora()
        objective = MetaUnlearningObjective(self, model, concept, edit)
        return self.fit(model, concept, edit, objective, meter, progress)


class MetaUnlearningObjective:
    """The gradients of one step, from trajectories and predictions that are made here, once."""

    def __init__(self, method: MetaUnlearning, model: Model, concept: Concept, edit: Edit) -> None:
        self.method, self.model, self.edit = method, model, edit
        self.generator = training.generator(method.training_seed)
        common: dict[str, int] = {"training_seed": method.training_seed, "batch_size": method.batch_size}
        target: dict[str, Any] = {"reference": method.reference, "eta": method.eta, **common}
        self.erasure = training.GuidedErasure(model, concept, trajectories=method.trajectories, **target)
        self.banks = {"concept": self.erasure.bank}
        benign = {"related": concept.anchor_prompts, "unrelated": concept.preserve_prompts}
        for data, prompts in benign.items():
            chosen = [prompts[index] for index in training.spread(prompts, method.trajectories)]
            self.banks[data] = training.sampled_bank(model, chosen, data, **common)

    def drift(self, data: str, batch: int) -> Tensor:
        """L_D on fresh points."""
        return training.drift(self.model, self.banks[data].draw(self.generator, batch))

    def gradients(self) -> dict[str, float]:
        """Gradient of the whole objective, clipped."""
        method, parameters = self.method, list(self.edit.parameters())
        figures = self.meta_gradients(parameters)
        # Gradients taken at theta' stay where they are: those at theta are added to them.
        erase = self.erasure.loss(self.generator)
        training.backward(erase)
        retain = {"related": method.related_weight, "unrelated": method.unrelated_weight}
        figures |= {"erase": erase.item(), **self.add("retain", retain, method.preserve_batch)}
        training.clip_gradients(parameters, method.gradient_clip)
        return figures

    def meta_gradients(self, parameters: list[Any]) -> dict[str, float]:
        """Minus the gradient of the bracket, at theta'; afterwards the parameters are theta again."""
        method, forgotten = self.method, []
        weights = {"concept": -method.meta_concept, "related": -method.meta_related}
        weights["unrelated"] = -method.meta_unrelated
        if not any(weights.values()):
            return {}
        with training.restored(parameters):
            for _ in range(method.inner_steps):
                loss = self.drift("concept", method.meta_batch)
                training.polyak_step(parameters, loss, method.inner_share)
                forgotten.append(loss.item())
            return {"forgotten": forgotten[0], **self.add("meta", weights, method.meta_batch)}

    def add(self, term: str, weights: dict[str, float], batch: int) -> dict[str, float]:
        """Adds the gradients of weighted L_D at the present parameters, one after the other."""
        figures = {}
        for data in (name for name, weight in weights.items() if weight):
            loss = self.drift(data, batch)
            training.backward(weights[data] * loss)
            figures[f"{term}_{data}"] = loss.item()
        return figures

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
