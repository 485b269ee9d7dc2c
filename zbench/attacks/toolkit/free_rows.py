"""Rows of input embeddings that are no words: as captions, and random ones as far from words as others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from zbench.attacks.toolkit.tokens import TemplatedPrompt, encode_inputs, token_table

if TYPE_CHECKING:
    from zbench.attacks.context import Context
    from zbench.model import Model


@torch.no_grad()
def captions_of(model: Model, layouts: Sequence[TemplatedPrompt], rows: Tensor) -> list[Tensor]:
    """Captions [L_i, D] of B prompts with these rows [B, n, d] in their free places, past all guards."""
    inputs = [layout.inputs(row) for layout, row in zip(layouts, rows, strict=True)]
    return [caption.clone() for caption in encode_inputs(model, inputs)]


def displaced(context: Context, words: Tensor, far: Tensor, purpose: str) -> Tensor:
    """Rows of these words [B, n], each moved so far [B, n] in a random direction, [B, n, d].

    Args:
        context: Whose prompts' ids give the directions.
        words: Tokens.
        far: Euclidean lengths.
        purpose: Of the directions; other purposes have others.
    """
    table = token_table(context.model)
    rows = table[words.to(table.device)].float()
    sources = (context.generator(purpose, prompt.id) for prompt in context.prompts)
    drawn = torch.stack([torch.randn(rows.shape[1:], generator=source) for source in sources])
    return rows + (far[..., None] * normalize(drawn, dim=-1)).to(rows)
