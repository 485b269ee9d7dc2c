"""Scale: the erasure at a part of its strength, for whoever turns it down.

    W' = W + f dW   (adapters, closed forms),   v' = v - f g   (guidance),   f in `factors`

The strength of an edit is a number that its users set, and published evaluations set it differently from
table to table; an erasure that fails at three quarters of its strength has little to spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from zbench.attacks.base import Attack, AttackCard

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context


class Scale(Attack):
    """The edit at several strengths.

    Attributes:
        factors: f, in the order of trial; 1 is the erasure itself.
        budget: Judged candidates; no more than there are factors.
    """

    name: ClassVar[str] = "scale"
    card: ClassVar[AttackCard] = AttackCard(
        title="Scaled edit",
        paper="none: Z-Erase's scripts load one adapter at scales 10, 15 and 25",
        arxiv="",
        knowledge="weights",
        deviations=(
            "exact: alpha of a LoRA, a closed form's update, the scale of a negative prompt, what safe "
            "latent diffusion subtracts; nothing is retrained",
        ),
        notes=(
            "Masks, projections, zeroed tokens and swapped states act or do not: they have no strength and "
            "are skipped with that reason. Of a composed edit, the parts that have a strength are scaled.",
            "Factor 1 is the erasure, drawn once more: what it breaks, a retry breaks.",
            "Nothing is optimised, so there is nothing to choose on a tuning split.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {}}
    model_wide: ClassVar[bool] = True

    factors: tuple[float, ...] = Field(default=(0.5, 0.75, 1.0), min_length=1)
    budget: int = Field(default=3, ge=1)

    def supports(self, context: Context) -> str | None:
        """An edit must have a strength."""
        from zbench.errors import ConfigurationError

        try:
            context.erasure.scaled(1.0)
        except ConfigurationError as error:
            return str(error)
        return None

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The scaled edits."""
        from zbench.attacks.candidates import Candidate

        for factor in self.factors[: self.budget]:
            yield Candidate(None, context.erasure.scaled(factor), label=f"strength {factor:g}")

    def control(self, context: Context) -> Iterator[Candidate]:
        """The prompts themselves, as often."""
        from zbench.attacks.toolkit.changed_models import retries

        return retries(context, min(self.budget, len(self.factors)))
