"""AC, ablating concepts (Kumari et al., ICCV 2023), in the text-row framework.

    x_t = (1 - sigma) x0 + sigma e,  x0 drawn by the frozen model under the anchor prompt c_a
    model-based:  E || v(x_t, c_er) - sg[ v(x_t, c_a) ] ||^2
    noise-based:  E || v(x_t, c_er) - (e - x0) ||^2
    regulariser:  E || v(x_t, c_a) - (e - x0) ||^2

v is the model being trained, sg stops the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import LoraMethod, MethodCard, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model

DEVIATIONS = (
    "text-row adapters on to_q, to_k, to_v: the model has no cross-attention to fine-tune",
    "noise levels are those of the model's own sampler, since a few-step model knows no others",
    "the regulariser uses the same x_t as the ablation loss, which saves one evaluation per step",
)
NOTES = (
    "rank, learning rate and steps of the paper preset: as the Z-Erase release uses them for AC.",
    "On a guidance-distilled model the flow-matching terms (noise variant, regulariser) pull "
    "towards the undistilled field: what follows from that is to be measured, not assumed.",
    "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
    "Presets are chosen on tuning prompts only.",
)


class AC(LoraMethod):
    """Ablating concepts by anchor distribution matching.

    Attributes:
        variant: ``model`` (match the model's own anchor prediction) or ``noise`` (match the noise).
        regularisation_weight: Weight of the anchor regulariser; 0 skips it.
        trajectories: Anchor samples x0, drawn once.
    """

    name: ClassVar[str] = "ac"
    card: ClassVar[MethodCard] = MethodCard(
        title="AC (ablating concepts)",
        paper="Kumari et al.: Ablating Concepts in Text-to-Image Diffusion Models (ICCV 2023)",
        arxiv="2303.13516",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            *DEVIATIONS,
            "x_t is made from anchor samples, with a regulariser, as in the paper; the Z-Erase release has "
            "no regulariser and samples x_t under the concept prompt",
        ),
        notes=NOTES,
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 200, "batch_size": 1, "learning_rate": 1e-3, "rank": 8, "trajectories": 64},
        "miniature": {
            "steps": 30,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "trajectories": 16,
            "regularisation_weight": 0.1,
        },
    }

    variant: Literal["model", "noise"] = "model"
    regularisation_weight: float = Field(default=1.0, ge=0)
    trajectories: int = Field(default=32, ge=1)

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equations."""
        self.require_support(concept)
        meter, edit = training.Meter(model), self.lora()
        return self.fit(model, concept, edit, ACObjective(self, model, concept), meter, progress)


class ACObjective:
    """The gradients of one step, on anchor samples that are drawn here, once."""

    def __init__(self, method: AC, model: Model, concept: Concept) -> None:
        self.method, self.model = method, model
        self.generator = training.generator(method.training_seed)
        chosen = training.over_members(concept, concept.training_prompts, method.trajectories)
        anchors = [concept.anchor_prompts[index] for index in chosen]
        seed, batch = method.training_seed, method.batch_size
        self.bank = training.sampled_bank(model, anchors, "anchor", seed, batch)
        self.concepts = training.encode_each(model, [concept.training_prompts[index] for index in chosen])

    def gradients(self) -> dict[str, float]:
        """Gradient of the ablation loss plus the weighted regulariser on a fresh draw."""
        method = self.method
        draw = training.flow_points(self.bank, self.generator, method.batch_size)

        def at_anchor() -> Tensor:
            return self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)

        figures, target = {}, draw.velocities
        if method.regularisation_weight > 0:
            anchor = at_anchor()
            regulariser = training.mean_square(anchor, target)
            training.backward(method.regularisation_weight * regulariser)
            figures["regulariser"] = regulariser.item()
            anchor = anchor.detach()
        elif method.variant == "model":
            anchor = training.frozen_call(at_anchor)
        concepts = [self.concepts[entry] for entry in draw.entries.tolist()]
        live = self.model.velocity(draw.latents, draw.timesteps, concepts)
        ablation = training.mean_square(live, anchor if method.variant == "model" else target)
        training.backward(ablation)
        return {"ablation": ablation.item(), **figures}

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
