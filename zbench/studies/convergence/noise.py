"""How much L_pr changes by chance alone: the same trainings with other training seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zbench.statistics import CONFIDENCE

TINY = 1e-12
"""Losses below are taken for this: a logarithm needs something."""

_LEAST = 0.02
"""No spread is taken to be smaller: a few seeds may agree by accident, or because two trials do the same."""

_LARGEST = 700.0
"""Exponents above leave the floating-point numbers."""


def log_loss(loss: float) -> float:
    """Natural logarithm of a loss."""
    return math.log(max(loss, TINY))


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a logarithm over training seeds.

    Attributes:
        deviation: It.
        freedom: Degrees of freedom behind it; 0 where nothing was repeated and it is unknown.
    """

    deviation: float = 0.0
    freedom: int = 0

    def factor(self, comparisons: int = 1) -> float:
        """The factor that chance exceeds in 5 % of cases; Bonferroni's for several. Infinite if unknown."""
        from scipy.stats import t

        if not self.freedom:
            return math.inf
        quantile = float(t.ppf(1 - (1 - CONFIDENCE) / (2 * max(1, comparisons)), self.freedom))
        return math.exp(min(quantile * self._at_least, _LARGEST))

    def p_value(self, change: float) -> float:
        """Two-sided, of a change of the logarithm; 1 if the spread is unknown."""
        from scipy.stats import t

        return float(2 * t.sf(abs(change) / self._at_least, self.freedom)) if self.freedom else 1.0

    @property
    def _at_least(self) -> float:
        return max(self.deviation, _LEAST)

    def describe(self) -> dict[str, Any]:
        """Plain values; ``factor`` is None where it is unknown."""
        factor = self.factor() if self.freedom else None
        return {"deviation": self.deviation, "freedom": self.freedom, "factor": factor}


@dataclass(frozen=True)
class Noise:
    """Noise of L_pr at the end of a training.

    Attributes:
        level: Of log L_pr of one training.
        ratio: Of log L_pr of one training minus that of another with the same training seed: both see the
            same points, so that much of the noise is common to them.
        losses: Trial -> L_pr at the end for each training seed.
    """

    level: Spread = field(default_factory=Spread)
    ratio: Spread = field(default_factory=Spread)
    losses: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Plain values."""
        losses = {name: list(values) for name, values in self.losses.items()}
        return {"level": self.level.describe(), "ratio": self.ratio.describe(), "losses": losses}


def measure_noise(losses: Mapping[str, Sequence[float]]) -> Noise:
    """The noise in a table of trials and training seeds.

    Args:
        losses: Trial -> L_pr at the end for each training seed, the same seeds for all trials.

    Returns:
        The pooled spread within trials; and, from what is left when each trial's and each seed's mean is
        taken off, that of the difference between two trials of one seed. Unknown for fewer than two seeds,
        the latter also for fewer than two trials.
    """
    import numpy as np

    kept = {name: tuple(map(float, values)) for name, values in losses.items()}
    table = np.array([[log_loss(value) for value in values] for values in kept.values()])
    if table.ndim != 2 or table.shape[1] < 2:
        return Noise(losses=kept)
    trials, seeds = table.shape
    within = table - table.mean(axis=1, keepdims=True)
    left = within - within.mean(axis=0, keepdims=True)
    return Noise(
        _spread(float((within**2).sum()), trials * (seeds - 1)),
        _spread(2 * float((left**2).sum()), (trials - 1) * (seeds - 1)),
        kept,
    )


def _spread(squares: float, freedom: int) -> Spread:
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else Spread()
