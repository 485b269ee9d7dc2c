"""Paired tests of many rows against one: every prompt's summed difference may have had the other sign.

Outcomes give small whole numbers, and then the distribution over all sign flips is known exactly: a sum of
scaled binomials. With one picture for each prompt that is McNemar's exact test. Values that are no whole
numbers are flipped at random, every row by the same flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from zbench.statistics.pairs import FLIPS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGEST = 1000
"""Whole numbers above it are no counts of pictures, and their sums are too many to list."""

_ROUNDING = 1e-9
"""Flips count as extreme as what was seen down to this share of it: sums differ in their last bits."""


def flip_p_values(differences: NDArray[np.float64]) -> list[float]:
    """Two-sided p-values of the test that flips the sign of each prompt's difference.

    Args:
        differences: [rows, G] summed difference of each of G prompts, finite.

    Returns:
        One for each row; exact where all differences are whole numbers, else of `FLIPS` random flips.
    """
    import numpy as np

    if not differences.size:
        return [1.0] * len(differences)
    if np.array_equal(differences, np.rint(differences)) and abs(differences).max() <= _LARGEST:
        return [_exact(row) for row in differences.astype(np.int64)]
    return _random(differences)


def _exact(row: NDArray[np.int64]) -> float:
    import numpy as np

    # One size occurs for all in most rows; without their common divisor there are fewer sums.
    divisor = int(np.gcd.reduce(row)) or 1
    sizes = np.bincount(abs(row) // divisor)
    return _tail(tuple(sizes[1:].tolist()), abs(int(row.sum())) // divisor)


@lru_cache(maxsize=65536)
def _tail(counts: Sequence[int], observed: int) -> float:
    """Probability that |sum| is at least `observed`, with `counts[v - 1]` differences of size v."""
    import numpy as np

    chances = np.ones(1)
    for size, count in enumerate(counts, start=1):
        spaced = np.zeros(2 * size * count + 1)
        spaced[:: 2 * size] = _binomial(count)
        chances = np.convolve(chances, spaced)
    middle = len(chances) // 2
    sums = abs(np.arange(len(chances)) - middle)
    return min(1.0, float(chances[sums >= observed].sum()))


@lru_cache(maxsize=4096)
def _binomial(count: int) -> NDArray[np.float64]:
    import numpy as np
    from scipy.stats import binom

    chances: NDArray[np.float64] = binom.pmf(np.arange(count + 1), count, 0.5)
    return np.atleast_1d(chances) if count else np.ones(1)


def _random(differences: NDArray[np.float64]) -> list[float]:
    import numpy as np

    flipped = abs(differences @ _signs(differences.shape[1]))
    observed = abs(differences.sum(axis=1, keepdims=True)) * (1 - _ROUNDING)
    extreme = (flipped >= observed).sum(axis=1)
    shares = (extreme + 1) / (FLIPS + 1)
    # A single prompt flips to its mirror image: nothing can be shown.
    telling = (differences != 0).sum(axis=1) > 1
    return [float(p) for p in np.where(telling, shares, 1.0)]


@lru_cache(maxsize=4)
def _signs(prompts: int) -> NDArray[np.float64]:
    """[prompts, FLIPS], the same ones every time, so that a table can be made again."""
    import numpy as np

    flips = np.random.default_rng(0).integers(0, 2, size=(prompts, FLIPS))
    return flips.astype(np.float64) * 2 - 1
