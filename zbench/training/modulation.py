"""The multiplier of the preservation loss: Z-Erase's Lagrangian-guided adaptive modulation.

The update direction shall erase as much as possible subject to <grad L_pr, d> >= -epsilon. The dual variable
lambda >= 0 weighs L_pr; it is found exactly from two gradients, or implicitly from how L_pr moved in a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["implicit", "exact", "fixed"]


def inner_product(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """<left, right> over all tensors, summed in float64."""
    pairs = zip(left, right, strict=True)
    return sum(float(torch.sum(one.double() * other.double())) for one, other in pairs)


def exact_multiplier(erase: Sequence[Tensor], preserve: Sequence[Tensor], epsilon: float) -> float:
    """lambda* = max(0, (-<g_er, g_pr> - epsilon) / ||g_pr||^2), the dual's solution.

    Args:
        erase: Gradient of L_er, one tensor per parameter.
        preserve: Gradient of L_pr, likewise.
        epsilon: Slack; larger lets L_pr rise faster.

    Returns:
        The multiplier; 0 where L_pr has no gradient, since no direction can then violate the constraint.
    """
    inner = inner_product(erase, preserve)
    norm = sum(float(right.double().square().sum()) for right in preserve)
    return max(0.0, (-inner - epsilon) / norm) if norm > 0 else 0.0


@dataclass
class LagrangianModulation:
    """Holds lambda over the steps of a training.

    Attributes:
        mode: ``implicit`` (scalar proxy, one backward pass for both losses), ``exact``, or ``fixed``.
        beta: Step size of the implicit dual update.
        epsilon: Slack of the constraint.
        learning_rate: alpha, the step size of the parameters.
        value: lambda; the start value, and for good in mode ``fixed``.
        maximum: Upper clamp; None, as in the paper, for none.
    """

    mode: Mode
    beta: float
    epsilon: float
    learning_rate: float
    value: float = 0.0
    maximum: float | None = None

    def proxy(self, before: float, after: float) -> float:
        """g~ = (L_pr(before the step) - L_pr(after it)) / alpha + epsilon, which stands in for g.

        Both losses must be measured on the same samples: otherwise sampling noise enters divided by alpha.
        """
        return (before - after) / self.learning_rate + self.epsilon

    def update_implicit(self, before: float, after: float) -> float:
        """One step of projected dual descent, lambda <- clamp(lambda - beta g~) with g~ from `proxy`.

        The paper's algorithm omits the clamp at zero that its dual asks for; without it lambda drifts below
        zero and L_pr is maximised.

        Returns:
            The new lambda; unchanged unless the mode is ``implicit``.
        """
        if self.mode == "implicit":
            self.value = self._clamped(self.value - self.beta * self.proxy(before, after))
        return self.value

    def update_exact(self, erase: Sequence[Tensor], preserve: Sequence[Tensor]) -> float:
        """Solves for lambda at the current gradients; unchanged unless the mode is ``exact``."""
        if self.mode == "exact":
            self.value = self._clamped(exact_multiplier(erase, preserve, self.epsilon))
        return self.value

    def _clamped(self, value: float) -> float:
        return min(math.inf if self.maximum is None else self.maximum, max(0.0, value))
