"""Token zeroing, the training-free control of Z-Erase (arXiv 2603.25074, its observation 1).

    A = softmax(Q K^T / sqrt(d)),   A[:, :, idx] = 0,   output = A V

idx are the columns of the tokens that name the concept. Setting them to zero is the same as setting the value
rows V[idx] to zero; with `renormalise` the columns are masked before the softmax instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class TokenZeroing(Method):
    """Attention to the concept's tokens is set to zero wherever a prompt names it.

    Attributes:
        tokens: The ``span`` of the phrases only, or every token from it ``onward``, since in a causal text
            encoder all later tokens know of it.
        layers: Unified layers where this is done; all if None.
        renormalise: Let the rest of the attention sum to one again.
    """

    name: ClassVar[str] = "token_zeroing"
    card: ClassVar[MethodCard] = MethodCard(
        title="Token zeroing",
        paper="The training-free control of Z-Erase (ICML 2026), its observation 1",
        arxiv="2603.25074",
        reference_code_licence="none released",
        rows="text",
        weights="none: attention columns of the concept's tokens are zeroed",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "zeroed after the softmax without renormalising, in all unified layers and heads, for image and "
            "text queries alike, as the paper's A[:,:,idx] = 0 reads; it does not say more",
        ),
        notes=(
            "Phrases are matched as whole words in any case: misspellings and affixes escape, which is the "
            "paper's point. Embeddings that come from no prompt (embedding attacks) are left alone.",
            "Words after the concept still carry it: the text encoder is causal, the context refiner mixes.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "miniature": {"tokens": "onward", "renormalise": True},
    }

    tokens: Literal["span", "onward"] = "span"
    layers: tuple[int, ...] | None = None
    renormalise: bool = False

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Nothing is computed: the edit looks for the concept's phrases in every prompt."""
        from zbench.edits import TokenZeroingEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        edit = TokenZeroingEdit(concept.phrases, self.tokens, self.layers, self.renormalise)
        if progress:
            progress(1, 1)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())
