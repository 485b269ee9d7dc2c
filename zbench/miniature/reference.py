"""Drawn pictures as a reference set: what a perfect generator would make of the unrelated prompts."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from zbench.errors import UnknownNameError
from zbench.miniature.catalogue import unrelated_scenes
from zbench.miniature.drawing import draw_scene

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("evaluation", "tuning")


def drawn(name: str, count: int) -> Tensor:
    """Reference pictures for FID and KID (entry point ``world`` of ``zbench.references``).

    Args:
        name: ``evaluation`` or ``tuning``.
        count: How many.

    Returns:
        uint8 [count, 3, 64, 64]; picture k depends on name and k alone.

    Raises:
        UnknownNameError: If there is no such split.
    """
    import numpy as np
    import torch

    if name not in SPLITS:
        raise UnknownNameError.of("split of the picture world", name, SPLITS)
    rng = random.Random(f"reference-{name}")
    pictures = [draw_scene(scene, rng) for scene in islice(unrelated_scenes(rng), count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
