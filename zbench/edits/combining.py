"""Weighted sums of low-rank updates, exactly: ranks are concatenated, factors never averaged.

    sum_i w_i s_i B_i A_i = [w_1 s_1 B_1 ... w_N s_N B_N] [A_1; ...; A_N],    s_i = alpha_i / r_i

Averaging the factors instead gives (sum_i B_i) (sum_j A_j) / N^2: N^2 - N of its terms are products of one
concept's B with another's A, which no training ever saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zbench.errors import ConfigurationError, WeightsError


@dataclass(frozen=True)
class Part:
    """One low-rank update of a sum.

    Attributes:
        factors: "PATH.lora_A.weight" [rank, in] and "PATH.lora_B.weight" [out, rank] of every changed module.
        rank: Its rank.
        scale: Weight in the sum times alpha / rank.
    """

    factors: Mapping[str, Tensor]
    rank: int
    scale: float


def checked_weights(count: int, weights: Sequence[float] | None) -> list[float]:
    """One weight for each of `count` updates; 1 / count each by default.

    Raises:
        ConfigurationError: Nothing to combine, not as many weights as updates, or one that is not finite.
    """
    if count == 0:
        raise ConfigurationError("There is nothing to combine: give at least one LoRA.")
    chosen = [1.0 / count] * count if weights is None else [float(weight) for weight in weights]
    if len(chosen) != count or not all(map(math.isfinite, chosen)):
        raise ConfigurationError(f"{count} LoRAs need as many finite weights, not {chosen}.")
    return chosen


def concatenated(parts: Sequence[Part], paths: Sequence[str]) -> dict[str, Tensor]:
    """Factors of the sum, of rank sum_i r_i; a module that a part leaves alone gets zeros from it.

    Args:
        parts: What is added up.
        paths: Module paths of the sum: all layers of the parts with all their targets.

    Returns:
        Factors by name, on the CPU, detached from those of the parts.

    Raises:
        WeightsError: The parts were made for models of different widths.
    """
    widths = _widths(parts)
    ranks = [part.rank for part in parts]
    joined: dict[str, Tensor] = {}
    for path in paths:
        inside, outside = widths.get(path) or _any_width(path, widths)
        down, up = torch.zeros(sum(ranks), inside), torch.zeros(outside, sum(ranks))
        rows, columns = torch.split(down, ranks), torch.split(up, ranks, dim=1)
        for part, a, b in zip(parts, rows, columns, strict=True):
            if f"{path}.lora_A.weight" in part.factors:
                a.copy_(part.factors[f"{path}.lora_A.weight"].detach())
                b.copy_(part.scale * part.factors[f"{path}.lora_B.weight"].detach())
        joined |= {f"{path}.lora_A.weight": down, f"{path}.lora_B.weight": up}
    return joined


def _widths(parts: Sequence[Part]) -> dict[str, tuple[int, int]]:
    """(in, out) of every module that a part changes."""
    widths: dict[str, tuple[int, int]] = {}
    for part in parts:
        for name, down in part.factors.items():
            path, _, half = name.rpartition(".lora_")
            if half == "A.weight":
                found = (down.shape[1], part.factors[f"{path}.lora_B.weight"].shape[0])
                if widths.setdefault(path, found) != found:
                    raise WeightsError(
                        f"These LoRAs were made for different models: {path} differs in width."
                    )
    return widths


def _any_width(path: str, widths: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The width of the same module in another layer: all unified layers are alike."""
    inside = path.split(".", 2)[2]
    return next(width for known, width in widths.items() if known.split(".", 2)[2] == inside)
