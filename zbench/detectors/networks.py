"""Two small detector networks of different architecture, one head per family of concepts.

Both read float pictures in -1 .. 1 of any size from 32 pixels up and give one logit per concept; concepts may
co-occur, so every logit is its own yes or no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Families = Mapping[str, Sequence[str]]


class _Heads(nn.Module):
    """One linear head per family; outputs are concatenated in the order of the families."""

    def __init__(self, width: int, families: Families) -> None:
        super().__init__()
        self.families = nn.ModuleDict(
            {name: nn.Linear(width, len(concepts)) for name, concepts in families.items()}
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([head(features) for head in self.families.values()], dim=1)


class ConvolutionalDetector(nn.Module):
    """Four strided convolution stages with batch normalisation and maximum pooling.

    Args:
        families: Family -> concept names, in the order of the outputs.
    """

    def __init__(self, families: Families) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        self.stages = nn.Sequential(*(self._stage(a, b) for a, b in pairwise(widths)))
        self.heads = _Heads(widths[-1], families)

    @staticmethod
    def _stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in -1 .. 1 to logits [N, concepts]."""
        logits: Tensor = self.heads(self.stages(pictures).amax(dim=(2, 3)))
        return logits


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )

    def forward(self, rows: Tensor) -> Tensor:
        changed: Tensor = rows + self.body(rows)
        return changed


class ResidualDetector(nn.Module):
    """A patch stem and residual blocks with group normalisation; mean and maximum pooling side by side.

    Args:
        families: Family -> concept names, in the order of the outputs.
    """

    def __init__(self, families: Families) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 40, 4, 4),
            _Residual(40),
            nn.Conv2d(40, 80, 2, 2),
            _Residual(80),
            _Residual(80),
            nn.GroupNorm(8, 80),
            nn.GELU(),
        )
        self.heads = _Heads(160, families)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in -1 .. 1 to logits [N, concepts]."""
        rows = self.body(pictures)
        logits: Tensor = self.heads(torch.cat([rows.mean(dim=(2, 3)), rows.amax(dim=(2, 3))], dim=1))
        return logits


NETWORKS: dict[str, type[nn.Module]] = {
    "convolutional": ConvolutionalDetector,
    "residual": ResidualDetector,
}
"""Name of an architecture, as written in a weight file's header -> its class."""
