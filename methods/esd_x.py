"""ESD-x, erased stable diffusion (Gandikota et al., ICCV 2023): weights by which text and image interact.

    L = E || v(x_t, c_er) - sg[ v0(x_t, "") - eta ( v0(x_t, c_er) - v0(x_t, "") ) ] ||^2

v is the model being trained, v0 the frozen one, sg stops the gradient; x_t is a point of v0's own trajectory
under the concept prompt c_er, at a random step of the sampler.
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

DEVIATIONS = (
    "low-rank text-row adapters instead of whole weights: all rows share one set of weights here",
    "x_t lies on the frozen model's trajectory; the authors sample it anew from the model being trained",
    "the step is one of the model's own sampler, since a few-step model knows no other noise levels",
    "both references come from the frozen model, as in the paper; in the Z-Erase port they come from the "
    "model being trained, which makes the port the same training run as its AC",
)
NOTES = (
    "steps and eta of the paper preset are the paper's; rank and learning rate are those of the Z-Erase "
    "release, since the paper's rate of 1e-5 is for whole weights.",
    "The empty-prompt velocity of a guidance-distilled model is not a true unconditional score.",
    "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
    "Presets are chosen on tuning prompts only.",
)


class ESDx(LoraMethod):
    """Erased stable diffusion on the queries, keys and values of text rows.

    The paper's variant x trains the cross-attention. In a single stream its part is played by the projections
    through which rows read each other: keys and values of text rows are what image rows attend to, their
    queries what a text row takes up from the others. Everything else works on each row by itself.

    Attributes:
        eta: Negative guidance of the target.
        trajectories: Cached trajectories under the concept's prompts.
    """

    name: ClassVar[str] = "esd_x"
    card: ClassVar[MethodCard] = MethodCard(
        title="ESD-x (erased stable diffusion, attention)",
        paper="Gandikota et al.: Erasing Concepts from Diffusion Models (ICCV 2023)",
        arxiv="2303.07345",
        reference_code_licence="unpinned",
        rows="text",
        weights="low-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=DEVIATIONS,
        notes=NOTES,
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"steps": 1000, "batch_size": 1, "learning_rate": 1e-3, "trajectories": 64},
        "miniature": {
            "steps": 30,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "trajectories": 16,
            "eta": 2.0,
        },
    }

    eta: float = Field(default=1.0, ge=0)
    trajectories: int = Field(default=32, ge=1)

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Trains the adapters; see the head of this file for the equation."""
        self.require_support(concept)
        meter, edit = training.Meter(model), self.lora()
        return self.fit(model, concept, edit, ESDObjective(self, model, concept), meter, progress)


class ESDObjective:
    """The gradient of one step; everything that the frozen model says is computed here, once."""

    def __init__(self, method: ESDx, model: Model, concept: Concept) -> None:
        self.generator = training.generator(method.training_seed)
        self.erasure = training.GuidedErasure(
            model,
            concept,
            reference="empty",
            eta=method.eta,
            trajectories=method.trajectories,
            training_seed=method.training_seed,
            batch_size=method.batch_size,
        )

    def gradients(self) -> dict[str, float]:
        """Gradient of the loss on a fresh draw."""
        loss = self.erasure.loss(self.generator)
        training.backward(loss)
        return {"erase": loss.item()}

    def after_step(self) -> dict[str, float]:
        """Nothing to probe."""
        return {}
