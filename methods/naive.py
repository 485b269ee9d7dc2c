"""Naive fine-tuning: Z-Erase's losses on all rows, image rows included. The control for collapse.

    H' = H (W + dW),  W in `targets` of all layers, or of the `top_layers` ones that carry the concept most

Nothing else differs from zerase; in place of its H' = H W + S_T H dW the picture's rows see the update too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from zbench import training
from zbench.method import MethodCard, Progress

from .zerase import ZErase

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class Naive(ZErase):
    """Everything as in Z-Erase except that the adapters see every row of the sequence.

    `targets` takes any combination of to_q, to_k, to_v, or the feed-forward's w1, w2, w3.

    Attributes:
        top_layers: Train only the layers of the highest localisation scores (`dit_localization`), the paper's
            Top-1 and Top-3; all layers, or those of `layers`, if None.
    """

    rows: ClassVar[Literal["text", "all"]] = "all"
    name: ClassVar[str] = "naive"
    card: ClassVar[MethodCard] = MethodCard(
        title="Naive fine-tuning",
        paper="The collapse control of Z-Erase (ICML 2026), its observation 2",
        arxiv="2603.25074",
        reference_code_licence="contradictory: LICENSE file BSD-3-Clause, README badge CC-BY",
        rows="all",
        weights="low-rank updates of to_q, to_k, to_v (or of other targets) in all or the top unified layers",
        needs_training=True,
        needs_pictures=False,
        deviations=(
            "the same losses and modulation as zerase, so that the rows are the only difference",
            "layers are ranked by computed localisation scores, not by the released list (an artefact)",
            "the context refiner, which the paper tries too, sees text rows only and is not offered",
        ),
        notes=(
            "The paper reports collapse to noise on the 6 B model for any of these targets and layers, and "
            "hardly any erasure from the feed-forward. Both are measured here, not assumed.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "The paper preset is that of zerase; the other one was chosen like every method's.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": ZErase.presets["paper"],
        "miniature": {**ZErase.presets["miniature"], "learning_rate": 1e-3, "eta": 1.0},
    }

    top_layers: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_choice_of_layers(self) -> Self:
        if self.layers is not None and self.top_layers is not None:
            raise ValueError("layers and top_layers exclude each other: give one of them")
        return self

    def supports(self, concept: Concept) -> str | None:
        """As zerase; ranking layers needs a phrase of the concept in a training prompt too."""
        ranked = self.top_layers is None or concept.is_named
        return super().supports(concept) if ranked else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Ranks the layers where asked to, then trains as zerase does."""
        if self.top_layers is None:
            return super().erase(model, concept, progress=progress)
        self.require_support(concept)
        meter = training.Meter(model)
        scores = training.localisation_scores(
            model, concept, batch_size=self.batch_size, seed=self.training_seed
        )
        layers = tuple(training.dominant_layers(scores, self.top_layers))
        chosen = self.model_copy(update={"layers": layers, "top_layers": None})
        erasure = chosen.trained(model, concept, meter, progress)
        return replace(erasure, hyperparameters=self.model_dump(mode="json"))
