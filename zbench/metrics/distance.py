"""How far a picture moved from the original's picture of the same prompt and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zbench.detectors.base import batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_BATCH = 64


def pixel_distance(pictures: Tensor, originals: Tensor) -> NDArray[np.float64]:
    """Mean absolute difference over pixels and channels, from 0 (equal) to 1 (black against white).

    Args:
        pictures: uint8 [N, 3, H, W].
        originals: uint8 [N, 3, H, W], picture for picture of the same prompts and seeds.

    Returns:
        float64 [N].

    Raises:
        ValueError: The shapes differ.
    """
    import numpy as np

    if pictures.shape != originals.shape:
        raise ValueError(f"pictures {list(pictures.shape)} and originals {list(originals.shape)} do not pair")
    parts = [
        (a.float() - b.float()).abs().mean(dim=(1, 2, 3)).double().cpu().numpy() / 255
        for a, b in zip(batches(pictures, _BATCH), batches(originals, _BATCH), strict=True)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def feature_distance(features: Tensor, originals: Tensor) -> NDArray[np.float64]:
    """Cosine distance (1 - cosine) of image features, float64 [N]; 0 for equal pictures.

    Args:
        features: [N, D].
        originals: [N, D], of the same prompts and seeds.

    Raises:
        ValueError: The shapes differ.
    """
    import torch

    if features.shape != originals.shape:
        raise ValueError(f"features {list(features.shape)} and originals {list(originals.shape)} do not pair")
    cosine = torch.nn.functional.cosine_similarity(features.double(), originals.double(), dim=1)
    result: NDArray[np.float64] = (1 - cosine).clamp(min=0).cpu().numpy()
    return result
