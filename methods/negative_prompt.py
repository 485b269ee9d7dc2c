"""Negative prompt: guidance away from the concept at every step of the sampler, no training.

    v'(x_t, c) = v(x_t, c) + s ( v(x_t, c) - v(x_t, c_neg) )

c_neg names the concept. Where a pipeline uses classifier-free guidance, v stands for the
guided velocity, which is what the sampler follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench import training
from zbench.method import Method, MethodCard, Progress

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.erasure import Erasure
    from zbench.model import Model


class NegativePrompt(Method):
    """What most users reach for first.

    Attributes:
        scale: s; 0 changes nothing.
        wording: c_neg: the list of the concept's ``phrases`` (as users write it), or a training ``prompt``.
    """

    name: ClassVar[str] = "negative_prompt"
    card: ClassVar[MethodCard] = MethodCard(
        title="Negative prompt",
        paper="Ho and Salimans: Classifier-Free Diffusion Guidance (2022), with the concept as condition",
        arxiv="2207.12598",
        reference_code_licence="none released",
        rows="none",
        weights="none: the velocity is changed after the transformer",
        needs_training=False,
        needs_pictures=False,
        deviations=(
            "the negative prompt has a term of its own; pipelines put it in the place of the empty prompt, "
            "which a guidance-distilled model never evaluates",
            "neither the paper of Z-Erase nor its release has this row",
        ),
        notes=(
            "Costs one more evaluation of the transformer per sampler step: pictures take twice as long.",
            "Acts on every prompt: unrelated pictures change too, as far as the concept's velocity differs.",
            "Whoever has the weights can leave it out: it guards a service, not a released model.",
            "Presets are chosen on tuning prompts only.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"scale": 1.0},
        "miniature": {"scale": 1.0, "wording": "phrases"},
    }

    scale: float = Field(default=1.0, ge=0)
    wording: Literal["phrases", "prompt"] = "phrases"

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Encodes the negative prompt; everything else happens while sampling."""
        from zbench.edits import NegativePromptEdit
        from zbench.erasure import Erasure

        self.require_support(concept)
        meter = training.Meter(model)
        negative = model.encode([training.describe(model, concept, self.wording)])[0]
        edit = NegativePromptEdit(negative, self.scale)
        if progress:
            progress(1, 1)
        return Erasure(edit, self.name, concept.name, self.model_dump(mode="json"), meter.cost())
