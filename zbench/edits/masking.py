"""Lets a module see text rows only: the other rows of its input become exact zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zbench.model.rows import RowTracker, Stream


def keep_text_rows(module: nn.Module, stream: Stream, rows: RowTracker) -> RemovableHandle:
    """Masks the input of a bias-free linear module, so that its output is exactly zero on image rows.

    Args:
        module: Gets [B, S, D].
        stream: Which rows it sees, see `zbench.model.rows.stream_of`.
        rows: The model's tracker.

    Returns:
        Handle that takes the mask off again.
    """

    def mask(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        hidden: Tensor = args[0]
        # A product with 0 would let infinities through; a choice does not.
        return (torch.where(rows.text_row_mask(stream, hidden.shape, hidden.device), hidden, 0.0),)

    return module.register_forward_pre_hook(mask)
