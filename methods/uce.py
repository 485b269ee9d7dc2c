"""UCE, unified concept editing (Gandikota et al., WACV 2024): closed form, on text rows.

    W' = (l W + s_e sum W c_g c_e^T + s_p sum W c_p c_p^T) (l I + s_e sum c_e c_e^T + s_p sum c_p c_p^T)^-1

c_e, c_g, c_p are what the projections of a layer really see at token rows of the concept, of its anchor and
of prompts to preserve, while the frozen model runs along trajectories. Subtracting W from both sides gives

    W' - W = W R,   R = s_e sum (c_g - c_e) c_e^T (l I + s_e sum c_e c_e^T + s_p sum c_p c_p^T)^-1

so that one R per layer serves all its projections, and no difference of nearly equal matrices is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress, Projection, concept_is_named

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model

Pair = tuple[list[int], list[int]]
"""Token rows of a concept prompt, and the rows of its anchor prompt that they are mapped to."""


class UCE(Method):
    """Unified concept editing in the space of the edited layers.

    Attributes:
        targets: Projections that are edited.
        layers: Unified layers that are edited; all if None.
        erase_scale: s_e.
        preserve_scale: s_p.
        regularisation: l, to be seen against channels of layer inputs, whose mean square is about 1.
        tokens: Rows of the concept that are mapped: its ``span`` only, or from the span ``onward``, since in
            a causal text encoder every later token knows of it.
        trajectories: Frozen trajectories under concept prompts, and as many under prompts to preserve.
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
            "solved in the space that each layer really sees along the sampler, not in the text encoder's",
            "sums run over the token rows of a prompt and are averaged over trajectories and steps",
            "anchor and concept rows are paired from the end of the prompts, where their words agree",
            "float64, solved for the update itself: nothing is lost to rounding or to a low-rank fit",
        ),
        notes=(
            "scales of the paper preset are those of the Z-Erase release (10, 1, 0.1); its six layers are an "
            "artefact of a tensor layout and are not followed: all layers are edited.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"erase_scale": 10.0, "preserve_scale": 1.0, "regularisation": 0.1, "batch_size": 1},
        "miniature": {"erase_scale": 10.0, "preserve_scale": 1.0, "regularisation": 0.1, "tokens": "onward"},
    }

    targets: tuple[Projection, ...] = Field(default=("to_q", "to_k", "to_v"), min_length=1)
    layers: tuple[int, ...] | None = None
    erase_scale: float = Field(default=10.0, gt=0)
    preserve_scale: float = Field(default=1.0, ge=0)
    regularisation: float = Field(default=0.1, gt=0)
    tokens: Literal["span", "onward"] = "span"
    trajectories: int = Field(default=16, ge=1)
    batch_size: int = Field(default=8, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """The rows to edit are found by the concept's phrases."""
        return None if concept_is_named(concept) else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Gathers the layers' inputs, solves once per layer, changes no weight of the model itself."""
        from zbench.edits import DeltaEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        layers = list(range(len(model.transformer.layers)) if self.layers is None else self.layers)
        cross, concept_moment = self.concept_moments(model, concept, layers)
        preserve_moment = self.preserve_moments(model, concept, layers)
        deltas: dict[str, Tensor] = {}
        for done, layer in enumerate(layers, start=1):
            update = self.solve(cross[layer], concept_moment[layer], preserve_moment[layer])
            for target in self.targets:
                path = f"layers.{layer}.attention.{target}"
                weight = model.transformer.get_submodule(path).weight
                deltas[path] = (weight.double() @ update).float()
            if progress:
                progress(done, len(layers))
        edit = DeltaEdit(deltas, rows="text")
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())

    def solve(self, cross: Tensor, concept: Tensor, preserve: Tensor) -> Tensor:
        """R of the head of this file, float64 [D, D].

        Args:
            cross: sum (c_g - c_e) c_e^T.
            concept: sum c_e c_e^T.
            preserve: sum c_p c_p^T.
        """
        system = self.erase_scale * concept + self.preserve_scale * preserve
        system.diagonal().add_(self.regularisation)
        # R system = s_e cross, and the system is symmetric.
        return training.solve_symmetric(system, self.erase_scale * cross.T).T

    def concept_moments(
        self, model: Model, concept: Concept, layers: list[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Means over points of sum (c_g - c_e) c_e^T and sum c_e c_e^T per layer."""
        pairs = {index: pair for index, pair in enumerate(self.row_pairs(model, concept)) if pair[0]}
        known = list(pairs)
        chosen = [known[index] for index in training.spread(known, self.trajectories)]
        bank = self._bank(model, [concept.training_prompts[index] for index in chosen], "erase")
        anchors = training.encode_each(model, [concept.anchor_prompts[index] for index in chosen])
        cross, moment = training.Moments(), training.Moments()
        for draw in bank.batches(self.batch_size):
            entries = draw.entries.tolist()
            seen = training.text_inputs(model, draw, draw.embeddings, layers)
            guide = training.text_inputs(model, draw, [anchors[entry] for entry in entries], layers)
            rows = [pairs[chosen[entry]] for entry in entries]
            for layer in layers:
                c_e = stack_rows(seen[layer], [concept_rows for concept_rows, _ in rows])
                c_g = stack_rows(guide[layer], [guide_rows for _, guide_rows in rows])
                cross.add(layer, c_g - c_e, c_e)
                moment.add(layer, c_e, c_e)
        points = len(bank) * len(bank.timesteps)
        return cross.mean(points), moment.mean(points)

    def preserve_moments(self, model: Model, concept: Concept, layers: list[int]) -> dict[int, Tensor]:
        """Mean over points of sum c_p c_p^T per layer, over all caption rows of the prompts to preserve."""
        kept = list(dict.fromkeys([*concept.preserve_prompts, *concept.anchor_prompts]))
        prompts = [kept[index] for index in training.spread(kept, self.trajectories)]
        bank = self._bank(model, prompts, "preserve")
        moment = training.Moments()
        for draw in bank.batches(self.batch_size):
            seen = training.text_inputs(model, draw, draw.embeddings, layers)
            # Padding rows of a caption are text rows too: the update acts on them as well.
            rows = [list(range(training.padded(len(embedding)))) for embedding in draw.embeddings]
            for layer in layers:
                c_p = stack_rows(seen[layer], rows)
                moment.add(layer, c_p, c_p)
        return moment.mean(len(bank) * len(bank.timesteps))

    def row_pairs(self, model: Model, concept: Concept) -> list[Pair]:
        """Per training prompt its rows and the anchor's rows they go to; empty where no phrase is named."""
        captions = model.encode(list(concept.training_prompts)), model.encode(list(concept.anchor_prompts))
        pairs: list[Pair] = []
        for prompt, caption, anchor in zip(concept.training_prompts, *captions, strict=True):
            rows = training.concept_columns(model, concept, prompt)
            if rows and self.tokens == "onward":
                rows = list(range(rows[0], len(caption)))
            # The words after the concept agree, so rows are paired from the end. A concept longer than its
            # anchor maps its first rows to the row before it, the last one that both prompts share.
            shift = len(anchor) - len(caption)
            guides = [min(max(row + shift, rows[0] - 1), len(anchor) - 1) for row in rows]
            pairs.append((rows, guides))
        return pairs

    def _bank(self, model: Model, prompts: list[str], purpose: str) -> training.TrajectoryBank:
        seeds = training.seeds_for(purpose, self.training_seed, len(prompts))
        return training.TrajectoryBank.sample(model, prompts, seeds, batch_size=self.batch_size)


def stack_rows(inputs: Tensor, rows: list[list[int]]) -> Tensor:
    """The chosen rows of every sample below each other, [N, D] float64.

    Args:
        inputs: [B, text rows, D].
        rows: Per sample, row indices.
    """
    samples = [sample for sample, chosen in enumerate(rows) for _ in chosen]
    return inputs[samples, [row for chosen in rows for row in chosen]].double()
