"""Flow matching on the frozen model's own samples, and batches put together for one call."""

from __future__ import annotations

import torch

from zbench.training.losses import add_noise
from zbench.training.trajectories import Draw, TrajectoryBank, noise_like


def flow_points(bank: TrajectoryBank, generator: torch.Generator, batch: int) -> Draw:
    """Samples of the frozen model, noised anew to levels of its sampler.

    Args:
        bank: Whose finished latents y_0 are noised.
        generator: The only source of randomness.
        batch: Number of points.

    Returns:
        y_t = (1 - sigma) y_0 + sigma e, and as `velocities` what flow matching asks for there, e - y_0.
    """
    draw = bank.draw(generator, batch)
    clean = bank.clean()[draw.entries]
    noise = noise_like(clean, generator)
    noised = add_noise(clean, noise, draw.timesteps)
    return Draw(noised, draw.timesteps, draw.entries, draw.steps, noise - clean, draw.embeddings)


def joined(first: Draw, second: Draw) -> Draw:
    """Two draws below each other, for one call; entries and steps still belong to their own banks."""
    return Draw(
        latents=torch.cat([first.latents, second.latents]),
        timesteps=torch.cat([first.timesteps, second.timesteps]),
        entries=torch.cat([first.entries, second.entries]),
        steps=torch.cat([first.steps, second.steps]),
        velocities=torch.cat([first.velocities, second.velocities]),
        embeddings=first.embeddings + second.embeddings,
    )
