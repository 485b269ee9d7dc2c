"""Where in a picture a concept is, told by the frozen model's own attention to the concept's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zbench.training.attention import AttentionColumns
from zbench.training.trajectories import TrajectoryBank

if TYPE_CHECKING:
    from zbench.model import Model


@torch.no_grad()
def attention_maps(
    model: Model, bank: TrajectoryBank, columns: Sequence[Sequence[int]], *, batch_size: int
) -> Tensor:
    """Attention that image tokens pay to given text tokens, per trajectory of a bank.

    Args:
        model: No edit attached.
        bank: Whose points are visited.
        columns: Per trajectory, indices into its caption tokens.
        batch_size: Samples per call; the maps do not depend on it.

    Returns:
        Mean over steps, layers and heads of the mass on the columns, [E, image rows] float32.
    """
    found: dict[int, Tensor] = {}
    for draw in bank.batches(batch_size):
        entries = draw.entries.tolist()
        with AttentionColumns(model, [columns[entry] for entry in entries]) as attention:
            model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        means = torch.stack([mass.float().mean(1) for mass in attention.masses.values()]).mean(0)
        for entry, mean in zip(entries, means, strict=True):
            found[entry] = found[entry] + mean if entry in found else mean
    return torch.stack([found[entry] for entry in range(len(bank))]) / len(bank.timesteps)


def regions_of(maps: Tensor, threshold: float) -> Tensor:
    """Where a map, brought to 0 at its minimum and 1 at its maximum, reaches a threshold.

    Args:
        maps: [E, image rows].
        threshold: From 0 (everywhere) to 1 (its maximum only).

    Returns:
        [E, image rows] bool; no row is empty.
    """
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    # Rounding must not empty the region of a maximum.
    return (maps >= low + threshold * (high - low)) | (maps == high)


def region_loss(masses: Mapping[int, Tensor], regions: Tensor) -> Tensor:
    """Mean over samples, layers and heads of the mean over the region of the squared mass.

    Args:
        masses: Per layer the attention mass on each sample's columns, [B, heads, image rows].
        regions: [B, image rows] bool, no row empty.
    """
    weights = regions.float() / regions.sum(1, keepdim=True)
    layers = [(mass.float().square() * weights[:, None]).sum(-1).mean() for mass in masses.values()]
    return torch.stack(layers).mean()
