"""Training the two world detectors: drawn pictures, a share of them through the VAE, with noise and blur."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from zbench.detectors.networks import NETWORKS
from zbench.miniature.dataset import World
from zbench.miniature.train.loop import Fit, optimizers, settle_batch_norm
from zbench.miniature.train.vae import to_signed
from zbench.miniature.vocabulary import CLASSES

BATCH = 96
STEPS = {"convolutional": 3000, "residual": 3000}


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Noise, brightness and contrast on all, blur on a third: flaws that generated pictures may have."""
    number = len(pictures)
    grain = torch.randn(pictures.shape, generator=generator)
    noise = grain * torch.rand(number, 1, 1, 1, generator=generator) * 0.15
    gain = 1 + 0.15 * (torch.rand(number, 1, 1, 1, generator=generator) * 2 - 1)
    lift = 0.1 * (torch.rand(number, 1, 1, 1, generator=generator) * 2 - 1)
    changed = pictures * gain + lift + noise
    blurred = functional.avg_pool2d(changed, 3, 1, 1, count_include_pad=False)
    chosen = torch.rand(number, 1, 1, 1, generator=generator) < 0.33
    return torch.where(chosen, blurred, changed)


def train_detector(
    kind: str, world: World, rebuilt: NDArray[np.uint8], folder: Path, seed: int, steps: int | None = None
) -> nn.Module:
    """Train one detector.

    Args:
        kind: A key of `NETWORKS`.
        world: Drawn training pictures and their truth.
        rebuilt: The first len(rebuilt) pictures of `world` through the VAE; a third of each batch.
        folder: For the checkpoint.
        seed: Initial weights and batches.
        steps: Batches of 96.
    """
    torch.manual_seed(seed)
    network = NETWORKS[kind](CLASSES)
    truth = torch.from_numpy(world.truth).float()

    def loss(step: int) -> Tensor:
        draw = np.random.default_rng((seed, step))
        drawn = draw.integers(0, len(world.pictures), BATCH * 2 // 3)
        through = draw.integers(0, len(rebuilt), BATCH // 3)
        pictures = torch.cat([to_signed(world.pictures[drawn]), to_signed(rebuilt[through])])
        wanted = torch.cat([truth[drawn], truth[through]])
        logits = network(augment(pictures, torch.Generator().manual_seed(seed * 10**6 + step)))
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / (3 * BATCH)

    steps = steps or STEPS[kind]
    rates = optimizers([network], 3e-3, muon=False)
    Fit(f"detector-{kind}", folder, {"network": network}, rates, loss, steps, average=0.98).run()
    batches = (to_signed(world.pictures[start : start + 256]) for start in range(0, 4096, 256))
    return settle_batch_norm(network, batches, network)


def detector_header(kind: str) -> dict[str, str]:
    """Safetensors metadata that lets anyone rebuild the network: architecture, families and classes."""
    classes = [name for names in CLASSES.values() for name in names]
    return {
        "architecture": kind,
        "families": json.dumps(CLASSES),
        "classes": json.dumps(classes),
        "version": "2",
    }
