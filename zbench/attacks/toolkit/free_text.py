"""Texts that consist of free tokens and nothing else, for searches that keep nothing of a given prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.attacks.toolkit.tokens import TemplatedPrompt, encode_inputs, ordinary_tokens, token_table
from zbench.errors import AttackError
from zbench.training.candidates import template_rows

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.model import Model

_TRIES = 100


def room(model: Model) -> int:
    """Tokens that a prompt may have besides those of the chat template."""
    return model.spec.max_sequence_length - sum(template_rows(model))


class FreeText:
    """Prompts of `length` ordinary tokens inside the chat template.

    Args:
        context: Its model encodes; it says which texts may be encoded at all.
        length: Free tokens, K.
        allowed: Ids to choose from, [m]; all ordinary tokens by default.
    """

    def __init__(self, context: Context, length: int, allowed: Tensor | None = None) -> None:
        self.model: Model = context.model
        self.length = length
        self.allowed = ordinary_tokens(self.model) if allowed is None else allowed
        self._may_be_encoded: Callable[[str], bool] = context.admissible
        self._template = TemplatedPrompt.laid_out(self.model, ["", ""], [length])
        self._known: dict[int, str] = {}

    def text(self, words: Tensor) -> str:
        """The tokens [K] as a text that is encoded as exactly these tokens."""
        tokenizer = self.model.pipeline.tokenizer
        for word in words.tolist():
            if word not in self._known:
                self._known[word] = tokenizer.decode([word])
        return "".join(self._known[word] for word in words.tolist())

    def admissible(self, words: Tensor) -> Tensor:
        """Which rows of tokens [n, K] may be shown to a model, bool [n]."""
        return torch.tensor([self._may_be_encoded(self.text(row)) for row in words], dtype=torch.bool)

    def pick(self, count: int, source: torch.Generator) -> Tensor:
        """Random allowed tokens, [count]."""
        return self.allowed[torch.randint(len(self.allowed), (count,), generator=source)]

    def random(self, count: int, source: torch.Generator) -> Tensor:
        """Random admissible rows of tokens, [count, K].

        Raises:
            AttackError: Random words of this vocabulary are hardly ever admissible.
        """
        drawn = self.pick(count * self.length, source).view(count, self.length)
        for _ in range(_TRIES):
            refused = ~self.admissible(drawn)
            if not refused.any():
                return drawn
            number = int(refused.sum())
            drawn[refused] = self.pick(number * self.length, source).view(number, self.length)
        raise AttackError("Random words of this model's vocabulary are refused again and again.")

    def inputs(self, words: Tensor) -> Tensor:
        """Input embeddings of the templated texts [n, L, d] of tokens [n, K]."""
        table = token_table(self.model)
        ids = self._template.ids.repeat(len(words), 1).index_copy(1, self._template.free, words)
        return table[ids.to(table.device)]

    @property
    def places(self) -> Tensor:
        """Where the free tokens are in a templated text, [K]."""
        return self._template.free

    @torch.no_grad()
    def encode(self, words: Tensor) -> Tensor:
        """Captions [n, L, D] float32 of tokens [n, K]; ask for `admissible` first."""
        return torch.stack(encode_inputs(self.model, list(self.inputs(words)))).float()


def measured(
    rows: Sequence[Tensor], evaluate: Callable[[Tensor, Tensor], Tensor], batch: int
) -> list[Tensor]:
    """Values of rows of tokens that belong to several prompts, in batches over all of them.

    Args:
        rows: Per prompt [n_i, K].
        evaluate: Given rows and the index of each row's prompt, [n] values.
        batch: Rows at once.

    Returns:
        Per prompt [n_i] values.
    """
    counts = [len(part) for part in rows]
    owners = torch.arange(len(rows)).repeat_interleave(torch.tensor(counts))
    parts = zip(torch.split(torch.cat(list(rows)), batch), torch.split(owners, batch), strict=True)
    return list(torch.split(torch.cat([evaluate(part, owner) for part, owner in parts]), counts))
