"""Sums of outer products and the one linear system that closed-form edits solve, in float64.

Half precision loses a regularisation of 0.1 against rows of thousands of channels, and the system becomes
singular (defect D15 of the reference dossier).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Running sums of outer products, one matrix per layer."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def add(self, layer: int, left: Tensor, right: Tensor) -> None:
        """Adds sum_n left_n right_n^T.

        Args:
            layer: Whose matrix.
            left: [N, D].
            right: [N, D].
        """
        product = left.double().T @ right.double()
        self._sums[layer] = self._sums[layer] + product if layer in self._sums else product

    def mean(self, count: int) -> dict[int, Tensor]:
        """The sums divided by `count`, float64 [D, D] per layer."""
        return {layer: total / count for layer, total in self._sums.items()}


def solve_symmetric(system: Tensor, right: Tensor) -> Tensor:
    """Solves system X = right for a symmetric positive definite float64 system, by Cholesky.

    Args:
        system: [D, D].
        right: [D, K].
    """
    return torch.cholesky_solve(right, torch.linalg.cholesky(system))
