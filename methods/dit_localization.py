"""DiT-Localization (Zarei et al., 2025): find the layers that carry a concept, show them a clean prompt.

    score(layer) = mean over steps, prompts, image queries of || W_O ( A[I, span] V[span] ) ||
    L            = the top_layers layers of highest score
    h_txt[l, t] <- h0_txt[l, t]  for l in L, at the attention's input

h_txt are the text rows that a prompt brings to a layer at timestep t, h0_txt those that the concept's anchor
("a person") brings there, recorded from the frozen model along its own sampler. Nothing is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class DiTLocalization(Method):
    """Localised replacement of text states.

    Attributes:
        top_layers: Layers whose text rows are replaced.
        trigger: ``always`` replaces them for every prompt, ``phrases`` only where a prompt names the concept.
        trajectories: Pictures drawn under concept prompts to score the layers, of every member of a composite
            concept at least one.
        clean_trajectories: Pictures drawn under the anchor; the recorded states are their mean.
        batch_size: Samples per transformer call; the result does not depend on it.
    """

    name: ClassVar[str] = "dit_localization"
    card: ClassVar[MethodCard] = MethodCard(
        title="DiT-Localization",
        paper="Zarei et al.: Localizing Knowledge in Diffusion Transformers (2025)",
        arxiv="2505.18832",
        reference_code_licence="unpinned",
        rows="text",
        weights="none: text rows entering the attention of the localised layers are overwritten",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "the clean prompt is the concept's anchor for every prompt, as in the Z-Erase port for nudity; "
            "the paper rewrites each prompt by hand, which no edit of a model can do",
            "scores are computed; the port's six layers are the order in which a sort returns equal zeros",
            "states belong to a timestep (the nearest recorded one is used), where the port repeats those of "
            "the first step at every step",
            "states are means over several pictures, so that no single picture shows through; the port takes "
            "them from one run with the latents of the picture to be drawn",
            "every text row is overwritten, a longer caption by repeating the last recorded row; the port "
            "leaves the rows beyond the clean prompt's as they are",
            "the clean prompt passes the chat template once and no picture's noise depends on the recording; "
            "in the port the template is applied twice and a shared generator moves on",
        ),
        notes=(
            "Scores compare attention outputs before the normalisation that a single-stream block applies to "
            "them: a layer of large weights ranks high, as the score is defined.",
            "With trigger = always (the port) unrelated prompts lose what those layers knew of them; with a "
            "pipeline that guides, the empty prompt has the same rows there, and the rest alone guides.",
            "Trajectories are drawn without guidance, also on a model whose pictures are drawn with it.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"top_layers": 6, "trajectories": 16, "batch_size": 1},
        "miniature": {"top_layers": 3, "trajectories": 4, "clean_trajectories": 2, "trigger": "phrases"},
    }

    top_layers: int = Field(default=6, ge=1)
    trigger: Literal["always", "phrases"] = "always"
    trajectories: int = Field(default=8, ge=1)
    clean_trajectories: int = Field(default=4, ge=1)
    batch_size: int = Field(default=8, ge=1)

    def supports(self, concept: Concept) -> str | None:
        """The score is that of the concept's phrases in its training prompts."""
        return None if concept.is_named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Scores the layers, records the anchor's states; see the head of this file."""
        from zbench.edits import StateSwapEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        scores = training.localisation_scores(
            model,
            concept,
            trajectories=self.trajectories,
            batch_size=self.batch_size,
            seed=self.training_seed,
        )
        layers = training.dominant_layers(scores, self.top_layers)
        if progress:
            progress(1, 2)
        states, timesteps = self.clean_states(model, concept.anchor, layers)
        if progress:
            progress(2, 2)
        phrases = concept.phrases if self.trigger == "phrases" else ()
        edit = StateSwapEdit(states, timesteps, phrases, scores)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())

    def clean_states(self, model: Model, anchor: str, layers: list[int]) -> tuple[dict[int, Tensor], Tensor]:
        """Rows that the anchor brings to the attention of `layers`, [steps, rows, D], and the timesteps."""
        import torch

        seeds = training.seeds_for("states", self.training_seed, self.clean_trajectories)
        sums: dict[int, Tensor] = {}
        for start in range(0, len(seeds), self.batch_size):
            chunk = seeds[start : start + self.batch_size]
            calls: list[dict[int, Tensor]] = []
            with training.TextInputs(model, layers, calls.append):
                model.trajectory(model.encode([anchor] * len(chunk)), chunk)
            for layer in layers:
                found = torch.stack([call[layer].float().sum(dim=0) for call in calls])
                sums[layer] = sums[layer] + found if layer in sums else found
        dtype = model.transformer.dtype
        return {layer: (total / len(seeds)).to(dtype) for layer, total in sums.items()}, model.timesteps()
