"""SAFREE (Yoon et al., ICLR 2025): prompt tokens are projected away from the concept, no training.

    C       = leading directions of the concept's mentions, centred by the mean m of harmless tokens
    s_j     = || (I - C C^T)(e_j - m) || / || e_j - m ||,    d_-i = mean_{j != i} s_j
    trigger = d_-i > (1 + alpha) mean_{j != i} d_-j  and  s_i < tau
    e_i'    = m + P (I - C C^T)(e_i - m),                    P onto the span of the prompt's own tokens

e_j are the rows of the prompt's tokens in the text encoder's output. tau lies between the harmless token that
is nearest to the concept and the mention that is farthest from it, both in prompts the method may see, and
never above the former.
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


class SAFREE(Method):
    """Adaptive projection of trigger tokens in the model's own text embeddings.

    Attributes:
        alpha: Relative gain in distance that leaving a trigger out must bring.
        energy: Share of the mentions' squared length that the concept's directions must carry.
        margin: Where tau lies: 0 at the nearest harmless token, 1 at the farthest mention.
        tokens: Rows that are projected: ``triggers`` (the paper), or from the first trigger ``onward``.
    """

    name: ClassVar[str] = "safree"
    card: ClassVar[MethodCard] = MethodCard(
        title="SAFREE (embedding projection)",
        paper="Yoon et al.: SAFREE, Training-Free and Adaptive Guard (ICLR 2025)",
        arxiv="2410.12761",
        reference_code_licence="unpinned",
        rows="text",
        weights="none: prompt embeddings are changed before the transformer",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "directions come from mentions in prompts, not from phrases alone: a language model's embedding "
            "of a word depends on what stands before it",
            "embeddings are centred: without it the component that all tokens share lies in every subspace",
            "a prompt's distance is the mean over its tokens' directions; the paper encodes the prompt again "
            "with each token masked, a pass of a large text encoder per token",
            "tau is an addition: by the relative test alone every prompt, unrelated ones too, has triggers",
            "self-validating filter (steps that see the new embedding) and the attention in latent space are "
            "left out: they belong to the sampler, this row shows the projection alone",
            "neither the paper of Z-Erase nor its release has this row",
        ),
        notes=(
            "Template tokens and prompts without a trigger are untouched bit for bit with tokens = triggers.",
            "A causal text encoder writes a trigger into every later row as well, the template's last ones "
            "included, which the paper's projection does not reach; tokens = onward does.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"alpha": 0.01, "tokens": "triggers"},
        "miniature": {"alpha": 0.01, "energy": 0.9, "margin": 0.25, "tokens": "onward"},
    }

    alpha: float = Field(default=0.01, ge=0)
    energy: float = Field(default=0.8, gt=0, le=1)
    margin: float = Field(default=0.5, ge=0, le=1)
    tokens: Literal["triggers", "onward"] = "triggers"

    def supports(self, concept: Concept) -> str | None:
        """The concept's directions are those of its mentions."""
        return None if concept.is_named else "no training prompt names one of its phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Finds m, C and tau in the model's embeddings; no evaluation of the transformer."""
        from zbench.edits import ProjectionEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        harmless = training.prompt_tokens(model, training.kept_prompts(concept, anchors=True))
        mean = harmless.mean(0)
        named = training.mentions(model, concept.phrases, concept.training_prompts)
        alone = training.mentions(model, concept.phrases, concept.phrases)
        basis = self.directions([rows.mean(0) - mean for rows in [*named, *alone]])
        tau = self.threshold(harmless - mean, [rows - mean for rows in named], basis)
        edit = ProjectionEdit(basis, mean, self.alpha, tau, self.tokens)
        if progress:
            progress(1, 1)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())

    def directions(self, mentions: list[Tensor]) -> Tensor:
        """C: the fewest singular directions that carry the wanted share of energy, [D, r].

        Args:
            mentions: Centred mean embedding of every mention, [D] each.
        """
        import torch

        directions, lengths, _ = torch.linalg.svd(torch.stack(mentions, dim=1), full_matrices=False)
        carried = lengths.square().cumsum(0) / lengths.square().sum()
        # Rounding must not ask for more directions than there are.
        basis: Tensor = directions[:, : int((carried < self.energy - 1e-9).sum()) + 1]
        return basis

    def threshold(self, harmless: Tensor, mentions: list[Tensor], basis: Tensor) -> float:
        """tau: above it a token is left alone; never so high that a harmless one would be a trigger.

        Args:
            harmless: Centred tokens of prompts to preserve, [N, D].
            mentions: Centred tokens of every mention in training prompts, [rows, D] each.
            basis: C.
        """
        from zbench.edits.projection import distances

        nearest = float(distances(harmless, basis).min())
        farthest = max(float(distances(rows, basis).min()) for rows in mentions)
        return min(nearest, nearest - self.margin * (nearest - farthest)) * (1 - 1e-6)
