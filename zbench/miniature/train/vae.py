"""The miniature's VAE: a small stock `AutoencoderKL`, factor 4, eight latent channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zbench.miniature.dataset import World
from zbench.miniature.train.loop import Fit, optimizers

BATCH = 32
STEPS = 1400


def new_vae() -> AutoencoderKL:
    """An untrained VAE of the miniature's shape."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def to_signed(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in -1 .. 1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def reconstruction_loss(picture: Tensor, rebuilt: Tensor) -> Tensor:
    """L1 + L2 on pixels and L1 on their differences, which keeps thin lines."""
    pairs = zip(_edges(rebuilt), _edges(picture), strict=True)
    across, down = (functional.l1_loss(a, b) for a, b in pairs)
    pixels = functional.l1_loss(rebuilt, picture) + functional.mse_loss(rebuilt, picture)
    return pixels + 0.5 * (across + down)


def train_vae(world: World, folder: Path, steps: int = STEPS) -> AutoencoderKL:
    """Train the VAE and set its scaling so that latents have mean 0 and deviation 1.

    Args:
        world: Drawn training pictures.
        folder: For the checkpoint and the finished VAE.
        steps: Batches of 32.
    """
    torch.manual_seed(0)
    vae = new_vae().to(memory_format=torch.channels_last)

    def loss(step: int) -> Tensor:
        chosen = np.random.default_rng(step).integers(0, len(world.pictures), BATCH)
        picture = to_signed(world.pictures[chosen]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(picture).latent_dist
            rebuilt = vae.decode(posterior.sample()).sample.float()
        divergence: Tensor = 1e-4 * posterior.kl().mean() / (8 * 256)
        return reconstruction_loss(picture, rebuilt) + divergence

    Fit("vae", folder, {"vae": vae}, optimizers([vae], 2.5e-3, muon=False), loss, steps, average=0.99).run()
    vae.eval()
    latents = torch.cat(list(encode_all(vae, world, limit=4000)))
    vae.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))
    vae.save_pretrained(folder / "vae")
    return vae


@torch.no_grad()
def encode_all(vae: AutoencoderKL, world: World, limit: int | None = None) -> Iterator[Tensor]:
    """Mean latents of the world's pictures, unscaled, in batches: float32 [B, 8, 16, 16]."""
    total = len(world.pictures) if limit is None else min(limit, len(world.pictures))
    for start in range(0, total, 256):
        picture = to_signed(world.pictures[start : min(start + 256, total)])
        with torch.autocast("cpu", torch.bfloat16):
            yield vae.encode(picture).latent_dist.mean.float()


@torch.no_grad()
def peak_signal_to_noise(vae: AutoencoderKL, world: World, number: int = 512) -> float:
    """Mean PSNR in dB of reconstructions of held-out pictures."""
    picture = to_signed(world.pictures[:number])
    parts = torch.split(picture, 64)
    rebuilt = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in parts])
    error = ((rebuilt.clamp(-1, 1) - picture) / 2).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, scaled: Tensor) -> NDArray[np.uint8]:
    """Scaled latents [N, 8, 16, 16] to uint8 pictures [N, 64, 64, 3]."""
    parts = []
    for batch in (scaled / vae.config.scaling_factor + vae.config.shift_factor).split(128):
        with torch.autocast("cpu", torch.bfloat16):
            picture = vae.decode(batch).sample.float()
        parts.append(((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)
