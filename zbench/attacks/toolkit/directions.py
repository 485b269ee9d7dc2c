"""A concept as a direction between captions: the mean difference of prompts with it and prompts without it.

Captions of a model without padding differ in length. So each is brought to a common number of rows first:
rows of the chat template stay with rows of the template, and the prompt's own rows are resampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zbench.attacks.candidates import NOTHING, Spent
from zbench.attacks.toolkit.effort import Effort
from zbench.training.candidates import align, template_rows
from zbench.training.trajectories import encode_each

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.model import Model

Spread = Literal["aligned", "pooled"]
"""How a direction lies on a caption's rows: row by row, or one mean for all of the prompt's own rows."""


@dataclass(frozen=True)
class ConceptDirection:
    """c of a concept, for captions of any length.

    Attributes:
        pairs: (E(with), E(without)) of every pair of training and anchor prompts, [L, D] each.
        template: Rows of the chat template before and after a prompt's own.
        spent: What it took to encode the pairs; captions that the model still knew cost no time.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]
    template: tuple[int, int]
    spent: Spent = NOTHING
    _known: dict[tuple[int, Spread], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, model: Model, concept: Concept) -> ConceptDirection:
        """Encodes the concept's pairs.

        Args:
            model: No edit attached: whoever builds the direction has the text encoder without its guards.
            concept: What was erased.
        """
        effort, sides = Effort(model, 1), (concept.training_prompts, concept.anchor_prompts)
        with effort.measured():
            shown, hidden = (encode_each(model, prompts) for prompts in sides)
        effort.encoded(sum(len(set(prompts)) for prompts in sides))
        return cls(tuple(zip(shown, hidden, strict=True)), template_rows(model), effort.spent)

    def aligned(self, caption: Tensor, length: int) -> Tensor:
        """A caption brought to `length` rows, [length, D] float32."""
        return align(caption, length, self.template).float()

    def rows(self, length: int, spread: Spread = "aligned") -> Tensor:
        """Direction c for a caption of so many rows.

        Args:
            length: Rows of the caption, template included.
            spread: ``aligned``: every row has its own mean difference. ``pooled``: the prompt's own rows
                share the mean of theirs; the template's rows keep their own.

        Returns:
            [length, D] float32. Rows before the prompt are 0: a causal encoder has not read it there.
        """
        # A prompt of one token at least: align cannot make template rows out of nothing.
        length = max(length, sum(self.template) + 1)
        if (length, spread) not in self._known:
            self._known[length, spread] = self._mean_difference(length, spread)
        return self._known[length, spread]

    def _mean_difference(self, length: int, spread: Spread) -> Tensor:
        differences = [self.aligned(a, length) - self.aligned(b, length) for a, b in self.pairs]
        mean = torch.stack(differences).mean(0)
        if spread == "pooled":
            before, after = self.template
            mean[before : length - after] = mean[before : length - after].mean(0)
        return mean


def many_concepts(concept: Concept) -> str | None:
    """Why one direction, or one word, cannot stand for this concept; None where it can."""
    count = len(concept.members)
    return f"{count} concepts are erased together: the mean of their prompts aims at none" if count else None


def random_like(direction: Tensor, source: torch.Generator) -> Tensor:
    """A random direction of equal norm: every row as long as the row of `direction` that it stands for."""
    drawn = torch.randn(direction.shape, generator=source).to(direction)
    scale: Tensor = direction.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
    return drawn * scale
