"""Token zeroing: no row attends to the tokens that name a concept.

With the columns `idx` of the attention map set to zero after the softmax, the output is

    sum_{j not in idx} A_ij v_j

which is ordinary attention with the value rows `idx` set to zero: exact, and no map is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch
from torch import Tensor

from zbench.edits.captions import CaptionedCall, CaptionedEdit
from zbench.errors import ConfigurationError

if TYPE_CHECKING:
    from zbench.model.model import Model

TokenChoice = Literal["span", "onward"]


class TokenZeroingEdit(CaptionedEdit):
    """Zeroes the attention that every row pays to the tokens of some phrases.

    Args:
        phrases: Whole words, any case.
        tokens: The phrases' ``span`` only, or every caption token from the first one ``onward``: in a causal
            text encoder all later tokens know of the concept.
        layers: Unified layers; all if None.
        renormalise: Mask the columns before the softmax, so that the rest of a row sums to one again.

    Raises:
        ConfigurationError: No phrases, no layer, or another choice of tokens.
    """

    kind = "token-zeroing"

    def __init__(
        self,
        phrases: Sequence[str],
        tokens: TokenChoice = "span",
        layers: Sequence[int] | None = None,
        renormalise: bool = False,
    ) -> None:
        super().__init__(phrases, layers)
        if not phrases or tokens not in get_args(TokenChoice):
            raise ConfigurationError(
                f"Token zeroing needs phrases, and tokens 'span' or 'onward', not {tokens!r}."
            )
        self.tokens, self.renormalise = tokens, renormalise

    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "phrases": list(self.phrases),
            "tokens": self.tokens,
            "layers": None if self.layers is None else list(self.layers),
            "renormalise": self.renormalise,
        }

    def columns_of(self, model: Model, prompt: str, length: int) -> tuple[int, ...]:
        """The phrases' tokens, and with ``onward`` all that follow."""
        found = super().columns_of(model, prompt, length)
        return tuple(range(found[0], length)) if found and self.tokens == "onward" else found

    def attend(self, layer: int, call: CaptionedCall, attention: Any, hidden: Tensor, **rest: Any) -> Tensor:
        """Attention without the columns of the call."""
        if not any(call.columns):
            unchanged: Tensor = attention(hidden, **rest)
            return unchanged
        assert self._model is not None
        zeroed = row_mask(call.columns, self._model.rows.current.image, hidden)
        if self.renormalise:
            mask = rest.pop("attention_mask")
            masked: Tensor = attention(
                hidden, attention_mask=~zeroed if mask is None else mask & ~zeroed, **rest
            )
            return masked
        with values_zeroed(attention.module, zeroed):
            output: Tensor = attention(hidden, **rest)
        return output

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)


def row_mask(columns: Sequence[Sequence[int]], starts: Sequence[int], hidden: Tensor) -> Tensor:
    """Mask of caption tokens in the unified sequence, [B, S] on the device of `hidden`.

    Args:
        columns: Per sample, caption tokens.
        starts: Per sample, the first text row.
        hidden: Activations [B, S, D].

    Raises:
        ValueError: Columns of another batch.
    """
    if len(columns) != len(hidden):
        raise ValueError(f"columns for {len(columns)} samples, but a call of {len(hidden)}")
    mask = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    for sample, (chosen, start) in enumerate(zip(columns, starts, strict=True)):
        mask[sample, [start + column for column in chosen]] = True
    return mask.to(hidden.device)


@contextmanager
def values_zeroed(attention: Any, rows: Tensor) -> Iterator[None]:
    """Sets value rows of an attention module to zero inside a `with` block, adapters on it included.

    Args:
        attention: Has `to_v`.
        rows: True where values become zero, [B, S].
    """
    zero = attention.to_v.register_forward_hook(
        lambda module, args, values: values.masked_fill(rows[..., None], 0)
    )
    try:
        yield
    finally:
        zero.remove()
