"""Concept vectors: a concept's direction added to embeddings (called Ring-A-Bell by RECE and Z-Erase).

    c  = mean over pairs of ( E(with the concept) - E(without it) )
    E' = E(prompt) + s c

No text is searched for, so this is not Ring-A-Bell (`ring_a_bell`): it needs access to what the transformer
is given. Captions are aligned row by row before they are subtracted (`zbench.attacks.toolkit.directions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from zbench.attacks.base import Attack, AttackCard

if TYPE_CHECKING:
    from torch import Tensor

    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.attacks.toolkit.directions import ConceptDirection
    from zbench.prompts.sets import Prompt


class ConceptVector(Attack):
    """Embedding injection, with the strength swept.

    Attributes:
        strengths: s, one candidate each, in this order; those beyond the budget are not tried.
        spread: ``aligned``: each row is moved by its own mean difference; ``pooled``: the prompt's own rows
            are all moved by the mean of theirs.
    """

    name: ClassVar[str] = "concept_vector"
    card: ClassVar[AttackCard] = AttackCard(
        title="Concept vector (embedding injection)",
        paper="Gong et al.: RECE (ECCV 2024) and Jiang et al.: Z-Erase (ICML 2026), who call it Ring-A-Bell; "
        "the direction is that of Tsai et al.: Ring-A-Bell! (ICLR 2024)",
        arxiv="2310.10012",
        knowledge="encoder",
        control="a random direction, every row as long as the concept's, at the same strengths",
        deviations=(
            "captions are aligned before they are subtracted: template rows with template rows, the prompt's "
            "own resampled; the Z-Erase release pads with zeros, so that template rows of one prompt meet "
            "words of the other",
            "rows of the template before the prompt are not moved: a causal encoder has no difference there; "
            "those after it are, as in the release",
            "pairs are the concept's training and anchor prompts; RECE has 79 pairs, Z-Erase at most 50",
        ),
        notes=(
            "Payloads are embeddings, which guards that read prompts do not see: token zeroing has no "
            "columns to zero in a caption it does not know. The direction is built without guards; it is "
            "added to the caption as the erased pipeline makes it.",
            "Who can add to embeddings could replace them: a measure of what the weights still draw.",
            "Every prompt is charged the whole direction; captions that were encoded before cost no time.",
            "Composite concepts are skipped: the mean over their members aims at none.",
            "Strengths are in units of c. The paper preset has eta 3 (nudity; RECE uses 0.9 for Van Gogh). "
            "Presets are chosen on tuning prompts only: miniature finds 20 of 20 of nudity and 19 of 20 of "
            "violence that do not show it, unerased; thorough all.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"strengths": (3.0,), "budget": 1},
        "miniature": {"strengths": (2.0, 5.0, 1.0)},
        "thorough": {"strengths": (2.0, 5.0, 1.0, 3.0, 8.0), "budget": 5},
    }

    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(3.0, 1.0, 2.0), min_length=1)
    spread: Literal["aligned", "pooled"] = "aligned"

    def supports(self, context: Context) -> str | None:
        """One direction is for one concept."""
        from zbench.attacks.toolkit.directions import many_concepts

        return many_concepts(context.concept)

    def prepare(self, context: Context) -> ConceptDirection:
        """Direction c of the concept, for captions of any length."""
        from zbench.attacks.toolkit.directions import ConceptDirection

        return ConceptDirection.of(context.model, context.concept)

    def attack(self, context: Context) -> Iterator[Candidate]:
        """E + s c for every strength."""
        direction: ConceptDirection = context.shared
        return self._moved(context, lambda prompt, length: direction.rows(length, self.spread))

    def control(self, context: Context) -> Iterator[Candidate]:
        """E + s r, r a random direction of equal norm, the same at all strengths."""
        from zbench.attacks.toolkit.directions import random_like

        direction: ConceptDirection = context.shared

        def drawn(prompt: Prompt, length: int) -> Tensor:
            return random_like(direction.rows(length, self.spread), context.generator("control", prompt.id))

        return self._moved(context, drawn)

    def _moved(self, context: Context, towards: Callable[[Prompt, int], Tensor]) -> Iterator[Candidate]:
        from zbench.attacks.candidates import Candidate
        from zbench.attacks.toolkit.effort import Effort

        effort = Effort(context.model, len(context.prompts), context.shared.spent)
        with effort.measured(), context.erased() as model:
            captions = model.encode([prompt.text for prompt in context.prompts])
        effort.encoded(len(captions))
        for strength in self.strengths[: self.budget]:
            for prompt, caption in zip(context.prompts, captions, strict=True):
                moved = caption.float() + strength * towards(prompt, len(caption))
                label = f"strength {strength:g}"
                yield Candidate(prompt.id, moved.to(caption.dtype), label, effort.spent)
