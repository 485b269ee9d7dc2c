"""Free tokens of a batch of prompts, in the three ways in which attacks optimise them.

Each step tries some rows of input embeddings and is told the loss's gradient there. Prompts never meet: every
operation and the optimiser's state are element by element or row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.attacks.toolkit.tokens import nearest_tokens

if TYPE_CHECKING:
    from zbench.prompts.sets import Prompt

MayBeEncoded = Callable[[int, Tensor], bool]
"""Whether the text of prompt number i with these tokens [n] may be shown to a model."""


@dataclass(frozen=True)
class Vocabulary:
    """What free tokens are made of.

    Attributes:
        table: Input embeddings of the text encoder, [V, d].
        allowed: Ids to choose from, [m].
        may_be_encoded: Asked for every text before it is tried.
    """

    table: Tensor
    allowed: Tensor
    may_be_encoded: MayBeEncoded


@dataclass
class Moved:
    """How far an attack has moved each prompt's rows: what its control needs to know of it.

    Attributes:
        norms: Prompt id -> Euclidean norms [n] at every candidate.
    """

    norms: dict[str, list[Tensor]] = field(default_factory=dict)

    def note(self, prompts: Sequence[Prompt], distances: Tensor) -> None:
        """Adds a candidate's distances [B, n]."""
        for prompt, row in zip(prompts, distances, strict=True):
            self.norms.setdefault(prompt.id, []).append(row)


class FreeTokens(ABC):
    """B x n free tokens.

    Attributes:
        words: Tokens that stand for what is tried at the moment, [B, n].
        variable: What is optimised.
    """

    words: Tensor
    variable: Tensor

    def __init__(self, vocabulary: Vocabulary, start: Tensor) -> None:
        self._vocabulary, self.words, self._start = vocabulary, start, start

    @abstractmethod
    def rows(self) -> Tensor:
        """What to try in the next step, [B, n, d] float32, without graph."""

    @abstractmethod
    def follow(self, gradient: Tensor) -> None:
        """One step of the optimiser, given the gradient at the rows that were tried, [B, n, d]."""

    def answer(self) -> Tensor:
        """The tokens of a candidate, [B, n]."""
        return self.words

    def displacements(self) -> Tensor:
        """How far each row is from the token that it started from, [B, n]."""
        distances: Tensor = (self.rows() - self._embedded(self._start)).norm(dim=-1)
        return distances.cpu()

    def _embedded(self, words: Tensor) -> Tensor:
        table = self._vocabulary.table
        return table[words.to(table.device)].float()

    def _admitted(self, proposed: Tensor) -> Tensor:
        """The proposed tokens; those of the step before where a text must not be encoded."""
        pairs = enumerate(zip(proposed, self.words, strict=True))
        may = self._vocabulary.may_be_encoded
        return torch.stack([new if may(index, new) else old for index, (new, old) in pairs])

    def _stepped(self, optimiser: torch.optim.Optimizer, gradient: Tensor) -> None:
        self.variable.grad = gradient
        optimiser.step()
        optimiser.zero_grad()


class RelaxedTokens(FreeTokens):
    """A distribution over the vocabulary for each free token (UnlearnDiffAtk, after Hou et al.'s TextGrad).

    Tokens are sampled; the gradient with respect to the one-hot rows, clipped to [-1, 1], passes straight
    through to the distribution, which is projected back onto the simplex after every step of Adam.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        start: Tensor,
        sources: Sequence[torch.Generator],
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Starts from equal shares, twice that for the tokens to start with.

        Args:
            vocabulary: What to choose from.
            start: Tokens, [B, n].
            sources: One generator per prompt; the only source of randomness.
            learning_rate: Of Adam.
            weight_decay: Of Adam, added to the gradient.
        """
        super().__init__(vocabulary, start)
        self._embeddings = self._embedded(vocabulary.allowed)
        self._sources = sources
        shares = (start[..., None] == vocabulary.allowed).float().add(1)
        self.variable = (shares / shares.sum(-1, keepdim=True)).to(self._embeddings.device)
        self._optimiser = torch.optim.Adam([self.variable], lr=learning_rate, weight_decay=weight_decay)

    def rows(self) -> Tensor:
        """Rows of sampled tokens."""
        count = self.variable.shape[1]
        uniform = torch.stack([torch.rand(count, 1, generator=source) for source in self._sources])
        mass = self.variable.cumsum(-1)
        chosen = torch.searchsorted(mass, uniform.to(mass) * mass[..., -1:]).squeeze(-1)
        self.words = self._admitted(self._vocabulary.allowed[chosen.clamp(max=mass.shape[-1] - 1).cpu()])
        return self._embedded(self.words)

    def follow(self, gradient: Tensor) -> None:
        """See `FreeTokens.follow`."""
        self._stepped(self._optimiser, (gradient @ self._embeddings.T).clamp(-1, 1))
        self.variable = self.variable.copy_(onto_simplex(self.variable))

    def answer(self) -> Tensor:
        """The tokens with the largest shares."""
        return self._admitted(self._vocabulary.allowed[self.variable.argmax(-1).cpu()])


class ContinuousTokens(FreeTokens):
    """Rows that stand for no words."""

    def __init__(
        self, vocabulary: Vocabulary, start: Tensor, learning_rate: float, weight_decay: float
    ) -> None:
        """Starts at the embeddings of tokens.

        Args:
            vocabulary: What to choose from, and whose table is used.
            start: Tokens, [B, n].
            learning_rate: Of AdamW.
            weight_decay: Of AdamW.
        """
        super().__init__(vocabulary, start)
        self.variable = self._embedded(start)
        self._optimiser = torch.optim.AdamW([self.variable], lr=learning_rate, weight_decay=weight_decay)

    def rows(self) -> Tensor:
        """The rows themselves."""
        return self.variable.clone()

    def follow(self, gradient: Tensor) -> None:
        """See `FreeTokens.follow`."""
        self._stepped(self._optimiser, gradient)


class ProjectedTokens(ContinuousTokens):
    """Continuous rows, tried and judged as their nearest tokens (P4D, after Wen et al.'s PEZ).

    The gradient at the projected rows moves the continuous ones.
    """

    def rows(self) -> Tensor:
        """Rows of the nearest tokens."""
        self.words = self.answer()
        return self._embedded(self.words)

    def answer(self) -> Tensor:
        """The nearest tokens."""
        flat = nearest_tokens(self._vocabulary.table, self.variable.flatten(0, 1), self._vocabulary.allowed)
        return self._admitted(flat.view(self.words.shape))


def onto_simplex(values: Tensor) -> Tensor:
    """The nearest distributions: Euclidean projection of each row [..., m] onto the probability simplex."""
    ordered = values.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    places = torch.arange(1, values.shape[-1] + 1, device=values.device)
    support = (ordered * places > excess).sum(-1, keepdim=True).clamp(min=1)
    return (values - excess.gather(-1, support - 1) / support).clamp(min=0)
