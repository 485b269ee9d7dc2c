"""Collapse of single pictures, seen without a reference picture.

A broken generator draws nothing detectable and would win every erasure benchmark. Five signals of a picture
are compared with what the unerased model's pictures of the same run look like:

- `contrast`: spread of luminance; low for constant, black or washed-out pictures,
- `clipped`: share of colour values at the ends of their range; high for over-saturated ("fried") pictures,
- `chroma`: mean distance between a pixel's largest and smallest colour value; high for fried pictures,
- `flatness`: spectral flatness of luminance; high for noise,
- `fine`: share of spectral energy in the upper half of the frequencies; high for noise and checkerboards.

Thresholds come from the original's pictures. Each signal may flag at most its share of `FALSE_FLAGS` of them,
and a margin beyond the most extreme allowed picture keeps unerased-like pictures that were not in the
calibration unflagged. A picture without any contrast is flagged whatever the calibration says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zbench.detectors.base import batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

FALSE_FLAGS = 0.01
MARGIN = 0.25
"""Share of the distance between the median and the most extreme allowed picture, added beyond it."""

CONSTANT = 1.5 / 255
"""Largest standard deviation over a picture, channel by channel, at which it counts as constant."""

_LOW, _HIGH = ("contrast",), ("clipped", "chroma", "flatness", "fine")
_BATCH = 64
_LUMINANCE = (0.299, 0.587, 0.114)


def signals(pictures: Tensor) -> dict[str, NDArray[np.float64]]:
    """The signals of each picture.

    Args:
        pictures: uint8 [N, 3, H, W].

    Returns:
        Name to float64 [N]: `contrast`, `clipped`, `chroma`, `flatness`, `fine`, and `spread` (the largest
        standard deviation of a channel, for the constant rule).
    """
    import numpy as np

    names = (*_LOW, *_HIGH, "spread")
    parts = [_batch_signals(batch) for batch in batches(pictures, _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0) for name in names}


def _batch_signals(pictures: Tensor) -> dict[str, NDArray[np.float64]]:
    import torch

    values = pictures.cpu().double() / 255
    luminance = torch.einsum("nchw,c->nhw", values, torch.tensor(_LUMINANCE, dtype=torch.float64))
    flatness, fine = _spectrum(luminance)
    measured = {
        "contrast": luminance.std(dim=(1, 2), correction=0),
        "clipped": ((pictures <= 2) | (pictures >= 253)).double().mean(dim=(1, 2, 3)),
        "chroma": (values.amax(dim=1) - values.amin(dim=1)).mean(dim=(1, 2)),
        "flatness": flatness,
        "fine": fine,
        "spread": values.std(dim=(2, 3), correction=0).amax(dim=1),
    }
    return {name: tensor.cpu().numpy() for name, tensor in measured.items()}


def _spectrum(luminance: Tensor) -> tuple[Tensor, Tensor]:
    """Spectral flatness and share of energy above half the Nyquist frequency, [N] each, without the mean.

    A picture without energy has neither: both are 0 there, and the constant rule speaks.
    """
    import torch

    count, height, width = luminance.shape
    power = torch.fft.fft2(luminance - luminance.mean(dim=(1, 2), keepdim=True)).abs().square()
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None].abs()
    columns = torch.fft.fftfreq(width, dtype=torch.float64)[None, :].abs()
    upper = torch.maximum(rows, columns) > 0.25
    bins = power.reshape(count, -1)[:, 1:]
    total = bins.sum(dim=1)
    seen = total > 1e-9 * height * width
    safe = torch.where(seen, total, torch.ones_like(total))
    # A floor far below anything 8-bit pictures can show keeps exact zeros of drawn pictures from being
    # -infinity.
    floor = 1e-9 * safe[:, None] / bins.shape[1]
    flatness = torch.exp(torch.log(torch.maximum(bins, floor)).mean(dim=1)) / (safe / bins.shape[1])
    fine = (power * upper).sum(dim=(1, 2)) / safe
    zero = torch.zeros_like(total)
    return torch.where(seen, flatness, zero), torch.where(seen, fine, zero)


@dataclass(frozen=True)
class CollapseThresholds:
    """Bounds of the signals.

    Attributes:
        low: Name to the value below which a picture is flagged.
        high: Name to the value above which a picture is flagged.
        calibrated_on: Number of the original's pictures.
    """

    low: dict[str, float]
    high: dict[str, float]
    calibrated_on: int

    @classmethod
    def calibrate(
        cls, original: dict[str, NDArray[np.float64]], false_flags: float = FALSE_FLAGS
    ) -> CollapseThresholds:
        """Bounds from the signals of the original's pictures.

        Args:
            original: From `signals`.
            false_flags: Largest share of them that the calibrated signals may flag together.

        Raises:
            ValueError: No pictures.
        """
        import numpy as np

        count = len(original["contrast"])
        if count == 0:
            raise ValueError("collapse thresholds need at least one picture of the original")
        allowed = math.floor(false_flags * count / (len(_LOW) + len(_HIGH)))
        # Contrast has its lower bound at zero: distances are measured on a logarithmic scale there.
        low = {
            name: math.exp(-_bound(-np.log(np.maximum(original[name], CONSTANT)), allowed)) for name in _LOW
        }
        high = {name: _bound(original[name], allowed) for name in _HIGH}
        return cls(low, high, count)

    def flags(self, measured: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.bool_]]:
        """Which signal flags which picture: name to bool [N], with the rule `constant` beside the signals."""
        flagged = {name: measured[name] < bound for name, bound in self.low.items()}
        flagged |= {name: measured[name] > bound for name, bound in self.high.items()}
        return flagged | {"constant": measured["spread"] < CONSTANT}

    def collapsed(self, measured: dict[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Pictures that any signal flags, bool [N]."""
        import numpy as np

        flagged: NDArray[np.bool_] = np.logical_or.reduce(list(self.flags(measured).values()))
        return flagged

    def describe(self) -> dict[str, Any]:
        """What a record says about the thresholds."""
        return {
            "low": {name: round(bound, 6) for name, bound in self.low.items()},
            "high": {name: round(bound, 6) for name, bound in self.high.items()},
            "calibrated_on": self.calibrated_on,
            "false_flags": FALSE_FLAGS,
            "margin": MARGIN,
        }


def _bound(values: NDArray[np.float64], allowed: int) -> float:
    """The (allowed + 1)-th largest value, and a margin beyond it."""
    import numpy as np

    extreme = float(np.sort(values)[-1 - allowed])
    return extreme + MARGIN * (extreme - float(np.median(values)))
