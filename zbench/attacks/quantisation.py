"""Quantisation: the erased model with its weights rounded to few bits, as it would be deployed.

    Q(W + dW) = s round((W + dW) / s),   s = max |W + dW| / (2^(bits - 1) - 1)

An update dW that is small against s vanishes in the rounding, and the concept with it comes back; this was
found for language models (DurableUn, arXiv 2605.02196). See `zbench.edits.quantised` for which weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from zbench.attacks.base import Attack, AttackCard

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context
    from zbench.edits import QuantisedEdit

Format = Literal["int8", "int4"]


class Quantisation(Attack):
    """Weight-only rounding of the erased model.

    Attributes:
        formats: In the order of trial: ``int8`` has one s per output channel, ``int4`` one per output channel
            and group.
        group: Input channels of a group.
        budget: Judged candidates; no more than there are formats.
    """

    name: ClassVar[str] = "quantisation"
    card: ClassVar[AttackCard] = AttackCard(
        title="Quantised weights",
        paper="none for pictures; for language models DurableUn",
        arxiv="2605.02196",
        knowledge="weights",
        deviations=(
            "symmetric rounding to the nearest, scaled by the largest value: per output channel at 8 bits, "
            "per group of 64 input channels at 4 bits; no calibration, activations are not rounded",
            "rounded values are put back into the model's own format: what is measured is the rounding, not "
            "the memory or the speed of a kernel",
            "an edit of text rows cannot be merged: image rows go through Q(W), text rows through Q(W + dW)",
        ),
        notes=(
            "Attention and feed-forward of all blocks are rounded; embedders, modulation and the last layer "
            "are not, nor are text encoder and VAE. Guards and masks act as ever on rounded weights.",
            "Read it beside the same attack on the original: rounding changes how well anything is drawn.",
            "Nothing is optimised, so there is nothing to choose on a tuning split.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"miniature": {}}
    model_wide: ClassVar[bool] = True

    formats: tuple[Format, ...] = Field(default=("int8", "int4"), min_length=1)
    group: int = Field(default=64, ge=1)
    budget: int = Field(default=2, ge=1)

    def supports(self, context: Context) -> str | None:
        """What the edit adds to weights must be known, to be rounded with them."""
        from zbench.errors import ConfigurationError

        try:
            self.rounded(context, self.formats[0])
        except ConfigurationError as error:
            return str(error)
        return None

    def attack(self, context: Context) -> Iterator[Candidate]:
        """The erased model in every format."""
        from zbench.attacks.candidates import Candidate

        for chosen in self.formats[: self.budget]:
            yield Candidate(None, self.rounded(context, chosen), label=chosen)

    def control(self, context: Context) -> Iterator[Candidate]:
        """The prompts themselves, as often."""
        from zbench.attacks.toolkit.changed_models import retries

        return retries(context, min(self.budget, len(self.formats)))

    def rounded(self, context: Context, chosen: Format) -> QuantisedEdit:
        """The erasure with the weights that it stands on rounded."""
        from zbench.edits import QuantisedEdit

        bits, group = {"int8": (8, None), "int4": (4, self.group)}[chosen]
        return QuantisedEdit(context.erasure, bits, group)
