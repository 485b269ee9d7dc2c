"""Attention for training on the CPU: the stock processor's arithmetic with faster kernels.

For a hundred rows the fused CPU kernel's backward pass takes three times as long as plain matrix products,
and complex multiplication is slower than two real ones. Weights trained with this processor are used with the
stock one; a test holds both outputs equal.
"""

from __future__ import annotations

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor


def _rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [B, S, heads, d] in real arithmetic; cos and sin are [B, S, 1, d/2]."""
    even, odd = rows.unflatten(-1, (-1, 2)).unbind(-1)  # type: ignore[no-untyped-call]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class PlainAttention:
    """Drop-in processor for `ZImageTransformer2DModel` blocks; needs captions of equal padded length."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        """Attention over the rows of one block, [B, S, C] to [B, S, C]."""
        if attention_mask is not None or freqs_cis is None:
            raise ValueError("PlainAttention trains on rows without padding between samples")
        query, key, value = (
            projection(hidden_states).unflatten(-1, (attn.heads, -1))
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        cos, sin = (part.unsqueeze(2).to(query.dtype) for part in (freqs_cis.real, freqs_cis.imag))
        query = _rotate(attn.norm_q(query), cos, sin).transpose(1, 2)
        key = _rotate(attn.norm_k(key), cos, sin).transpose(1, 2)
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
        mixed = (weights.to(value.dtype) @ value.transpose(1, 2)).transpose(1, 2).flatten(2)
        attended: Tensor = attn.to_out[0](mixed)
        return attended


def use_plain_attention(transformer: ZImageTransformer2DModel) -> None:
    """Put `PlainAttention` into every block."""
    for block in (*transformer.noise_refiner, *transformer.context_refiner, *transformer.layers):
        block.attention.set_processor(PlainAttention())
