"""UCE, unified concept editing (Gandikota et al., WACV 2024): closed form, on text rows.

    W' = (l W + s_e sum W c_g c_e^T + s_p sum W c_p c_p^T) (l I + s_e sum c_e c_e^T + s_p sum c_p c_p^T)^-1

c_e, c_g, c_p are what the projections of a layer really see at token rows of the concept, of its anchor and
of prompts to preserve, while the frozen model runs along trajectories; of a composite concept the first two
sums run over its members. Subtracting W from both sides gives

    W' - W = W R,   R = s_e sum (c_g - c_e) c_e^T (l I + s_e sum c_e c_e^T + s_p sum c_p c_p^T)^-1

so that one R per layer serves all its projections, and no difference of nearly equal matrices is taken.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model
    from zbench.training import Pair


class UCE(Method):
    """Unified concept editing in the space of the edited layers.

    Attributes:
        targets: Projections that are edited, of those that see the same input.
        layers: Unified layers that are edited; all if None.
        erase_scale: s_e.
        preserve_scale: s_p.
        regularisation: l, to be seen against channels of layer inputs, whose mean square is about 1.
        tokens: Rows of the concept that are mapped: its ``span`` only, or from the span ``onward``, since in
            a causal text encoder every later token knows of it.
        trajectories: Frozen trajectories per member under its prompts, and as many under prompts to preserve.
        batch_size: Samples per transformer call; the result does not depend on it.
    """

    name: ClassVar[str] = "uce"
    card: ClassVar[MethodCard] = MethodCard(
        title="UCE (unified concept editing)",
        paper="Gandikota et al.: Unified Concept Editing in Diffusion Models (WACV 2024)",
        arxiv="2308.14761",
        reference_code_licence="unpinned",
        rows="text",
        weights="full-rank updates of to_q, to_k, to_v in all unified layers",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "no cross-attention here: to_k and to_v are edited on text rows, and so is to_q, by which they "
            "read the others; the paper leaves queries alone",
            "solved in the space that each layer really sees along the sampler, not in the text encoder's",
            "sums are means over trajectories and steps; the concept's run over its span, or over all rows "
            "from it on with the template's last ones; the prior's over all rows of a caption, template and "
            "padding included, since the update acts on them too",
            "the prior is the concept's prompts to preserve and its anchor prompts; the paper lists concepts",
            "anchor and concept rows are paired from the end of the prompts, where their words agree",
            "float64, solved for the update itself: nothing is lost to rounding or to a low-rank fit",
        ),
        notes=(
            "scales of the paper preset are those of the Z-Erase release (10, 1, 0.1); its six layers are an "
            "artefact of a tensor layout and are not followed: all layers are edited.",
            "R has full rank, and so has the update: 5.3 GB on a model of width 3840 with 30 layers, and "
            "14 GB of sums in float64 while it is solved.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"erase_scale": 10.0, "preserve_scale": 1.0, "regularisation": 0.1, "batch_size": 1},
        "miniature": {
            "erase_scale": 1.0,
            "preserve_scale": 1.0,
            "regularisation": 0.1,
            "tokens": "onward",
            "trajectories": 8,
        },
    }

    targets: tuple[Literal["to_q", "to_k", "to_v"], ...] = Field(
        default=("to_q", "to_k", "to_v"), min_length=1
    )
    layers: tuple[int, ...] | None = None
    erase_scale: float = Field(default=10.0, gt=0)
    preserve_scale: float = Field(default=1.0, ge=0)
    regularisation: float = Field(default=0.1, gt=0)
    tokens: Literal["span", "onward"] = "span"
    trajectories: int = Field(default=16, ge=1)
    batch_size: int = Field(default=8, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """The rows to edit are found by the concept's phrases."""
        return None if concept.is_named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Gathers the layers' inputs, solves once per layer, changes no weight of the model itself."""
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        updates = self.updates(model, concept, progress)
        edit = training.projection_edit(
            model, list(updates), self.targets, lambda path, layer, weight: weight @ updates[layer]
        )
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())

    def updates(self, model: Model, concept: Concept, progress: Progress | None) -> dict[int, Tensor]:
        """R of the head of this file per layer, float64 [D, D]."""
        layers = list(range(len(model.transformer.layers)) if self.layers is None else self.layers)
        drawn = self.model_dump(include={"trajectories", "batch_size", "training_seed"})
        sums = reduce(add, (
            training.pair_moments(model, member, self.row_pairs(model, member), layers, **drawn)
            for member in training.member_concepts(concept, model.spec.domain)
        ))  # fmt: skip
        prior = training.prior_moments(model, concept, layers, **drawn)
        updates: dict[int, Tensor] = {}
        for done, layer in enumerate(layers, start=1):
            updates[layer] = training.refinement(
                sums.cross[layer],
                sums.square[layer],
                prior[layer],
                scale=self.erase_scale,
                preserve=self.preserve_scale,
                regularisation=self.regularisation,
            )
            if progress:
                progress(done, len(layers))
        return updates

    def row_pairs(self, model: Model, concept: Concept) -> list[Pair]:
        """Per training prompt its rows and the anchor's rows they go to; empty where no phrase is named."""
        return training.concept_row_pairs(model, concept, onward=self.tokens == "onward")
